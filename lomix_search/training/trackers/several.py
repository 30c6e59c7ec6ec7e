"""Several trackers as one: whatever fails in one of them is said, and the training goes on."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lomix_search.errors import MissingExtraError
from lomix_search.training.trackers.tracker import Tracker, Values

_PATIENCE = 3  # failures in a row


def opened(makers: Mapping[str, Callable[[], Tracker]]) -> list[Tracker]:
    """Start trackers; one that cannot start is left out with a warning.

    Args:
        makers: A function for each that starts it, by its name.

    Returns:
        Those that started.

    Raises:
        MissingExtraError: one is not installed. This is better said before the training than after it.
    """
    started = []
    for name, make in makers.items():
        try:
            started.append(make())
        except MissingExtraError:
            raise
        except Exception as error:  # no network, no login: the training is worth more
            warnings.warn(f"tracker {name} could not start and is left out: {error!r}", stacklevel=2)
    return started


class Trackers:
    """Several trackers as one. A failure is warned of; after three in a row the tracker is dropped.

    Args:
        trackers: The trackers; the order is kept.
    """

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)
        self._failures: dict[int, int] = {}  # in a row, by the tracker's id

    def log(self, step: int, values: Values) -> None:
        """Pass values on to each tracker."""
        self._each("log", step, values)

    def files(self, paths: Sequence[Path]) -> None:
        """Pass files on to each tracker."""
        self._each("files", paths)

    def close(self) -> None:
        """Close each tracker."""
        self._each("close")

    def __enter__(self) -> Self:
        """Return the trackers; they are closed on leaving, also after an error."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close each tracker."""
        self.close()

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # whatever a tracking service throws must not cost a training
                self._failed(tracker, method, error)
            else:
                self._failures.pop(id(tracker), None)

    def _failed(self, tracker: Tracker, method: str, error: Exception) -> None:
        count = self._failures[id(tracker)] = self._failures.get(id(tracker), 0) + 1
        if count >= _PATIENCE:
            self._trackers.remove(tracker)
        what = "is dropped" if count >= _PATIENCE else f"is tried again ({count} of {_PATIENCE} failures in a row)"
        name = getattr(tracker, "name", type(tracker).__name__)
        warnings.warn(f"tracker {name} failed in {method} and {what}: {error!r}", stacklevel=4)
