"""The check that users run on a tracker of their own."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from lomix_search.errors import LomixError
from lomix_search.training.trackers.tracker import Tracker, Values

_T = TypeVar("_T")

_NUMBERS: Values = {
    "train/loss": 0.5,
    "val/dice": math.nan,
    "train/lr": 1,
    "mixture/weights": [0.25, math.nan],
    "mixture/warning": "the weights shrink without selecting",
}


class TrackerFault(LomixError, AssertionError):
    """A tracker does not take what a search gives it."""


def check_tracker(start: Callable[[Path], Tracker], folder: Path) -> None:
    """Check that a tracker takes all that a search gives it: call it in a test of your own.

    A run is played twice, as if the second start resumed the first: numbers, texts, vectors and values that are not
    finite, steps without some of them, a finished JSON file, and the end.

    Args:
        start: Starts the tracker in a run folder.
        folder: An empty folder.

    Raises:
        TrackerFault: what failed, and when.
    """
    mixture = folder / "mixture.json"
    mixture.write_text(json.dumps({"format": "lomix-mixture", "maps": []}), encoding="utf-8")
    for steps in ((1, 2), (2, 3)):
        _play(_tried("start", lambda: start(folder)), steps, mixture)
    if not mixture.is_file():
        raise TrackerFault("the tracker took a file of the run away.", seen=mixture.name, hint="copy it")


def _play(tracker: Tracker, steps: tuple[int, ...], mixture: Path) -> None:
    """Give a tracker what a search gives it from one start to its end."""
    for step in steps:
        for values in (_NUMBERS, {"val/dice": 0.5}):
            _tried(f"log(step={step}, …)", partial(tracker.log, step, values))
    _tried("files", partial(tracker.files, [mixture]))
    _tried("close", tracker.close)


def _tried(what: str, act: Callable[[], _T]) -> _T:
    try:
        return act()
    except Exception as cause:
        raise TrackerFault(f"{what} fails with {type(cause).__name__}.", seen=str(cause)) from cause
