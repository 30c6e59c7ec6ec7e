"""A real PostgreSQL server for a test: in a folder of its own, on a Unix socket, gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest


def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, None where they are not installed."""
    found = [Path(path).parent for name in ("initdb",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


@dataclass
class Server:
    """A running server.

    Args:
        url: The address of its database.
        stop: Stops it, as an administrator does.
        start: Starts it again with what it held.
    """

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def server() -> Iterator[str]:
    """Start a server, yield the address of its database, stop it."""
    with restartable() as running:
        yield running.url


@contextmanager
def restartable() -> Iterator[Server]:
    """Start a server that a test may stop and start again; gone afterwards."""
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path holds 107 bytes
    processes: list[subprocess.Popen[bytes]] = []
    try:
        user = _owner(home)
        data = home / "data"
        _run(
            [folder / "initdb", "-D", data, "-U", "lomix", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"],
            user,
        )
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={home}", "-c", "fsync=off"]

        def start() -> None:
            with (home / "log").open("a") as log:
                command = [str(part) for part in (folder / "postgres", "-D", data, *settings)]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, **_as(user), cwd=home))
            _wait(folder, home, processes[-1])

        def stop() -> None:
            process = processes.pop()
            process.send_signal(signal.SIGINT)  # "fast": clients are cut off
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        try:
            start()
            yield Server(f"postgresql+psycopg://lomix@/postgres?host={home}", stop, start)
        finally:
            while processes:
                stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _owner(home: Path) -> int | None:
    """Give the folder to a user that may run a server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(home, user.pw_uid, user.pw_gid)
        return user.pw_uid
    pytest.skip("the tests run as root, and there is neither a user postgres nor nobody to run PostgreSQL")


def _as(user: int | None) -> dict[str, object]:
    return {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}


def _run(command: list[object], user: int | None) -> None:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd="/tmp", **_as(user)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _wait(folder: Path, home: Path, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while True:
        assert process.poll() is None, (home / "log").read_text()
        try:
            psycopg.connect(f"host={home} user=lomix dbname=postgres", connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < until, (home / "log").read_text()
            time.sleep(0.1)
