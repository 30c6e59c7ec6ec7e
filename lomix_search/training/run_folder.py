"""A run folder: one run at a time, and plain words where it cannot be written."""

import errno
import os
import re
import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lomix_search.errors import RunError
from lomix_search.utils.distributed import is_main, on_main

_UNFINISHED = re.compile(
    r"\..+\.([a-z0-9_]{8}\.part|(pt|json|jsonl|toml|safetensors|npz|csv|txt|png|html|md)\.[a-z0-9_]{8})"
)
_OWNER = re.compile(rb"(process [^\n]*\n?)?")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELD: dict[tuple[Path, int], int | None] = {}  # folder and thread → the descriptor that holds its lock


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, by a lock on ``folder/lock`` that the kernel lifts however this process ends.

    In a distributed run, process 0 holds the lock. A thread that holds it may enter again.

    Args:
        folder: The run folder; made when missing.

    Yields:
        Nothing; the file is gone afterwards.

    Raises:
        RunError: another process or thread holds the folder (the message names it), or the folder cannot be written.
    """
    key = (folder.resolve(), threading.get_ident())
    if key in _HELD:
        yield
        return
    handle = on_main(lambda: _take(folder))
    _HELD[key] = handle if is_main() else None
    try:
        yield
    finally:
        _release(folder, _HELD.pop(key))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in plain words that a file could not be written: disk full, folder read-only.

    Args:
        path: The file.

    Yields:
        Nothing.

    Raises:
        RunError: instead of the OSError.
    """
    try:
        yield
    except OSError as cause:
        why = cause.strerror or str(cause)
        if cause.errno in _FULL:
            hint = "free some space, then the same command with --resume; what was written before is whole"
        else:
            hint = "another folder: --folder runs/another"
        named = (
            cause.filename if isinstance(cause.filename, str) else path
        )  # of several files that are written, the one that failed
        seen = f"{named} is a file, and no folder" if Path(named).is_file() and Path(named) == path else _disk(path)
        raise RunError(f"{named} cannot be written: {why}.", seen=seen, hint=hint) from None


def sweep(folder: Path, age: float = 0.0) -> None:
    """Remove files that a killed process had begun to write.

    Args:
        folder: The folder; the folders in it are swept too. An age of 0 is only for who holds the folder.
        age: Seconds since a file was last written to, below which it stays.
    """
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        with suppress(OSError):  # gone meanwhile, or a disk that can only be read
            if _UNFINISHED.fullmatch(path.name) and path.is_file() and path.stat().st_mtime <= time.time() - age:
                path.unlink()


def _take(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None  # no flock
    import fcntl

    path = folder / "lock"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with writing(path):
            handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, handle) from None
        except OSError as cause:  # a file system without locks: go on without
            if cause.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            break
        os.close(handle)  # whoever held it removed the file meanwhile
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return handle


def _open(path: Path) -> int:
    """Open the lock, and nothing else: a folder of other people may hold a link under its name."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as cause:
        if cause.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EMLINK):
            raise
        raise _no_lock(path) from None
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and _OWNER.fullmatch(os.pread(handle, 400, 0)):
        return handle
    os.close(handle)
    raise _no_lock(path)


def _no_lock(path: Path) -> RunError:
    return RunError(
        f"{path} is not the lock of a run: it is a link, no plain file, or holds something else.",
        seen="it was left as it is",
        hint=f"rename {path}, or take another folder: --folder runs/another",
    )


def _taken(folder: Path, handle: int) -> RunError:
    owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "it is just starting"
    os.close(handle)
    return RunError(
        f"{folder} is in use: another process runs in it.",
        seen=owner,
        hint="wait until it ends, or take another folder: --folder runs/another",
    )


def _release(folder: Path, handle: int | None) -> None:
    if handle is not None:
        (folder / "lock").unlink(missing_ok=True)  # before the lock is lifted: nobody else can have it now
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()  # a run that failed before it wrote anything leaves no trace


def _disk(path: Path) -> str:
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
    free, total = shutil.disk_usage(there).free, shutil.disk_usage(there).total
    return f"{free / 2**20:,.1f} MiB free of {total / 2**20:,.1f} MiB on its disk"


def _let_go() -> None:
    """Give up inherited locks in a forked child: a data worker may outlive its parent, the lock must not."""
    for handle in _HELD.values():
        if handle is not None:
            os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
