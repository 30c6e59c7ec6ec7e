"""What ``lomix new`` sees in somebody's images and masks, one pair after another, and how their images are scaled."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lomix_search.data.case import size_in_words
from lomix_search.data.folders.reading import OwnCase
from lomix_search.data.masks.mask_file import MaskSummary
from lomix_search.data.readers.values import NOT_FINITE
from lomix_search.data.survey import is_ct
from lomix_search.errors import DataError

_AIR = -500  # HU; the lowest value of a CT lies below it
_BELOW = -10  # the lowest value of a volume that is neither surely a CT nor surely none lies below it

Intensity = Literal["ct", "mr", "picture", "range"]


@dataclass(frozen=True)
class IntensityRule:
    """How the intensities of images become 0 … 1.

    Args:
        intensity: The way.
        depth: Type of the pictures' numbers, in words; ``volumes`` for volumes.
        window: Of ``ct``: the 0.5 and 99.5 percentiles of what is labelled. Of ``range``: the lowest and the highest
            value of all pictures. None for the others.
        why: What it was judged by.
        sure: Whether that leaves no doubt.
    """

    intensity: Intensity
    depth: str
    window: tuple[float, float] | None = None
    why: str = ""
    sure: bool = True

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
        shapes: Slices, channels, rows and columns of each image, by its first file.
        spacings: Millimetres between slices, rows and columns of each volume that says them.
        lows: Lowest intensity of each volume.
        inside: Percentiles of what is labelled in each volume.
        depths: Pictures by the type of their numbers.
        ends: Lowest and highest intensity of each image.
        modalities: What DICOM files say of themselves.
        ignore: Label value that counts nowhere.
    """

    seen: list[MaskSummary] = field(default_factory=list)
    shapes: dict[Path, tuple[int, ...]] = field(default_factory=dict)
    spacings: list[tuple[float, ...]] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    inside: list[Any] = field(default_factory=list)
    depths: dict[str, list[Path]] = field(default_factory=dict)
    ends: list[tuple[float, float]] = field(default_factory=list)
    modalities: set[str] = field(default_factory=set)
    ignore: int | None = None

    def add(self, path: Path, case: OwnCase) -> None:
        """Look at a case.

        Args:
            path: The first file of its image.
            case: As it was read.

        Raises:
            DataError: it has NaN or infinite intensities.
        """
        values = case.image.image
        if not np.isfinite(values).all():  # nothing can be judged by them, neither here nor later
            first = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(f"{path}: NaN or infinite intensities.", seen=f"first in slice {first}", hint=NOT_FINITE)
        self.seen.append(case.look())
        self.ends.append((float(values.min()), float(values.max())))
        if case.label is not None:
            self.lows.append(float(values.min()))
            inside = values[:, 0][(case.label > 0) & (case.label != (self.ignore or 0))]
            self.inside.append(np.percentile(inside, (0.5, 99.5)) if inside.size else (np.nan, np.nan))
            self.modalities |= {str(case.image.origin[key]) for key in ("modality",) if key in case.image.origin}
        if case.image.spacing:
            self.spacings.append(case.image.spacing)
        self.shapes[path] = values.shape
        self.depths.setdefault(case.image.depth, []).append(path)

    def check_channels(self) -> int:
        """Return how many channels all images have.

        Returns:
            The number.

        Raises:
            DataError: images with others; they are named.
        """
        found = Counter(shape[1] for shape in self.shapes.values())
        usual = found.most_common(1)[0][0]
        if odd := [(path, shape[1]) for path, shape in self.shapes.items() if shape[1] != usual]:
            more = [f"and {len(odd) - 8} more"] if len(odd) > 8 else []
            raise DataError(
                f"{odd[0][0]}: {odd[0][1]} channel{'s' * (odd[0][1] > 1)}; {found[usual]} of {len(self.shapes)} images "
                f"have {usual}.",
                seen=[*(f"{path}: {number}" for path, number in odd[:8]), *more],
                hint="all images of a data set have the same channels: move these away, or make a recipe of each kind",
            )
        return usual

    def check_slices(self) -> None:
        """Check that there is no single slice among volumes.

        Raises:
            DataError: there is; the files are named.
        """
        flat = [path for path, shape in self.shapes.items() if min(shape[0], *shape[2:]) < 2]
        if flat:
            raise DataError(
                f"{flat[0]}: a single slice among volumes; {len(flat)} of {len(self.shapes)} images are 2D.",
                seen=[f"{path}: {size_in_words(self.shapes[path])}" for path in flat[:8]],
                hint="move them away, or train on slices: lomix new … --dims 2",
            )

    def scaling(self, named: Sequence[str] = (), wanted: str = "") -> IntensityRule:
        """Decide how all images are scaled.

        Args:
            named: Names of the channels, where they are known.
            wanted: The intensity that the user asks for; decided when empty.

        Returns:
            The one way for all of them.

        Raises:
            DataError: they are of several kinds, or every pixel of every picture is the same.
        """
        depth = self._one_depth()
        kind, why, sure = self._kind(depth, named)
        if wanted and wanted != kind:
            kind, why, sure = self._wanted(wanted, depth), "--modality", True
        if kind == "ct":
            return IntensityRule("ct", depth, self._inside(), why, sure)
        return IntensityRule(kind, depth, self._span(depth) if kind == "range" else None, why, sure)

    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the smallest and the largest rows and columns."""
        rows, columns = zip(*(shape[2:] for shape in self.shapes.values()), strict=True)
        return (min(rows), min(columns)), (max(rows), max(columns))

    def _kind(self, depth: str, named: Sequence[str]) -> tuple[Intensity, str, bool]:
        """Return the way, what it was judged by, and whether that leaves no doubt.

        Volumes that reach far below 0 are CTs, with the window of what is labelled; all others are MR.
        """
        if depth != "volumes":
            return ("picture" if depth == "8 bit" else "range"), f"pictures of {depth}", True
        names = list(named or self.modalities)
        if names and not np.isnan(self.inside).all():
            all_ct = all(map(is_ct, names))
            return ("ct" if all_ct else "mr"), "what the files call the channels", True
        low = float(np.median(self.lows))
        if low >= _AIR or np.isnan(self.inside).all():  # empty masks are a fault elsewhere
            return "mr", f"the lowest values are {low:g}, where a CT has air below {_AIR}", low >= _BELOW
        return "ct", f"the lowest values are {low:g}, below {_AIR} as only CTs have them", True

    def _wanted(self, wanted: str, depth: str) -> Intensity:
        volumes: tuple[Intensity, ...] = ("ct", "mr")
        fits = volumes if depth == "volumes" else ("picture",) if depth == "8 bit" else ("range",)
        if wanted not in fits:
            raise DataError(
                f"--modality {wanted} does not go with {depth}.",
                hint=f"--modality {' or '.join(fits)}, or leave it out",
            )
        return next(one for one in fits if one == wanted)

    def _inside(self) -> tuple[float, float]:
        low, high = np.nanmedian(self.inside, 0)
        return float(low), float(high)

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
        return low, high
