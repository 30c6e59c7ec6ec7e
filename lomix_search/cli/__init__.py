"""The command line: what ``lomix --help`` lists, in the order of these files."""

# ruff: isort: skip_file

import errno
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from lomix_search.cli import threads  # noqa: F401 — before torch is imported
from lomix_search.cli.common import app as app
from lomix_search.cli import runs, predictions, reports as folders, studies, audits, recipes as shelf, network, nnunet  # noqa: F401 — each adds its commands, in this order
from lomix_search.errors import LomixError
from lomix_search.utils.launched import launched_rank
from lomix_search.utils.terminal import Terminal, plain, wrapped


class Terminated(SystemExit):
    """SIGTERM outside a training loop, which has its own way to stop."""


def main() -> NoReturn:
    """Run the command line.

    Errors of the library, and files that cannot be read or written, print as text and end with exit code 2. From here
    on SIGTERM ends with exit code 0, and what was begun goes on with --resume.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except LomixError as error:
        if not getattr(error, "told", False):  # of several processes, the one it happened in says it
            _tell(type(error).__name__, str(error))
        sys.exit(2)
    except OSError as error:
        if not isinstance(error.filename, str | bytes) or error.strerror is None:  # no fault of a file: let it be seen
            raise
        path = os.fsdecode(error.filename)
        _tell(type(error).__name__, f"{path}: {error.strerror}.\n  Try:  {_look_at(Path(path), error.errno)}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Terminated:
        print("\nStopped by SIGTERM. To go on: the same command, with --resume where a run had begun", flush=True)
        sys.exit(0)
    sys.exit(0)


def _tell(kind: str, text: str) -> None:
    """Print an error: in a terminal its words go on in the next line, in a log lines stay whole, to be searched."""
    who = f"process {launched_rank()}: " if launched_rank() > 0 else ""
    terminal = Terminal(stderr=True)
    terminal.print(plain(who, (kind, "red"), ": "), end="")
    begun = len(f"{who}{kind}: ")
    print(wrapped(text, terminal.width, begun) if terminal.is_terminal else text, file=sys.stderr)


def _look_at(path: Path, number: int | None) -> str:
    """Return a command that shows why a file cannot be read or written, for the number of an error."""
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), Path())
    if number == errno.ENOSPC:
        return f"df -h {shlex.quote(str(there))}"
    return f"ls -ld {shlex.quote(str(there))}"


def _terminate(*_: object) -> NoReturn:
    raise Terminated(0)
