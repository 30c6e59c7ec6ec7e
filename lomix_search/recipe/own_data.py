"""What ``lomix new`` sees in somebody's images and masks, and what it makes of all of them together."""

import filecmp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import track

from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.grains import grains
from lomix_search.data.masks.mask_file import MaskSummary, open_mask
from lomix_search.data.masks.pairing import find_pairs as find_pairs
from lomix_search.data.masks.pairing import is_volume, pair_up
from lomix_search.data.masks.picture_pair import check_sizes
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.readers.picture_file import read_intensities
from lomix_search.errors import DataError

Intensity = Literal["ct", "mr", "picture", "range"]
_SHOWN = 20  # faults in one message


@dataclass(frozen=True)
class Look:
    """What was seen in somebody's files.

    Args:
        pairs: (image, mask) by case name.
        volumes: NIfTI rather than pictures.
        coding: How the masks are read, decided by all of them.
        sizes: Smallest and largest rows and columns of the slices.
        size: Median of the larger side of the slices.
        intensity: How to scale.
        depth: Type of the pictures' numbers, in words.
        window: Of a CT: the 0.5 and 99.5 percentiles of what is labelled; of ``range``: the lowest and highest value of
            all pictures.
        channels: Of the images.
    """

    pairs: Mapping[str, tuple[Path, Path]]
    volumes: bool
    coding: Coding
    sizes: tuple[tuple[int, int], tuple[int, int]]
    size: int
    intensity: Intensity
    depth: str
    window: tuple[float, float] | None
    channels: int

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values beside the background, ascending."""
        return tuple(self.coding.names)

    def lines(self, names: Mapping[int, str]) -> list[str]:
        """Say what was seen.

        Args:
            names: Of the label values.

        Returns:
            Some lines.
        """
        (low, high), kind = self.sizes, "volumes" if self.volumes else f"pictures of {self.depth}"
        size = " × ".join(map(str, low)) if low == high else f"{low[0]} × {low[1]} to {high[0]} × {high[1]}"
        having = (f"{value} {name} in {self.coding.masks[value]}" for value, name in names.items())
        return [
            f"{len(self.pairs)} {kind}, {size} pixels; {self._scaling()}",
            f"masks: {self.coding.said}",
            f"of {len(self.pairs)} masks: {', '.join(having)}",
        ]

    def _scaling(self) -> str:
        low, high = self.window or (0, 255)
        return {
            "ct": f"{low:.0f} … {high:.0f} HU become 0 … 1",
            "mr": "the 0.5 to 99.5 percentiles of each become 0 … 1",
            "picture": "0 … 255 become 0 … 1",
            "range": f"{low:g} … {high:g}, the range of all of them, become 0 … 1",
        }[self.intensity]


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
        DataError: files that do not pair up, cannot be read, or hold what cannot be meant; all faults are listed.
    """
    found = pair_up(images, masks)
    if not found.pairs:
        found.check()
    tally, faults = _Tally(), [_without(found.check)] if found.faults else []
    for name, (image, mask) in track(found.pairs.items(), "look", disable=not progress):
        try:
            tally.add(name, image, mask)
        except DataError as error:
            faults.append(error)
    return _decided(found.pairs, tally, faults, masks, binary, named)


