"""How the pixels of each value of a mask lie: in regions, at edges, or loose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Array
from lomix_search.errors import require

StoredValue = int | float  # what a file holds at a pixel: a number, an index or 0xRRGGBB

HIGHEST = 65535  # of label values


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


def grains(values: Array, ordered: bool = True) -> dict[StoredValue, Grain]:
    """Count the pixels of each value, and how they lie.

    Args:
        values: (…, rows, columns).
        ordered: A value can lie between two others; not so for colours.

    Returns:
        By value.
    """
    if values.ndim > 2:  # a volume's slices one by one, which takes less memory
        slices = [grains(one, ordered) for one in values]
        return {v: summed([one[v] for one in slices if v in one]) for v in {key for one in slices for key in one}}
    found, places = ranked(values)
    counts = np.bincount(places.ravel(), minlength=len(found))
    if len(found) <= 2:
        return {v: Grain(int(n), 0, 0) for v, n in zip(found, counts, strict=True)}
    ndimage = require("scipy.ndimage", "data")
    between = np.zeros(values.shape, bool)
    if ordered:
        between = (ndimage.minimum_filter(places, 3) < places) & (places < ndimage.maximum_filter(places, 3))
    loose = between | ~_solid(places)
    count = [np.bincount(places[where], minlength=len(found)) for where in (between, loose)]
    return {v: Grain(int(counts[i]), int(count[0][i]), int(count[1][i])) for i, v in enumerate(found)}


def ranked(values: Array) -> tuple[list[StoredValue], Array]:
    """Return the distinct values, ascending, and the place of each pixel's among them."""
    if values.dtype.kind in "iu" and 0 <= values.min(initial=0) <= values.max(initial=0) <= HIGHEST:
        found = np.flatnonzero(np.bincount(values.ravel()))  # for numbers of 16 bits much faster than to sort
        table = np.zeros(int(found[-1]) + 1 if len(found) else 1, np.uint16)
        table[found] = np.arange(len(found))
        return [*map(int, found)], table[values]
    distinct, places = np.unique(values, return_inverse=True)
    return distinct.tolist(), places.reshape(values.shape)


def _solid(places: Array) -> NDArray[np.bool_]:
    """Return where a pixel is in a 2 × 2 square of one value."""
    corner, others = places[:-1, :-1], (places[1:, :-1], places[:-1, 1:], places[1:, 1:])
    square = np.logical_and.reduce([corner == other for other in others])
    solid = np.zeros(places.shape, bool)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            solid[rows, columns] |= square
    return solid


def summed(parts: Sequence[Grain]) -> Grain:
    """Add up the pixels of one value."""
    return Grain(sum(p.pixels for p in parts), sum(p.between for p in parts), sum(p.loose for p in parts))


def value_in_words(key: StoredValue) -> str:
    """Return a value as a message shows it."""
    return f"{key:g}" if isinstance(key, float) else str(key)
