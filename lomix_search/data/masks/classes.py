"""Masks of classes: which values can be classes, and which are edges, noise or counted objects."""

from collections import Counter

from lomix_search.data.masks.all_masks import AllMasks
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.grains import HIGHEST, StoredValue

MOST = 64  # more label values than this are not classes unless they are named
_ALWAYS = 0.9  # a value with this share of its pixels between others is that of an edge
_NOISE = 6  # this many values without a solid region are noise
# Objects are counted where masks number them 1 … n with another n in each, from this n on; or where masks have more
# values than this on average, most of them in one mask only.
_INSTANCES = 4
_LOW = 32  # where all other values are below this, 255 is hardly one more class


def check_classes(masks: AllMasks) -> None:
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


def _rough(masks: AllMasks) -> list[StoredValue]:
    """Return the values that no region has: soft edges, or noise."""
    edges = [key for key in masks.keys[1:-1] if _mostly(masks.total[key].between, masks.total[key].pixels)]
    loose = [key for key, grain in masks.total.items() if _mostly(grain.loose, grain.pixels)]
    return edges or (loose if len(loose) >= _NOISE else [])


def _mostly(part: int, whole: int) -> bool:
    return part >= _ALWAYS * whole


def _counting(masks: AllMasks) -> bool:
    """Whether objects are numbered: from 1 to another n in every mask, or mostly by numbers that no other mask has."""
    numbers = [n for one in masks.each if (n := sorted(set(one) - {0}))]
    lengths = {len(n) for n in numbers}
    if len(lengths) > 1 and max(lengths) >= _INSTANCES and all(n == [*range(1, len(n) + 1)] for n in numbers):
        return True
    found = Counter(value for n in numbers for value in n)
    own = sum(count == 1 for count in found.values())
    return len(numbers) > 2 and len(found) > _INSTANCES * len(numbers) and 2 * own > len(found)


def class_coding(masks: AllMasks) -> Coding:
    """Masks whose values are classes: numbers as stored, colours numbered in ascending order."""
    foreground, colour = masks.foreground, masks.how == "colour"
    if odd := [] if colour else [k for k in foreground if k != int(k) or not 0 <= k <= HIGHEST]:
        raise masks.refused(f"label values must be whole numbers, 0 … {HIGHEST}", odd)
    number: dict[StoredValue, int] = {key: i if colour else int(key) for i, key in enumerate(foreground, 1)}
    names = {value: masks.shown([key]) if colour else f"class {value}" for key, value in number.items()}
    counts = {value: len(masks.having([key])) for key, value in number.items()}
    zero = "0 background, " if 0 in masks.total and not colour else ""
    said = f"{zero}classes {masks.shown(foreground)}" + ("" if 0 in masks.total else "; no pixel is background (0)")
    return Coding(masks.how, {0: 0} | number, names, None, counts, said)
