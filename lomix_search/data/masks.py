"""What the masks of a data set mean: one decision for all its files, from their own types, ranges and values.

Two values are a binary mask whatever they are, the lower one its background. More are class numbers as stored. Colours
are classes, black the background; they are read as numbers where all are grey or lie in one channel. A palette's index
is the number unless its colours say the opposite. Refused: values that lie only between others at edges, or are noise,
or are more than classes can be, unless it is said what they mean.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.readers.mask_file import (
    HIGHEST,
    Array,
    Grain,
    How,
    Key,
    MaskFile,
    Seen,
    channel,
    key_of,
    ranked,
    summed,
)
from lomix_search.data.readers.mask_file import open_mask as open_mask
from lomix_search.errors import DataError

MOST = 64  # more label values than this are not classes unless they are named

_NEAR = 1 / 8  # of the range: what is nearer to an end than this is black or white
_SOFT_SHARE = 0.05  # share of pixels between that soft edges explain
_ASKED_SHARE = 0.25  # the same where the user says that all masks are binary: small objects are mostly edge
_LOOSE = 0.8  # share of the pixels beside the two main values that lie loose in a binary mask with soft edges
_CONTRAST = 128  # range of values that makes black and white of a JPEG
_ALWAYS = 0.9  # share of a value's pixels that lie between others where it is an edge's
_NOISE = 6  # so many values without any solid place are noise
_INSTANCES = 4  # so many numbers 1 … n, another n in each mask, count objects; so do more that no other mask has
_LOW = 32  # 255 beside values below this alone is hardly a class like them


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

    @property
    def origin(self) -> dict[str, Any]:
        """What a case says of its masks: how they were read, and what the files hold where a label is not it."""
        pairs = [
            [label, key] for key, label in self.labels.items() if label != key and isinstance(key, int) and key >= 0
        ]
        known = self.how != "colour" and self.cut is None and len(set(self.labels.values())) == len(self.labels)
        return {"masks": self.said} | ({"values": pairs} if pairs and known else {})

    @property
    def reading(self) -> str:
        """The decision as one word beside the words, so that what was prepared by another one is made again."""
        whole = repr((self.how, sorted(self.labels.items()), self.cut))
        return f"{self.said} [{hashlib.sha256(whole.encode()).hexdigest()[:8]}]"

    def read(self, mask: MaskFile) -> Array:
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
            return np.where(keys > self.cut, max(self.labels.values()), 0).astype(kind)
        values, places = ranked(keys)
        if unknown := [_word(v) for v in values if v not in self.labels]:
            raise DataError(f"{path}: {', '.join(unknown[:8])} was in no mask before.", hint="run lomix new again")
        return np.array([self.labels[v] for v in values], kind)[places]


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
        return _halved(masks, _SOFT_SHARE)
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
        return _halved(masks, _ASKED_SHARE)
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
                key = key_of(value, one.colours, self.how)
                found[-1][key] = summed([grain, found[-1].get(key, Grain(0, 0, 0))])
        return found

    @cached_property
    def total(self) -> dict[Key, Grain]:
        """What all of them hold, by ascending value."""
        keys = sorted({key for one in self.each for key in one})
        return {key: summed([one[key] for one in self.each if key in one]) for key in keys}

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
        words = [f"#{int(k):06x}" if self.how == "colour" else _word(k) for k in keys]
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


def _word(key: Key) -> str:
    return f"{key:g}" if isinstance(key, float) else str(key)


# -- numbers, indices or colours ---------------------------------------------------------------------------------------


def _how(seen: Sequence[Seen]) -> How:
    """Decide whether numbers, indices or colours count."""
    palettes, coloured = [s for s in seen if s.kind == "palette"], [s for s in seen if s.kind == "colour"]
    numbers = [s for s in seen if s.kind == "number"]
    indexed = not palettes or (not coloured and _index_counts(palettes, bool(numbers)))
    if not coloured and indexed:
        return "number"
    how = channel({c for s in (*palettes, *coloured) for c in s.colours.values()})
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
    return not (channel(colours) == "grey" and (colours != sorted(colours) or beside_numbers))


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
    said = f"{masks.shown([low])} background, {masks.shown([high])} foreground"
    return _foreground(masks, {low: 0, high: _label(masks, high)}, None, said)


def _label(masks: _Masks, high: Key) -> int:
    """Return the label value of the foreground: what is stored, where that can be one."""
    return int(high) if masks.how != "colour" and 0 < high <= HIGHEST and high == int(high) else 1


def _united(masks: _Masks) -> Coding:
    background = 0 if masks.how == "colour" else masks.keys[0]
    count = len(masks.keys) - 1
    said = f"{masks.shown([background])} background, {count} other values one foreground, as asked for"
    return _foreground(masks, {key: int(key != background) for key in masks.keys}, None, said)


def _halved(masks: _Masks, most: float) -> Coding:
    """Masks that are binary but for soft edges, which cover at most this share of the pixels."""
    low, high = masks.keys[0], masks.keys[-1]
    path = masks.having([high])[0]
    if masks.how == "colour":
        raise DataError(
            f"{path}: an RGB mask in colours; a mask has one channel.",
            seen=f"{len(masks.keys)} colours",
            hint="convert every colour to a class number and save one channel",
        )
    black, white = (0, 255) if low >= 0 and _CONTRAST <= high <= 255 else (low, high)
    middle = [k for k in masks.keys if _NEAR < (k - black) / (white - black) < 1 - _NEAR]
    share = sum(masks.total[k].pixels for k in middle) / sum(grain.pixels for grain in masks.total.values())
    if share > most or not _soft(masks):
        grey = f"{share:.0%} of its pixels are neither black nor white"
        raise DataError(
            f"{path}: not a binary mask: {grey if share > most else f'it has {len(masks.keys)} values'}.",
            seen=f"{len(masks.keys)} values, {low:g} … {high:g}",
            hint=[
                "save masks as PNG with the values 0 and 255, to a new folder; of masks that number their objects:",
                "PIL.Image.fromarray((numpy.asarray(PIL.Image.open(OLD)) > 0).astype('uint8') * 255).save(NEW)",
            ],
        )
    half = (low + high) / 2
    said = f"soft edges of {len(masks.keys)} values, {low:g} … {high:g}, cut at {half:g}"
    return _foreground(masks, {key: _label(masks, high) * (key > half) for key in masks.keys}, half, said)


def _foreground(masks: _Masks, labels: dict[Key, int], cut: float | None, said: str) -> Coding:
    label, having = max(labels.values()), masks.having(key for key, value in labels.items() if value)
    return Coding(masks.how, labels, {label: "foreground"}, cut, {label: len(having)}, said)


def _soft(masks: _Masks) -> bool:
    """Whether nearly all pixels but those of the two main values lie loose, as those of soft edges and noise do."""
    half = (masks.keys[0] + masks.keys[-1]) / 2
    if masks.noisy:
        return masks.keys[-1] - masks.keys[0] >= _CONTRAST
    main = [max(side, key=lambda k: masks.total[k].pixels) for side in _sides(masks.keys, half)]
    others = summed([grain for key, grain in masks.total.items() if key not in main])
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
        raise masks.refused("most masks have numbers of their own: objects, not classes", foreground)
    if masks.how != "colour" and foreground[-1] == 255 and foreground[-2] < _LOW:
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
    """Whether objects are numbered: from 1 to another n in every mask, or mostly by numbers that no other mask has."""
    numbers = [n for one in masks.each if (n := sorted(set(one) - {0}))]
    lengths = {len(n) for n in numbers}
    if len(lengths) > 1 and max(lengths) >= _INSTANCES and all(n == [*range(1, len(n) + 1)] for n in numbers):
        return True
    found = Counter(value for n in numbers for value in n)
    own = sum(count == 1 for count in found.values())
    return len(numbers) > 2 and len(found) > _INSTANCES * len(numbers) and 2 * own > len(found)


def _classes(masks: _Masks) -> Coding:
    foreground, colour = masks.foreground, masks.how == "colour"
    if odd := [] if colour else [k for k in foreground if k != int(k) or not 0 <= k <= HIGHEST]:
        raise masks.refused(f"label values must be whole numbers, 0 … {HIGHEST}", odd)
    number: dict[Key, int] = {key: i if colour else int(key) for i, key in enumerate(foreground, 1)}
    names = {value: masks.shown([key]) if colour else f"class {value}" for key, value in number.items()}
    counts = {value: len(masks.having([key])) for key, value in number.items()}
    zero = "0 background, " if 0 in masks.total and not colour else ""
    said = f"{zero}classes {masks.shown(foreground)}" + ("" if 0 in masks.total else "; no pixel is background (0)")
    return Coding(masks.how, {0: 0} | number, names, None, counts, said)
