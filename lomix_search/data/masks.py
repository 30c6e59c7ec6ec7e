"""What the masks of a data set mean: one decision for all its files, from their own types, ranges and values.

Two values are a binary mask whatever they are, the lower one its background. More are class numbers as stored. Colours
are classes, black the background; they are read as numbers where all are grey or lie in one channel. A palette's index
is the number unless its colours say the opposite. Refused: values that lie only between others at edges, or are noise,
or are more than classes can be, unless it is said what they mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.stored import Stored, read_stored
from lomix_search.errors import DataError, require

Array = NDArray[Any]
Key = int | float  # what a file holds at a pixel: a number, an index or 0xRRGGBB
Kind = Literal["number", "palette", "colour"]
How = Literal["number", "grey", "red", "green", "blue", "colour"]

MOST = 64  # more label values than this are not classes unless they are named
HIGHEST = 65535  # of label values

_SHIFT: dict[How, int] = {"red": 16, "green": 8, "blue": 0, "grey": 0}
_CHROMA = 48  # largest difference between channels that the noise of a grey JPEG explains
_NEAR = 1 / 8  # of the range: what is nearer to an end than this is black or white
_SOFT_SHARE = 0.05  # share of pixels between that soft edges explain
_LOOSE = 0.8  # share of the pixels beside the two main values that lie loose in a binary mask with soft edges
_CONTRAST = 128  # range of values that makes black and white of a JPEG
_ALWAYS = 0.9  # share of a value's pixels that lie between others where it is an edge's
_NOISE = 6  # so many values without any solid place are noise
_INSTANCES = 6  # so many numbers 1 … n, another n in each mask, count objects


@dataclass(frozen=True)
class Grain:
    """How the pixels of one value lie.

    Args:
        pixels: How many there are.
        between: Of these, with a lower and a higher neighbour.
        loose: Between, or in no 2 × 2 square of the value.
    """

    pixels: int
    between: int
    loose: int


@dataclass(frozen=True)
class Seen:
    """What was seen in one mask.

    Args:
        path: Its file.
        kind: Whether it holds numbers, indices of a palette, or colours.
        grains: By value.
        colours: 0xRRGGBB of each value of a palette or colour mask.
        lossy: Compressed as JPEG.
        swapped: A palette whose index 0 is not black though black is in it.
    """

    path: Path
    kind: Kind
    grains: Mapping[Key, Grain]
    colours: Mapping[Key, int]
    lossy: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Coding:
    """How to turn what the masks of a data set hold into label values.

    Args:
        how: Read as numbers or indices, as grey or one channel of colours, or as whole colours.
        labels: Label value of what is stored; 0 is the background.
        names: What to call each label value when nobody names it.
        cut: Values above it are foreground, where binary masks have soft edges.
        masks: In how many masks each label value is.
        said: The decision in words.
    """

    how: How
    labels: Mapping[Key, int]
    names: Mapping[int, str]
    cut: float | None
    masks: Mapping[int, int]
    said: str

    def read(self, mask: "MaskFile") -> Array:
        """Turn a mask of this data set into label values.

        Args:
            mask: What its file holds.

        Returns:
            (rows, columns), label values, uint8 or uint16.

        Raises:
            DataError: it holds what no mask held when this was decided.
        """
        return self.apply(mask.keys(self.how), mask.path)

    def apply(self, keys: Array, path: Path) -> Array:
        """Turn what counts in a file into label values.

        Args:
            keys: Numbers, or colours as 0xRRGGBB; any shape.
            path: The file, for the message.

        Returns:
            The same shape, uint8 or uint16.

        Raises:
            DataError: a value that no mask held when this was decided.
        """
        kind = np.uint8 if max(self.labels.values(), default=0) < 256 else np.uint16
        if self.cut is not None:
            return (keys > self.cut).astype(kind)
        values, places = np.unique(keys, return_inverse=True)
        if unknown := [f"{v:g}" for v in values.tolist() if v not in self.labels]:
            raise DataError(f"{path}: {', '.join(unknown[:8])} was in no mask before.", hint="run lomix new again")
        return np.array([self.labels[v] for v in values.tolist()], kind)[places].reshape(keys.shape)


# -- one mask ----------------------------------------------------------------------------------------------------------


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
    """

    path: Path
    kind: Kind
    values: Array
    colours: Mapping[Key, int]
    lossy: bool = False
    swapped: bool = False

    def keys(self, how: How) -> Array:
        """Return what counts at each pixel when it is read in one way."""
        if how == "number" or not self.colours:
            return self.values
        found, places = np.unique(self.values, return_inverse=True)
        keys = np.array([_key(value, self.colours, how) for value in found.tolist()])
        return keys[places].reshape(self.values.shape)

    def look(self) -> Seen:
        """Look at its values and how they lie."""
        ordered = not self.colours or _channel(self.colours.values()) != "colour"
        return Seen(self.path, self.kind, grains(self.values, ordered), self.colours, self.lossy, self.swapped)


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
        raise DataError(f"{path}: NaN or infinite label values.")
    if stored.negative and len(np.unique(values)) > 2:
        raise DataError(f"{path}: white is 0 in this TIFF; what class numbers mean then is not known.")
    if kind != "palette" and stored.alpha is not None and stored.alpha.min() < stored.alpha.max():
        kind, values = _with_alpha(path, kind, values, stored.alpha)
    swapped = kind == "palette" and _swapped(values, stored.palette)
    return MaskFile(path, kind, values, _colours(kind, values, stored), stored.lossy, swapped)


