"""Contours of one region → the pixels that lie in it.

A contour is a closed line in one plane. Of the contours of one plane, one that lies truly inside another is a hole in
it, one inside a hole is an island, and so on; all others add up, so that contours that repeat, touch or overlap are
what they cover together. Contours of different planes never cut holes into each other.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Points = NDArray[np.float64]
_Mask = NDArray[np.bool_]

_NEAR = 0.25  # pixels: lines that lie no farther apart are the same line, rounded or drawn anew


def fill_plane(contours: Sequence[_Points], shape: Sequence[int]) -> _Mask:
    """Fill all contours of one plane.

    Args:
        contours: Corners (n, 2) as (column, row) of each; pixel centres have whole numbers.
        shape: Rows, columns.

    Returns:
        True where a pixel's centre lies in the region.
    """
    holds = [[a is not b and _contains(a, b) for b in contours] for a in contours]
    depth = _depths(holds)

    def region(number: int) -> _Mask:
        filled = inside(contours[number], shape)
        for other, held in enumerate(holds[number]):
            if held and depth[other] == depth[number] + 1:
                filled &= ~region(other)
        return filled

    found = np.zeros(tuple(shape), bool)
    for number in range(len(contours)):
        if depth[number] == 0:
            found |= region(number)
    return found


def inside(polygon: _Points, shape: Sequence[int]) -> _Mask:
    """Fill one polygon by the even-odd rule, so that one that goes round a hole along a keyhole leaves it free.

    Args:
        polygon: (n, 2) corners as (column, row); pixel centres have whole numbers.
        shape: Rows, columns.

    Returns:
        True where a pixel's centre lies inside.
    """
    filled = np.zeros(tuple(shape), bool)
    top, bottom = (int(np.clip(v, 0, shape[0])) for v in (np.floor(polygon[:, 1].min()), np.ceil(polygon[:, 1].max())))
    rows, columns = np.arange(shape[0])[top : bottom + 1, None], np.arange(shape[1])[None]
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y1 != y2:
            crossed = ((y1 > rows) != (y2 > rows)) & (columns < (x2 - x1) * (rows - y1) / (y2 - y1) + x1)
            filled[top : bottom + 1] ^= crossed
    return filled


def _depths(holds: Sequence[Sequence[bool]]) -> list[int]:
    """Return how many lines lie round each contour, one inside the other: 0 outermost, 1 a hole, 2 an island."""
    around = [[a for a in range(len(holds)) if holds[a][b]] for b in range(len(holds))]
    depth, deeper = [0] * len(holds), [1]
    while deeper != depth:
        deeper, depth = depth, [max((depth[a] + 1 for a in lines), default=0) for lines in around]
    return depth


def _contains(outer: _Points, inner: _Points) -> bool:
    """Whether a line lies inside another, where they may touch, and is not that line once more."""
    low, high = outer.min(0) - _NEAR, outer.max(0) + _NEAR
    if (inner < low).any() or (inner > high).any() or abs(_area(inner)) >= abs(_area(outer)):
        return False
    line = _dense(inner)
    if not _all_near(line[~_within(line, outer)], outer):
        return False
    if abs(_area(outer)) - abs(_area(inner)) > 2 * _NEAR * _length(outer):
        return True  # too much lies between them for one line
    return not (_all_near(line, outer) and _all_near(_dense(outer), inner))


def _area(polygon: _Points) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _length(polygon: _Points) -> float:
    return float(np.hypot(*(polygon - np.roll(polygon, -1, 0)).T).sum())


def _dense(polygon: _Points, step: float = 0.5) -> _Points:
    """Put points on a line, none farther from the next than ``step`` pixels."""
    ends = np.roll(polygon, -1, 0)
    counts = np.maximum(1, np.ceil(np.hypot(*(ends - polygon).T) / step).astype(int))
    share = np.concatenate([np.arange(count) / count for count in counts])[:, None]
    line: _Points = np.repeat(polygon, counts, 0) * (1 - share) + np.repeat(ends, counts, 0) * share
    return line


def _within(points: _Points, polygon: _Points) -> _Mask:
    found = np.zeros(len(points), bool)
    x, y = points.T
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y1 != y2:
            found ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return found


def _all_near(points: _Points, polygon: _Points) -> bool:
    """Whether all points lie on a line or next to it."""
    left = points
    for start, end in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if not len(left):
            break
        along = end - start
        share = np.clip((left - start) @ along / max(float(along @ along), 1e-12), 0, 1)[:, None]
        left = left[np.hypot(*(left - start - share * along).T) > _NEAR]
    return not len(left)
