"""Somebody's own images and masks: which belong together, and what all of them together are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import track

from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.pairing import pair_up
from lomix_search.errors import DataError
from lomix_search.recipe.file_tally import FileTally, Scaling

_Made = TypeVar("_Made")
_SHOWN = 20  # faults in one message


@dataclass(frozen=True)
class Look:
    """What was seen in somebody's files.

    Args:
        pairs: (image, mask) by case name.
        coding: How the masks are read, decided by all of them.
        sizes: Smallest and largest rows and columns of the slices.
        size: Median of the larger side of the slices.
        scaling: How the images are scaled, decided by all of them.
    """

    pairs: Mapping[str, tuple[Path, Path]]
    coding: Coding
    sizes: tuple[tuple[int, int], tuple[int, int]]
    size: int
    scaling: Scaling

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values beside the background, ascending."""
        return tuple(self.coding.names)

    @property
    def volumes(self) -> bool:
        """Whether they are NIfTI rather than pictures."""
        return self.scaling.depth == "volumes"

    @property
    def channels(self) -> int:
        """How many channels each image has."""
        return 3 if self.scaling.intensity == "picture" else 1

    def lines(self, names: Mapping[int, str]) -> list[str]:
        """Say what was seen.

        Args:
            names: Of the label values.

        Returns:
            Three lines: the images, the masks, and how many masks have each class.
        """
        (low, high), kind = self.sizes, "volumes" if self.volumes else f"pictures of {self.scaling.depth}"
        size = " × ".join(map(str, low)) if low == high else f"{low[0]} × {low[1]} to {high[0]} × {high[1]}"
        having = (f"{value} {name} in {self.coding.masks[value]}" for value, name in names.items())
        return [
            f"{len(self.pairs)} {kind}, {size} pixels; {self.scaling.words}",
            f"masks: {self.coding.said}",
            f"of {len(self.pairs)} masks: {', '.join(having)}",
        ]


def look_at(images: Path, masks: Path, progress: bool = False, *, binary: bool = False, named: int = 0) -> Look:
    """Look at images and masks, one pair at a time.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        progress: Show a progress bar.
        binary: Take all label values above the lowest as one foreground.
        named: How many classes the user has named.

    Returns:
        What was seen.

    Raises:
        DataError: files do not pair up, cannot be read, or hold what cannot be meant; all faults are listed.
    """
    found = pair_up(images, masks)
    if not found.pairs:
        found.check()
    tally, faults = FileTally(), list[DataError]()
    tried(found.check, faults)
    for name, (image, mask) in track(found.pairs.items(), "look", disable=not progress):
        tried(lambda name=name, image=image, mask=mask: tally.add(name, image, mask), faults)  # type: ignore[misc]
    if not tally.seen:
        raise all_of(faults, len(found.pairs))
    coding = tried(lambda: _coding(tally, masks, binary, named), faults)
    scaling = tried(tally.scaling, faults)
    if coding is None or scaling is None or faults:
        raise all_of(faults, len(found.pairs))
    median = int(np.median([max(size) for size in tally.sizes]))
    return Look(found.pairs, coding, tally.sides(), median, scaling)


def _coding(tally: FileTally, masks: Path, binary: bool, named: int) -> Coding:
    coding = decide(tally.seen, united=binary, named=named)
    if not coding.names:
        raise DataError(f"{masks}: all masks are empty.", hint="masks hold class numbers, or 255 for the foreground")
    return coding


def tried(make: Callable[[], _Made], faults: list[DataError]) -> _Made | None:
    """Call a function whose fault is told later, together with others.

    Args:
        make: The function.
        faults: Its fault is added to these.

    Returns:
        What it returns; None where it raised a fault.
    """
    try:
        return make()
    except DataError as error:
        faults.append(error)
        return None


def all_of(faults: Sequence[DataError], count: int) -> DataError:
    """Return one error that lists all faults.

    Args:
        faults: At least one.
        count: How many pairs of files there are.

    Returns:
        The error; the fault itself where there is one.
    """
    if len(faults) == 1:
        return faults[0]
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return DataError(
        f"lomix new: {len(faults)} faults in {count} pairs; nothing was written.",
        seen=[*(str(fault) for fault in faults[:_SHOWN]), *more],
        hint="mend these files, or put them out of the folders, and run the same command again",
    )