def _values(stored: Stored) -> tuple[Kind, Array]:
    """Return numbers, indices, or colours as 0xRRGGBB."""
    if stored.kind != "colour":
        return ("number" if stored.kind == "grey" else "palette"), stored.values
    if stored.lossy and np.ptp(stored.values.astype(int), axis=-1).max(initial=0) <= _CHROMA:
        return "number", np.rint(stored.values.mean(-1)).astype(np.uint8)  # a grey JPEG in three channels
    red, green, blue = (stored.values[..., i].astype(np.int32) for i in range(3))
    return "colour", (red << 16) | (green << 8) | blue


def _with_alpha(path: Path, kind: Kind, values: Array, alpha: Array) -> tuple[Kind, Array]:
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


def _colours(kind: Kind, values: Array, stored: Stored) -> dict[Key, int]:
    found = np.unique(values).tolist() if kind != "number" else []
    if kind == "colour":
        return {v: v for v in found}
    return {v: int(r) << 16 | int(g) << 8 | int(b) for v in found for r, g, b in [stored.palette[v]]}


def _key(value: Key, colours: Mapping[Key, int], how: How) -> Key:
    if how == "number" or not colours:
        return value
    return colours[value] if how == "colour" else colours[value] >> _SHIFT[how] & 255


def grains(values: Array, ordered: bool = True) -> dict[Key, Grain]:
    """Count the pixels of each value, and how they lie.

    Args:
        values: (…, rows, columns).
        ordered: A value can lie between two others; not so for colours.

    Returns:
        By value.
    """
    found, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(found) <= 2:
        return {v: Grain(int(n), 0, 0) for v, n in zip(found.tolist(), counts, strict=True)}
    ndimage, places = require("scipy.ndimage", "data"), places.reshape(values.shape)
    size = (1,) * (values.ndim - 2) + (3, 3)
    between = np.zeros(values.shape, bool)
    if ordered:
        between = (ndimage.minimum_filter(places, size) < places) & (places < ndimage.maximum_filter(places, size))
    loose = between | ~_solid(places)
    count = [np.bincount(places[where], minlength=len(found)) for where in (between, loose)]
    return {v: Grain(int(counts[i]), int(count[0][i]), int(count[1][i])) for i, v in enumerate(found.tolist())}


def _solid(places: Array) -> NDArray[np.bool_]:
    """Return where a pixel is in a 2 × 2 square of one value."""
    corner = places[..., :-1, :-1]
    others = (places[..., 1:, :-1], places[..., :-1, 1:], places[..., 1:, 1:])
    square = np.logical_and.reduce([corner == other for other in others])
    solid = np.zeros(places.shape, bool)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            solid[..., rows, columns] |= square
    return solid


# -- all masks ---------------------------------------------------------------------------------------------------------


