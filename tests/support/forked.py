"""Forks of this process, for tests whose limits, signals and crashes must not reach the other tests.

``in_child`` runs a function and returns the error that it ended with; ``lomix_in_child`` runs a command,
``program_in_child`` whatever prints and ends as a program does.
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from lomix_search.cli import main, searches  # noqa: F401 — what its commands import, once for all forks
from lomix_search.errors import RunError

_KEPT: list[DistributedDataParallel] = []


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def two_processes(act: Callable[..., None], *given: object) -> None:
    """Run ``act(rank, port, *given)`` in two forks, which need not import everything anew; raise what either raised."""
    torch.multiprocessing.start_processes(_keeping, (act, free_port(), *given), nprocs=2, start_method="fork")


def _keeping(rank: int, act: Callable[..., None], *given: object) -> None:
    """Run in a fork, and let each wrapper of DDP live until it ends.

    The last one takes the process group with it, whose end waits for its threads; one of these may wait for Python's
    lock, which is held meanwhile (torch 2.13).
    """
    plain = DistributedDataParallel.__init__

    def kept(wrapper: DistributedDataParallel, *args: object, **more: object) -> None:
        plain(wrapper, *args, **more)  # type: ignore[arg-type]
        _KEPT.append(wrapper)

    DistributedDataParallel.__init__ = kept  # type: ignore[method-assign]
    act(rank, *given)


def in_child(act: Callable[[], None]) -> str:
    """Run a function in a forked child; return the RunError it ended with, or how else it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "no error"
        try:
            act()
        except RunError as error:
            text = str(error)
        except BaseException as error:
            text = f"not a RunError: {error!r}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def lomix_in_child(said: Path, *arguments: str, first: Callable[[], None]) -> tuple[int, str]:
    """Run a command of ``lomix`` in a forked child.

    Args:
        said: The file that takes what it prints.
        *arguments: As a user types them.
        first: What the child does before, such as to put a trap.

    Returns:
        Its exit code and what it printed.
    """

    def act() -> None:
        sys.argv = ["lomix", *arguments]
        first()
        main()

    return program_in_child(said, act)


def program_in_child(said: Path, act: Callable[[], None]) -> tuple[int, str]:
    """Run a program in a forked child.

    Args:
        said: The file that takes what it prints.
        act: The program.

    Returns:
        Its exit code and what it printed.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with said.open("wb", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            act()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.read_text()