@dataclass
class _Tally:
    """What was seen so far.

    Args:
        seen: In the masks.
        sizes: Rows and columns.
        lows: Lowest intensity of each volume.
        inside: Percentiles of what is labelled in each volume.
        depths: Pictures by the type of their numbers.
        ends: Lowest and highest intensity of each picture.
    """

    seen: list[MaskSummary] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    inside: list[Any] = field(default_factory=list)
    depths: dict[str, list[Path]] = field(default_factory=dict)
    ends: list[tuple[float, float]] = field(default_factory=list)

    def add(self, name: str, image: Path, mask: Path) -> None:
        """Look at a pair."""
        if is_volume(image):
            case = read_nifti_pair(name, image, mask)
            values, label, depth = case.image, case.label, "volumes"
            seen = MaskSummary(mask, "number", grains(label), {})
            self.lows.append(float(values.min()))
            inside = values[:, 0][label > 0]
            self.inside.append(np.percentile(inside, (0.5, 99.5)) if inside.size else (np.nan, np.nan))
        else:
            values, depth = read_intensities(image)
            opened = open_mask(mask)
            check_sizes(image, values.shape[1:], mask, opened.values.shape)
            seen = opened.look()
            self.ends.append((float(values.min()), float(values.max())))
        if filecmp.cmp(image, mask, shallow=False):
            raise DataError(f"{image} and {mask} have the same content.", hint="give the masks' own folder")
        self.seen.append(seen)
        self.sizes.append((int(values.shape[-2]), int(values.shape[-1])))
        self.depths.setdefault(depth, []).append(image)

    def one_depth(self) -> str:
        """Return the type that all images have."""
        if len(self.depths) > 1:
            raise DataError(
                f"images of {len(self.depths)} kinds; those of one data set must be of one kind.",
                seen=[f"{len(paths)} of {depth}, first {paths[0]}" for depth, paths in self.depths.items()],
                hint="save all of them in one form, or make a recipe of each",
            )
        return next(iter(self.depths))

    def span(self) -> tuple[float, float]:
        """Return the lowest and highest intensity of all pictures; 0 … 1 for floats that are within it."""
        low, high = min(a for a, _ in self.ends), max(b for _, b in self.ends)
        if "floats" in self.one_depth() and 0 <= low < high <= 1:
            return 0.0, 1.0
        if low == high:
            raise DataError(f"every pixel of every picture is {low:g}.", hint="give the folder of images")
        return low, high


def _decided(
    pairs: Mapping[str, tuple[Path, Path]],
    tally: _Tally,
    faults: list[DataError],
    masks: Path,
    binary: bool,
    named: int,
) -> Look:
    """Decide by all that was seen, or raise all faults."""
    if not tally.seen:
        raise all_of(faults, len(pairs))
    coding, depth = Coding("number", {}, {}, None, {}, ""), ""
    try:
        coding = decide(tally.seen, united=binary, named=named)
        if not coding.names:
            faults.append(
                DataError(f"{masks}: all masks are empty.", hint="masks hold class numbers, or 255 for the foreground")
            )
    except DataError as error:
        faults.append(error)
    try:
        depth = tally.one_depth()
        window = None if depth in ("volumes", "8 bit") else tally.span()
    except DataError as error:
        faults.append(error)
    if faults:
        raise all_of(faults, len(pairs))
    volumes, sizes = depth == "volumes", sorted(tally.sizes)
    intensity: Intensity = "mr" if volumes else "picture" if window is None else "range"
    if volumes and float(np.median(tally.lows)) < -500:
        low, high = np.nanmedian(tally.inside, 0)
        intensity, window = "ct", (float(low), float(high))
    median = int(np.median([max(s) for s in sizes]))
    ends = (min(r for r, _ in sizes), min(c for _, c in sizes)), (max(r for r, _ in sizes), max(c for _, c in sizes))
    return Look(pairs, volumes, coding, ends, median, intensity, depth, window, 3 if intensity == "picture" else 1)


def _without(check: Any) -> DataError:
    """Return the error that a check raises."""
    try:
        check()
    except DataError as error:
        return error
    raise AssertionError("the check was to fail")


def all_of(faults: Sequence[DataError], count: int) -> DataError:
    """Return one error of all faults."""
    if len(faults) == 1:
        return faults[0]
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return DataError(
        f"lomix new: {len(faults)} faults in {count} pairs; nothing was written.",
        seen=[*(str(fault) for fault in faults[:_SHOWN]), *more],
        hint="mend these files, or put them out of the folders, and run the same command again",
    )
