"""What a single mask holds: numbers, a palette's indices or colours."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.masks.grains import Grain, StoredValue, grains, ranked
from lomix_search.data.readers.picture_file import Stored, read_stored
from lomix_search.errors import DataError

MaskKind = Literal["number", "palette", "colour"]
ReadAs = Literal["number", "grey", "red", "green", "blue", "colour"]
_SHIFT: dict[ReadAs, int] = {"red": 16, "green": 8, "blue": 0, "grey": 0}
BLACK_WHITE: Mapping[StoredValue, int] = {0: 0x000000, 1: 0xFFFFFF}
"""How programs show the two values of a picture of 1 bit."""

_CHROMA = 48  # largest difference between channels that the noise of a grey JPEG explains


@dataclass(frozen=True)
class MaskSummary:
    """What was seen in one mask.

    Args:
        path: Its file.
        kind: Whether it holds numbers, indices of a palette, or colours.
        grains: By value.
        colours: 0xRRGGBB of each value of a palette or colour mask.
        lossy: Compressed as JPEG.
        swapped: A palette whose index 0 is not black though black is in it.
        one_bit: A picture of 1 bit, whose value 1 is shown white.
    """

    path: Path
    kind: MaskKind
    grains: Mapping[StoredValue, Grain]
    colours: Mapping[StoredValue, int]
    lossy: bool = False
    swapped: bool = False
    one_bit: bool = False


@dataclass(frozen=True)
class MaskFile:
    """What a mask's file holds.

    Args:
        path: The file.
        kind: Whether it holds numbers, indices of a palette, or colours.
        values: (rows, columns) of numbers, of indices, or of 0xRRGGBB.
        colours: 0xRRGGBB of each value of a palette or colour mask.
        lossy: Compressed as JPEG.
        swapped: A palette whose index 0 is not black though black is in it.
        one_bit: A picture of 1 bit, whose value 1 is shown white.
    """

    path: Path
    kind: MaskKind
    values: Array
    colours: Mapping[StoredValue, int]
    lossy: bool = False
    swapped: bool = False
    one_bit: bool = False

    def keys(self, how: ReadAs) -> Array:
        """Return what counts at each pixel when it is read in one way."""
        if how == "number" or not self.colours:
            return self.values
        found, places = ranked(self.values)
        return np.array([key_of(value, self.colours, how) for value in found])[places]

    def look(self) -> MaskSummary:
        """Look at its values and how they lie."""
        ordered = not self.colours or channel(self.colours.values()) != "colour"
        found = grains(self.values, ordered)
        return MaskSummary(self.path, self.kind, found, self.colours, self.lossy, self.swapped, self.one_bit)


def open_mask(path: Path) -> MaskFile:
    """Read what a mask holds.

    Args:
        path: A picture.

    Returns:
        Its values as they are stored.

    Raises:
        DataError: it cannot be read, or is no mask; the message names the file.
    """
    stored = read_stored(path)
    if stored.kind == "converted":
        raise DataError(f"{path}: a mask in CMYK or the like; a mask holds numbers or RGB.", hint="save it as PNG")
    kind, values = _values(stored)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"{path}: NaN or infinite label values.",
            hint="save whole numbers: numpy.nan_to_num makes 0, the background, of these",
        )
    if stored.negative and len(np.unique(values)) > 2:
        raise DataError(
            f"{path}: white is 0 in this TIFF; what class numbers mean then is not known.",
            hint="save it as PNG, or as a TIFF in which black is 0",
        )
    if kind != "palette" and stored.alpha is not None and stored.alpha.min() < stored.alpha.max():
        kind, values = _with_alpha(path, kind, values, stored.alpha)
    swapped = kind == "palette" and _swapped(values, stored.palette)
    one_bit = values is stored.values and stored.kind == "grey" and stored.full == 1
    return MaskFile(path, kind, values, _colours(kind, values, stored), stored.lossy, swapped, one_bit)


def _values(stored: Stored) -> tuple[MaskKind, Array]:
    """Return numbers, indices, or colours as 0xRRGGBB."""
    if stored.kind != "colour":
        return ("number" if stored.kind == "grey" else "palette"), stored.values
    if stored.lossy and np.ptp(stored.values.astype(int), axis=-1).max(initial=0) <= _CHROMA:
        return "number", np.rint(stored.values.mean(-1)).astype(np.uint8)  # a grey JPEG in three channels
    red, green, blue = (stored.values[..., i].astype(np.int32) for i in range(3))
    return "colour", (red << 16) | (green << 8) | blue


def _with_alpha(path: Path, kind: MaskKind, values: Array, alpha: Array) -> tuple[MaskKind, Array]:
    """Return where the mask is: in the colours, or in the transparency if the colours say nothing."""
    if values.min() == values.max():
        return "number", alpha
    pairs = np.unique(np.stack([values.ravel().astype(np.int64), alpha.ravel().astype(np.int64)]), axis=1)
    steps = np.diff(pairs)
    if (steps[0] == 0).any() or (steps[1] < 0).any():
        raise DataError(
            f"{path}: the mask's transparency and its colours say different things.",
            seen=f"{pairs.shape[1]} pairs of colour and opacity",
            hint="save the one that you mean as a grey PNG, to a new folder",
        )
    return kind, values


def _swapped(values: Array, palette: Array) -> bool:
    """Whether index 0 is not black though black is used, or is in a palette of greys."""
    black = (palette == 0).all(-1)
    grey = len(set(palette[0].tolist())) == 1  # beside another colour at 0, unused black entries are but padding
    return not black[0] and bool(black[np.unique(values)].any() or (grey and black.any()))


def _colours(kind: MaskKind, values: Array, stored: Stored) -> dict[StoredValue, int]:
    found = np.unique(values).tolist() if kind != "number" else []
    if kind == "colour":
        return {v: v for v in found}
    return {v: int(r) << 16 | int(g) << 8 | int(b) for v in found for r, g, b in [stored.palette[v]]}


def key_of(value: StoredValue, colours: Mapping[StoredValue, int], how: ReadAs) -> StoredValue:
    """Return what counts of a stored value when masks are read in one way."""
    if how == "number" or not colours:
        return value
    return colours[value] if how == "colour" else colours[value] >> _SHIFT[how] & 255


def channel(colours: Iterable[int]) -> ReadAs:
    """Return how colours can be read as numbers: grey, in a single channel, or not at all."""
    parts = [(c >> 16, c >> 8 & 255, c & 255) for c in colours]
    if all(r == g == b for r, g, b in parts):
        return "grey"
    names: tuple[ReadAs, ...] = ("red", "green", "blue")
    used = [name for i, name in enumerate(names) if any(part[i] for part in parts)]
    return used[0] if len(used) == 1 else "colour"