def decide(seen: Sequence[Seen], *, binary: bool = False, united: bool = False, named: int = 0) -> Coding:
    """Decide what the masks of a data set mean.

    Args:
        seen: All masks.
        binary: They are known to be binary: a single value but 0 is all foreground, and soft edges are cut halfway.
        united: Asked for: binary, and every value above the lowest is foreground.
        named: How many classes the user has named; so many values are taken as classes whatever they look like.

    Returns:
        The decision.

    Raises:
        DataError: values that cannot be classes, or masks that contradict each other; the first file is named.
    """
    masks = _Masks(seen, _how(seen))
    if binary and len(masks.keys) > 2:
        return _halved(masks)
    if masks.how == "colour" and 0 not in masks.keys:
        raise DataError(
            f"{masks.seen[0].path}: no pixel of any mask is black; which colour is the background is not known.",
            seen=f"{len(masks.keys)} colours: {masks.shown(masks.keys)}",
            hint="save the masks with a black background, to a new folder",
        )
    if len(masks.keys) <= 2:
        return _binary(masks, united or binary)
    if united and not _soft(masks):
        return _united(masks)
    if united:
        return _halved(masks)
    if named != len(masks.foreground):
        _check_classes(masks)
    return _classes(masks)


@dataclass(frozen=True)
class _Masks:
    """All masks of a data set, read in one way.

    Args:
        seen: What was seen in each.
        how: How they are read.
    """

    seen: Sequence[Seen]
    how: How

    @cached_property
    def each(self) -> list[dict[Key, Grain]]:
        """What each mask holds."""
        found: list[dict[Key, Grain]] = []
        for one in self.seen:
            found.append({})
            for value, grain in one.grains.items():
                key = _key(value, one.colours, self.how)
                found[-1][key] = _sum([grain, found[-1].get(key, Grain(0, 0, 0))])
        return found

    @cached_property
    def total(self) -> dict[Key, Grain]:
        """What all of them hold, by ascending value."""
        keys = sorted({key for one in self.each for key in one})
        return {key: _sum([one[key] for one in self.each if key in one]) for key in keys}

    @property
    def keys(self) -> list[Key]:
        """All values, ascending."""
        return list(self.total)

    @property
    def foreground(self) -> list[Key]:
        """All values but 0."""
        return [key for key in self.total if key != 0]

    @cached_property
    def noisy(self) -> list[Seen]:
        """JPEG masks of more than two values."""
        return [one for one in self.seen if one.lossy and len(one.grains) > 2]

    def having(self, keys: Iterable[Key]) -> list[Path]:
        """Return the masks that have one of these values."""
        wanted = set(keys)
        return [s.path for s, one in zip(self.seen, self.each, strict=True) if not wanted.isdisjoint(one)]

    def shown(self, keys: Sequence[Key]) -> str:
        """Return values in words."""
        words = [f"#{int(k):06x}" if self.how == "colour" else f"{k:g}" for k in keys]
        return ", ".join(words) if len(words) <= 12 else f"{', '.join(words[:8])} … {words[-1]}"

    def refused(self, why: str, bad: Sequence[Key], first: Path | None = None) -> DataError:
        """Return the error about values that are not classes, with their count and the first file."""
        files = self.having(bad)
        where = [f"{self.shown([k])} first in {self.having([k])[0]}" for k in bad] if len(bad) <= 4 else []
        return DataError(
            f"{first or files[0]}: {len(self.keys)} values in all masks together; {why}.",
            seen=[f"{self.shown(self.keys)}; {len(files)} of {len(self.seen)} masks are concerned", *where],
            hint=[
                "lomix new … --binary          # all but the background is one foreground; soft edges are cut halfway",
                "lomix new … --classes a,b,…   # a name for each value above 0, if all of them are classes",
            ],
        )


def _sum(parts: Sequence[Grain]) -> Grain:
    return Grain(sum(p.pixels for p in parts), sum(p.between for p in parts), sum(p.loose for p in parts))


# -- numbers, indices or colours ---------------------------------------------------------------------------------------


