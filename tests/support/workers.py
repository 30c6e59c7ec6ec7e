"""``Worker(*arguments)``: a command of ``lomix`` as a child that is stopped, killed and waited for as a ``Popen``.

With one thread it is a fork, which saves the seconds that imports take. ``communicate`` returns what it printed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo  # noqa: F401 — every optimizer imports it: here once, not in each fork

from lomix_search.cli import main
from support.places import ROOT


class Worker:
    """A running command.

    Args:
        *arguments: As a user types them after ``lomix``.
        threads: Threads of PyTorch in it.
    """

    def __init__(self, *arguments: str, threads: int = 1) -> None:
        self.returncode: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        handle, name = tempfile.mkstemp()
        self._said = Path(name)
        if threads > 1:  # the threads of OpenMP, which other tests may have started here, do not survive a fork
            self._process = _start(handle, arguments, threads)
            self.pid = self._process.pid
        else:
            self.pid = os.fork()
            if self.pid == 0:
                os._exit(_run(handle, arguments))
        os.close(handle)

    def poll(self) -> int | None:
        """Return how it ended, None while it runs: its exit code, or minus the signal that ended it."""
        if self._process is not None:
            self.returncode = self._process.poll()
        elif self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired("lomix", timeout)
            time.sleep(0.02)
        return code

    def communicate(self, timeout: float = 120) -> str:
        """Wait for its end and return what it printed."""
        self.wait(timeout)
        said = self._said.read_text(errors="replace")
        self._said.unlink()
        return said


def _start(said: int, arguments: tuple[str, ...], threads: int) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen([sys.executable, "-m", "lomix_search", *arguments], stdout=said, stderr=said, env=own)


def _run(said: int, arguments: tuple[str, ...]) -> int:
    """Run the command in the child; return its exit code."""
    code: object = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (1, 2):
            os.dup2(said, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        torch.set_num_threads(1)
        sys.argv = ["lomix", *arguments]
        main()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        print(repr(error))
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)
