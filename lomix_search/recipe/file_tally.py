"""What ``lomix new`` sees in somebody's images and masks, one pair after another, and how their images are scaled."""

import filecmp
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lomix_search.data.masks.grains import grains
from lomix_search.data.masks.mask_file import MaskSummary, open_mask
from lomix_search.data.masks.pairing import is_volume
from lomix_search.data.masks.picture_pair import check_sizes
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.readers.picture_file import read_intensities
from lomix_search.errors import DataError

_AIR = -500  # HU; the lowest value of a CT lies below it


@dataclass(frozen=True)
class Scaling:
    """How the intensities of images become 0 … 1.

    Args:
        intensity: The way.
        depth: Type of the pictures' numbers, in words; ``volumes`` for NIfTI.
        window: Of ``ct``: the 0.5 and 99.5 percentiles of what is labelled. Of ``range``: the lowest and the highest
            value of all pictures. None for the others.
    """

    intensity: Literal["ct", "mr", "picture", "range"]
    depth: str
    window: tuple[float, float] | None = None

    @property
    def words(self) -> str:
        """The same in words."""
        low, high = self.window or (0, 255)
        return {
            "ct": f"{low:.0f} … {high:.0f} HU become 0 … 1",
            "mr": "the 0.5 to 99.5 percentiles of each become 0 … 1",
            "picture": "0 … 255 become 0 … 1",
            "range": f"{low:g} … {high:g}, the range of all of them, become 0 … 1",
        }[self.intensity]


@dataclass
class FileTally:
    """What was seen in somebody's files so far, one pair after another.

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
        """Look at a pair.

        Args:
            name: Of the case.
            image: Its image.
            mask: Its mask.

        Raises:
            DataError: a file cannot be read, or the two do not fit each other.
        """
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

    def scaling(self) -> Scaling:
        """Decide how all images are scaled.

        Returns:
            The one way for all of them.

        Raises:
            DataError: they are of several kinds, or every pixel of every picture is the same.
        """
        depth = self._one_depth()
        if depth == "volumes":
            return self._scaling_of_volumes()
        return Scaling("picture", depth) if depth == "8 bit" else Scaling("range", depth, self._span(depth))

    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the smallest and the largest rows and columns."""
        rows, columns = zip(*self.sizes, strict=True)
        return (min(rows), min(columns)), (max(rows), max(columns))

    def _scaling_of_volumes(self) -> Scaling:
        """Take volumes that reach far below 0 as CTs, with the window of what is labelled; all others as MR."""
        if float(np.median(self.lows)) >= _AIR or np.isnan(self.inside).all():  # empty masks are a fault elsewhere
            return Scaling("mr", "volumes")
        low, high = np.nanmedian(self.inside, 0)
        return Scaling("ct", "volumes", (float(low), float(high)))

    def _one_depth(self) -> str:
        """Return the type that all images have."""
        if len(self.depths) > 1:
            raise DataError(
                f"images of {len(self.depths)} kinds; those of one data set must be of one kind.",
                seen=[f"{len(paths)} of {depth}, first {paths[0]}" for depth, paths in self.depths.items()],
                hint="save all of them in one form, or make a recipe of each",
            )
        return next(iter(self.depths))

    def _span(self, depth: str) -> tuple[float, float]:
        """Return the lowest and highest intensity of all pictures; 0 … 1 for floats within that."""
        low, high = min(a for a, _ in self.ends), max(b for _, b in self.ends)
        if "floats" in depth and 0 <= low < high <= 1:
            return 0.0, 1.0
        if low == high:
            raise DataError(f"every pixel of every picture is {low:g}.", hint="give the folder of images")
        return low, high