def _how(seen: Sequence[Seen]) -> How:
    """Decide whether numbers, indices or colours count."""
    palettes, coloured = [s for s in seen if s.kind == "palette"], [s for s in seen if s.kind == "colour"]
    numbers = [s for s in seen if s.kind == "number"]
    indexed = not palettes or (not coloured and _index_counts(palettes, bool(numbers)))
    if not coloured and indexed:
        return "number"
    how = _channel({c for s in (*palettes, *coloured) for c in s.colours.values()})
    if how == "colour" and (other := [s for s in numbers if set(s.grains) - {0}]):
        raise DataError(
            f"{other[0].path}: {len(other)} of {len(seen)} masks hold numbers and the others colours.",
            seen=f"first in colours: {(coloured or palettes)[0].path}",
            hint="save all masks in one form, to a new folder",
        )
    return how


def _index_counts(palettes: Sequence[Seen], beside_numbers: bool) -> bool:
    """Whether an index is a number: its colour is the same in all files and does not say the opposite."""
    pairs = {pair for s in palettes for pair in s.colours.items()}
    colours = [colour for _, colour in sorted(pairs)]
    if len({index for index, _ in pairs}) < len(pairs) or any(s.swapped for s in palettes):
        return False
    return not (_channel(colours) == "grey" and (colours != sorted(colours) or beside_numbers))


def _channel(colours: Iterable[int]) -> How:
    """Return how colours can be read as numbers: grey, in a single channel, or not at all."""
    parts = [(c >> 16, c >> 8 & 255, c & 255) for c in colours]
    if all(r == g == b for r, g, b in parts):
        return "grey"
    names: tuple[How, ...] = ("red", "green", "blue")
    used = [name for i, name in enumerate(names) if any(part[i] for part in parts)]
    return used[0] if len(used) == 1 else "colour"


# -- binary masks ------------------------------------------------------------------------------------------------------


def _binary(masks: _Masks, known: bool) -> Coding:
    """Masks of two values, or of one."""
    keys = masks.keys
    if len(keys) == 1 and keys[0] != 0 and not known:
        raise DataError(
            f"{masks.seen[0].path}: every mask is {masks.shown(keys)} all over; there is no background.",
            hint="give the folder of masks, not of images; or leave out what is all foreground",
        )
    low, high = (0, keys[0]) if len(keys) == 1 else (keys[0], keys[1])
    if low == high:
        return Coding(masks.how, {0: 0}, {}, None, {}, "all masks are empty")
    label = int(high) if masks.how != "colour" and 0 < high <= HIGHEST and high == int(high) else 1
    said = f"{masks.shown([low])} background, {masks.shown([high])} foreground"
    return _foreground(masks, {low: 0, high: label}, None, said)


def _united(masks: _Masks) -> Coding:
    background = 0 if masks.how == "colour" else masks.keys[0]
    count = len(masks.keys) - 1
    said = f"{masks.shown([background])} background, {count} other values one foreground, as asked for"
    return _foreground(masks, {key: int(key != background) for key in masks.keys}, None, said)


def _halved(masks: _Masks) -> Coding:
    """Masks that are binary but for soft edges."""
    low, high = masks.keys[0], masks.keys[-1]
    path = masks.having([high])[0]
    if masks.how == "colour":
        raise DataError(
            f"{path}: an RGB mask in colours; a mask has one channel.",
            seen=f"{len(masks.keys)} colours",
            hint="convert every colour to a class number and save one channel",
        )
    middle = [k for k in masks.keys if _NEAR < (k - low) / (high - low) < 1 - _NEAR]
    share = sum(masks.total[k].pixels for k in middle) / sum(grain.pixels for grain in masks.total.values())
    if share > _SOFT_SHARE or not _soft(masks):
        grey = f"{share:.0%} of its pixels are neither black nor white"
        raise DataError(
            f"{path}: not a binary mask: {grey if share > _SOFT_SHARE else f'it has {len(masks.keys)} values'}.",
            seen=f"{len(masks.keys)} values, {low:g} … {high:g}",
            hint=[
                "save masks as PNG with the values 0 and 255, to a new folder; of masks that number their objects:",
                "PIL.Image.fromarray((numpy.asarray(PIL.Image.open(OLD)) > 0).astype('uint8') * 255).save(NEW)",
            ],
        )
    half = (low + high) / 2
    said = f"soft edges of {len(masks.keys)} values, {low:g} … {high:g}, cut at {half:g}"
    return _foreground(masks, {key: int(key > half) for key in masks.keys}, half, said)


