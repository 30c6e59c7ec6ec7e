"""What a tracker is: an object with three methods, which takes the numbers of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

Values = Mapping[str, float | int | str | Sequence[float]]


class Tracker(Protocol):
    """Takes the numbers of a run."""

    def log(self, step: int, values: Values) -> None:
        """Record values of one step; steps never fall."""

    def files(self, paths: Sequence[Path]) -> None:
        """Record finished files (mixture, pictures) of the run."""

    def close(self) -> None:
        """Write out what is pending."""


def flattened(values: Values, maps: Sequence[str] = ()) -> dict[str, float | str]:
    """Spread vectors over one entry a component.

    Args:
        values: As logged.
        maps: Ids of the maps; components of vectors of that length are named by them, others by number.

    Returns:
        Scalars and texts by name, e.g. ``mixture/weights/add(1,3)``.
    """
    flat: dict[str, float | str] = {}
    for key, value in values.items():
        if isinstance(value, str | float | int):
            flat[key] = value
        else:
            names = maps if len(maps) == len(value) else range(len(value))
            flat |= {f"{key}/{name}": part for name, part in zip(names, value, strict=True)}
    return flat
