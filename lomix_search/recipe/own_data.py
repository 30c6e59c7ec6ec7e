"""Somebody's own images and masks: which belong together, and what all of them together are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import track

from lomix_search.data.folders.found import FoundData
from lomix_search.data.folders.reading import read_own
from lomix_search.data.folders.recognise import data_of_pairs
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.known import coloured_coding, named_coding
from lomix_search.data.masks.pairing import Pair, pair_up
from lomix_search.data.readers.label import names_in
from lomix_search.data.readers.unread import NOT_READ, files_below, kinds_there, what_to_do
from lomix_search.errors import DataError, list_faults, nearest
from lomix_search.recipe.choices import Choices
from lomix_search.recipe.file_tally import FileTally, IntensityRule
from lomix_search.utils.terminal import Terminal

_Made = TypeVar("_Made")
_SHOWN = 20  # faults in one message
_PAIR = "put the file that is missing beside the others, or take this one away; then the same command again"
_NAMED = "rename that segment in one of the files, in 3D Slicer's Segment Editor; then the same command again"
_FEW = 5  # the same, where all are of one kind


@dataclass(frozen=True)
class Look:
    """What was seen in somebody's files.

    Args:
        found: The files, and what they say of themselves.
        coding: How the masks are read, decided by all of them.
        sizes: Smallest and largest rows and columns of the slices.
        size: Median of the larger side of the slices.
        scaling: How the images are scaled, decided by all of them.
        channels: How many channels each image has.
        shapes: Slices, channels, rows and columns of each image.
        spacings: Of each volume that says them: millimetres between slices, rows and columns.
        numbers: Label value of each region that DICOM files name.
        flat: The error about single slices among volumes, where there are any.
        inside: Percentiles of what is labelled in each volume, in the order of the pairs; empty of pictures.
    """

    found: FoundData
    coding: Coding
    sizes: tuple[tuple[int, int], tuple[int, int]]
    size: int
    scaling: IntensityRule
    channels: int
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    numbers: Mapping[str, int]
    flat: DataError | None = None
    inside: tuple[tuple[float, float], ...] = ()

    @property
    def pairs(self) -> Mapping[str, Pair]:
        """(images, mask) by case name."""
        return self.found.pairs

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values beside the background, ascending."""
        return tuple(self.coding.names)

    @property
    def volumes(self) -> bool:
        """Whether they are volumes rather than pictures."""
        return self.scaling.depth == "volumes"

    def lines(self, names: Mapping[int, str], scaled: str = "") -> list[str]:
        """Say what was seen.

        Args:
            names: Of the label values.
            scaled: How intensities are scaled, in words; as 2D slices are when left out.

        Returns:
            Three lines: the images, the masks, and how many masks have each class.
        """
        (low, high), kind = self.sizes, "volumes" if self.volumes else f"pictures of {self.scaling.depth}"
        size = " × ".join(map(str, low)) if low == high else f"{low[0]} × {low[1]} to {high[0]} × {high[1]}"
        having = (f"{value} {name} in {self.coding.masks[value]}" for value, name in names.items())
        return [
            f"{len(self.pairs)} {kind}, {size} pixels; {scaled or self.scaling.words}",
            f"masks: {self.coding.said}",
            f"of {len(self.pairs)} masks: {', '.join(having)}",
        ]


def look_at(images: Path, masks: Path, progress: bool = False, *, binary: bool = False, named: int = 0) -> Look:
    """Look at a folder of images and one of masks; see :func:`look_at_data`.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        progress: Show a progress bar.
        binary: Take all label values above the lowest as one foreground.
        named: How many classes the user has named.

    Returns:
        What was seen.

    Raises:
        DataError: as :func:`look_at_data`.
    """
    names = tuple(f"class {number}" for number in range(named))
    return look_at_data(find_own(images, masks), Choices(binary=binary, classes=names), progress)


def find_own(images: Path, masks: Path) -> FoundData:
    """Pair a folder of images with one of masks.

    Args:
        images: Folder of images.
        masks: Folder of masks.

    Returns:
        What is in them.

    Raises:
        DataError: no such folder, or nothing that pairs up.
    """
    pairs = pair_up(images, masks)
    if not pairs.pairs:
        pairs.check()
    found = data_of_pairs(pairs, images, "folders")
    return replace(found, faults=tuple(_told(pairs.check))) if pairs.faults else found


