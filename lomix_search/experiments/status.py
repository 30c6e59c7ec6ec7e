"""What became of a run: ``status.json`` in its folder, kept true by the run itself."""

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from lomix_search.errors import RunError
from lomix_search.training.run_folder import writing
from lomix_search.utils.distributed import is_main
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.schema import Frozen, build_typed

RunState = Literal["running", "finished", "stopped", "failed"]


class Status(Frozen):
    """What became of a run.

    Args:
        state: ``running`` until it ends; ``stopped`` by Ctrl-C or SIGTERM, ``failed`` by an error.
        pid: Its process.
        born: When that process was started, in clock ticks since the machine's own start; None where that is not
            known. A later process of the same number is another one.
        host: The machine it runs on; the file stays in the run folder.
        started: When the last start was, ISO 8601 in UTC.
        ended: When it ended.
        reason: First line of the error that ended it.
        peak_memory_mib: Most memory that the process held; on a GPU, that its tensors held there.
        weights: sha256 of the trained weights, by network (``final``, ``best``).
    """

    state: RunState
    pid: int
    born: int | None = None
    host: str = ""
    started: str
    ended: str | None = None
    reason: str = ""
    peak_memory_mib: float | None = None
    weights: dict[str, str] = Field(default_factory=dict)

    @property
    def now(self) -> RunState:
        """The state as it is: a run whose process is gone without a word was stopped.

        Earlier versions wrote ``born`` as 0 where it was not known.
        """
        if self.state != "running" or self.host != platform.node():
            return self.state
        return "running" if _born(self.pid) == (self.born or None) and _alive(self.pid) else "stopped"


@dataclass
class Left:
    """What a run tells its status before it ends.

    Args:
        weights: sha256 of the trained weights, by network.
    """

    weights: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[Left]:
    """Keep ``status.json`` true while a run goes on in a folder.

    Args:
        folder: The run folder.

    Yields:
        Where to put what is known before the end.
    """
    left = Left()
    if not is_main():
        yield left
        return
    pid = os.getpid()
    running = Status(state="running", pid=pid, born=_born(pid), host=platform.node(), started=_now())
    _write(folder, running)
    try:
        yield left
    except BaseException as error:
        with contextlib.suppress(RunError):  # a full disk must not hide what ended the run
            _end(folder, running, *_why(error))
        raise
    _end(folder, running, "finished", weights=left.weights)


def _why(error: BaseException) -> tuple[RunState, str]:
    """Say what an error that ends a run makes of it: asked to stop, or failed."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "Ctrl-C"
    if isinstance(error, SystemExit) and error.code in (None, 0):  # as the handlers of SIGTERM end a process
        return "stopped", "SIGTERM"
    if type(error).__name__ == "TrialPruned":  # Optuna's, which need not be installed
        return "stopped", f"pruned {error}".strip()
    return "failed", f"{type(error).__name__}: {error}".splitlines()[0]


def read_status(folder: Path) -> Status | None:
    """Read what became of a run.

    Args:
        folder: The run folder.

    Returns:
        Its status; None where it left none, as runs of earlier versions did.

    Raises:
        RunError: the file is malformed.
    """
    path = folder / "status.json"
    return build_typed(Status, read_json(path, RunError), str(path), RunError) if path.exists() else None


def _end(
    folder: Path, running: Status, state: RunState, reason: str = "", weights: dict[str, str] | None = None
) -> None:
    ended = {"state": state, "ended": _now(), "reason": reason, "weights": weights or {}, "peak_memory_mib": _peak()}
    _write(folder, running.model_copy(update=ended))


def _write(folder: Path, status: Status) -> None:
    with writing(folder / "status.json"):
        write_text(folder / "status.json", status.model_dump_json(indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's, and alive
        return True
    return True


def _born(pid: int) -> int | None:
    """Return the start time that Linux notes for a process, None where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _peak() -> float | None:
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / 1024 / (1024 if platform.system() == "Darwin" else 1), 1)