def _foreground(masks: _Masks, labels: dict[Key, int], cut: float | None, said: str) -> Coding:
    label, having = max(labels.values()), masks.having(key for key, value in labels.items() if value)
    return Coding(masks.how, labels, {label: "foreground"}, cut, {label: len(having)}, said)


def _soft(masks: _Masks) -> bool:
    """Whether nearly all pixels but those of the two main values lie loose, as those of soft edges and noise do."""
    half = (masks.keys[0] + masks.keys[-1]) / 2
    if masks.noisy:
        return masks.keys[-1] - masks.keys[0] >= _CONTRAST
    main = [max(side, key=lambda k: masks.total[k].pixels) for side in _sides(masks.keys, half)]
    others = _sum([grain for key, grain in masks.total.items() if key not in main])
    return masks.how != "colour" and others.loose >= _LOOSE * others.pixels


def _sides(keys: Sequence[Key], half: float) -> tuple[list[Key], list[Key]]:
    return [k for k in keys if k <= half], [k for k in keys if k > half]


# -- classes -----------------------------------------------------------------------------------------------------------


def _check_classes(masks: _Masks) -> None:
    """Refuse values that cannot be classes."""
    keys, foreground = masks.keys, masks.foreground
    if masks.how != "colour" and (odd := [k for k in keys if k != int(k) or not 0 <= k <= HIGHEST]):
        raise masks.refused(f"label values must be whole numbers, 0 … {HIGHEST}", odd)
    if masks.noisy:
        why = f"{len(masks.noisy)} of the masks are JPEG, which changes values, so they cannot be class numbers"
        raise masks.refused(why, keys[1:-1], masks.noisy[0].path)
    if rough := _rough(masks):
        why = f"{len(rough)} of them lie only between others at edges, or are noise: no region has them"
        raise masks.refused(why, rough)
    if len(foreground) > MOST:
        raise masks.refused(f"more than {MOST} cannot be classes", foreground)
    if _counting(masks):
        raise masks.refused("each mask counts from 1 to another number: objects, not classes", foreground)
    if masks.how != "colour" and foreground == [*range(1, len(foreground)), 255]:
        why = "255 beside class numbers is the same foreground in other files, or marks pixels to leave out"
        raise masks.refused(why, foreground)


def _rough(masks: _Masks) -> list[Key]:
    """Return the values that no region has: soft edges, or noise."""
    edges = [key for key in masks.keys[1:-1] if _mostly(masks.total[key].between, masks.total[key].pixels)]
    loose = [key for key, grain in masks.total.items() if _mostly(grain.loose, grain.pixels)]
    return edges or (loose if len(loose) >= _NOISE else [])


def _mostly(part: int, whole: int) -> bool:
    return part >= _ALWAYS * whole


def _counting(masks: _Masks) -> bool:
    """Whether every mask holds just 1 … n, and n differs: numbered objects."""
    numbers = [sorted(set(one) - {0}) for one in masks.each]
    lengths = {len(n) for n in numbers if n}
    return len(lengths) > 1 and max(lengths) >= _INSTANCES and all(n == [*range(1, len(n) + 1)] for n in numbers)


def _classes(masks: _Masks) -> Coding:
    foreground, colour = masks.foreground, masks.how == "colour"
    if odd := [] if colour else [k for k in foreground if k != int(k) or not 0 <= k <= HIGHEST]:
        raise masks.refused(f"label values must be whole numbers, 0 … {HIGHEST}", odd)
    number: dict[Key, int] = {key: i if colour else int(key) for i, key in enumerate(foreground, 1)}
    names = {value: masks.shown([key]) if colour else f"class {value}" for key, value in number.items()}
    counts = {value: len(masks.having([key])) for key, value in number.items()}
    said = f"classes {masks.shown(foreground)}" + ("" if 0 in masks.total else "; no pixel is background (0)")
    return Coding(masks.how, {0: 0} | number, names, None, counts, said)