def look_at_data(found: FoundData, choices: Choices, progress: bool = False) -> Look:
    """Look at somebody's data, one case at a time.

    Args:
        found: The files.
        choices: What the user has chosen.
        progress: Show a progress bar.

    Returns:
        What was seen.

    Raises:
        DataError: files do not pair up, cannot be read, or hold what cannot be meant; all faults are listed.
    """
    if not found.pairs:
        raise _no_pairs(found)
    tally = FileTally(ignore=_ignored(found, choices))
    faults = [DataError(fault, hint="" if "\n" in fault else _PAIR) for fault in found.faults]
    found, numbers = _names(found, choices, faults)
    for name, pair in track(found.pairs.items(), "look", console=Terminal(stderr=True), disable=not progress):
        tried(lambda name=name, pair=pair: tally.add(pair[0][0], read_own(name, pair, numbers)), faults)  # type: ignore[misc]
    if not tally.seen:
        raise all_of(faults, len(found.pairs))
    coding = tried(lambda: _coding(found, tally, choices).coloured_as(tally.seen), faults)
    scaling = tried(lambda: tally.scaling(found.modalities, choices.intensity), faults)
    channels = tried(tally.check_channels, faults) if scaling is not None else None
    if coding is None or scaling is None or channels is None or faults:
        raise all_of(faults, len(found.pairs))
    median = int(np.median([max(shape[2:]) for shape in tally.shapes.values()]))
    flat: list[DataError] = []
    tried(tally.check_slices, flat)
    return Look(
        found, coding, tally.sides(), median, scaling, channels, tuple(tally.shapes.values()), tuple(tally.spacings),
        numbers, flat[0] if flat and scaling.depth == "volumes" else None, tuple(tally.inside),
    )  # fmt: skip


def _no_pairs(found: FoundData) -> DataError:
    """Return the error about a folder of which nothing can be learned, with what it holds instead."""
    there, where = files_below(found.root), "lomix new FOLDER --images IMAGES --masks MASKS   # where they are"
    told = [fault for fault in found.faults if NOT_READ not in fault]  # the kinds of those are told anyway
    more = [f"and {len(told) - _FEW} more"] if len(told) > _FEW else []
    return DataError(
        f"{found.root}: no pair of an image and a mask ({found.form}).",
        seen=[*kinds_there(there, found.root), *told[:_FEW], *more],
        hint=[where, *what_to_do(there)],
    )


def _names(found: FoundData, choices: Choices, faults: list[DataError]) -> tuple[FoundData, dict[str, int]]:
    """Take the names that labels have in their own files, and number those of DICOM files, which have names alone."""
    named = {mask: names for _, mask in found.pairs.values() if (names := tried(lambda m=mask: names_in(m), faults))}  # type: ignore[misc]
    if found.labels or not named:
        return found, {}
    if any(not str(path).lower().endswith(".nrrd") for path in named):
        known = list(dict.fromkeys(name for names in named.values() for name in names.values()))
        if unknown := [name for name in choices.classes if name not in known]:
            faults.append(DataError(f"--classes: no label has a region {unknown[0]!r}. {nearest(unknown[0], known)}"))
        numbers = {name: number for number, name in enumerate(choices.classes or known, 1)}
        return replace(found, labels={n: name for name, n in numbers.items()}, said="the DICOM files"), numbers
    labels: dict[int, str] = {}
    for path, names in named.items():
        for value, name in names.items():
            if (other := labels.setdefault(value, name)) != name:
                faults.append(
                    DataError(f"{path}: label {value} is {name!r}, and {other!r} in other files.", hint=_NAMED)
                )
    return replace(found, labels=dict(sorted(labels.items())), said="the segments' names"), {}


def _coding(found: FoundData, tally: FileTally, choices: Choices) -> Coding:
    ignore = _ignored(found, choices)
    if choices.ignore is not None and not any(ignore in one.grains or one.kind == "colour" for one in tally.seen):
        raise DataError(f"--ignore {ignore}: no mask has this value.", hint="leave it out, or look at the masks")
    if choices.colors:
        return coloured_coding(tally.seen, choices.colors)
    if found.labels and not choices.binary:
        labels = {value: name for value, name in found.labels.items() if value != ignore}
        return named_coding(tally.seen, labels, ignore, found.said)
    coding = decide(tally.seen, united=choices.binary, named=len(choices.classes), ignore=ignore)
    if not coding.names:
        raise DataError(
            f"{found.root}: all masks are empty.", hint="masks hold class numbers, or 255 for the foreground"
        )
    return coding


def _ignored(found: FoundData, choices: Choices) -> int | None:
    return found.ignore if choices.ignore is None else choices.ignore


def _told(check: Callable[[], object]) -> list[str]:
    """Return what a check says, as one fault."""
    faults: list[DataError] = []
    tried(check, faults)
    return [str(fault) for fault in faults]


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
    faults = list({str(fault): fault for fault in faults}.values())  # a file that was read twice has one fault
    if len(faults) == 1:
        return faults[0]
    seen, hints = list_faults((str(fault) for fault in faults), _SHOWN)
    again = "mend these files, or put them out of the folders, and run the same command again"
    return DataError(
        f"lomix new: {len(faults)} faults in {count} pairs; nothing was written.", seen=seen, hint=[again, *hints]
    )
