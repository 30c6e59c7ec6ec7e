"""What a person sees and does while a run goes on: a progress bar, Ctrl-C."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_AGAIN = 1.0  # seconds: signals closer to the first are the same one, sent twice


class Stop:
    """Turns SIGINT and SIGTERM into a request to stop after the step; another Ctrl-C, a second later, acts at once.

    torchrun passes signals on, and its processes may have got the same one from a terminal or a scheduler already: a
    repeated signal must not cost the checkpoint. Two may be nested, as around a study and around each of its searches.
    The inner one then starts with what the outer one was asked, and passes on what it is asked itself.

    Args:
        *signals: Those to listen to; both by default.
    """

    def __init__(self, *signals: int) -> None:
        self.asked: int | None = None
        self._signals = signals or (signal.SIGINT, signal.SIGTERM)
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._around: Stop | None = None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                before = self._before[number] = signal.signal(number, self._ask)
                around = getattr(before, "__self__", None)
                if isinstance(around, Stop):
                    self._around, self.asked = around, around.asked
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked is None:
            self.asked, self._since = number, time.monotonic()
            if self._around is not None:
                self._around.asked = number
        elif number == signal.SIGINT and time.monotonic() - self._since > _AGAIN:
            raise KeyboardInterrupt

    def leave(self, folder: Path, step: int, say: bool = True) -> None:
        """End the run after its checkpoint is written.

        Args:
            folder: The run folder.
            step: Where it stands.
            say: Print how to go on.

        Raises:
            KeyboardInterrupt: after Ctrl-C; SIGTERM ends the process with exit code 0.
        """
        if say:
            print(
                f"\nStopped at step {step}; checkpoint in {folder}. To go on: the same command with --resume",
                flush=True,
            )
        if self.asked == signal.SIGTERM:
            sys.exit(0)
        raise KeyboardInterrupt


class Bar:
    """Show progress with the time left; without a terminal, print a line now and then.

    Args:
        wanted: Show anything at all.
        total: Steps in all.
        done: Steps taken before.
    """

    def __init__(self, wanted: bool, total: int, done: int) -> None:
        columns = (TextColumn("search"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[note]}"), disable=not wanted)
        self._task = self._progress.add_task("search", total=total, completed=done, note="")
        self._total, self._plain = total, wanted and not self._progress.console.is_terminal

    def __enter__(self) -> Callable[[int, str], None]:
        if not self._plain:
            self._progress.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        if not self._plain:
            self._progress.stop()

    def _advance(self, step: int, note: str) -> None:
        self._progress.update(self._task, completed=step, note=note)
        if self._plain and step % max(1, self._total // 10) == 0:
            print(f"step {step}/{self._total}  {note}", flush=True)
