"""Where voxels lie: from the axes of a file to the canonical ones, and back, and whether two files lie on one grid.

A grid is what NIfTI says of it: an affine from (i, j, k) to millimetres towards right, front and head. Readers of other
formats turn what their headers say into one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.errors import DataError, require

MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_SPACING = (0.01, 100.0)  # millimetres; outside, a header's unit is wrong
_APART = 0.1  # voxels by which the corners of one grid may differ between two files, for rounding
_FLAT = 1e-3  # volume of the three axes' unit vectors below which two of them fall together
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # most formats count towards left and back
_ZOOMS = "image.header.set_zooms((…)); image.header.set_xyzt_units('mm'); nibabel.save(image, …)"


def canonical(
    path: Path, values: Array, affine: Array, unit: str = "mm", hint: str = _ZOOMS
) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Turn what a file holds into the canonical axes.

    Args:
        path: The file, for the message.
        values: (i, j, k), or (i, j, k, channels).
        affine: (4, 4), from (i, j, k) to right, front and head.
        unit: Of the affine.
        hint: How to mend a wrong spacing.

    Returns:
        (slices, rows, columns) or (slices, channels, rows, columns); spacing in mm; affine, shape and unit of the
        file's own grid, for writing back.

    Raises:
        DataError: a spacing of 0, a unit that cannot be, or axes that span no volume.
    """
    scale = MILLIMETRES.get(unit, 1.0)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = tuple(float(s) * scale for s in lengths)
    if not np.isfinite(affine).all() or not all(_SPACING[0] <= s <= _SPACING[1] for s in spacing):
        raise wrong_spacing(path, spacing, unit, hint)
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < _FLAT:
        raise DataError(
            f"{path}: two axes of its affine fall together, so that it describes no volume.",
            seen=affine_in_words(affine),
            hint="nibabel.save(nibabel.Nifti1Image(values, affine), …)   # with the affine of the scan",
        )
    origin = {"affine": affine.tolist(), "shape": list(values.shape[:3]), "unit": unit}
    return turned(values, affine), tuple(spacing[axis] for axis in _axes(affine)[0]), origin


def wrong_spacing(path: Path, spacing: Sequence[float], unit: str, hint: str = _ZOOMS) -> DataError:
    """Return the error about a spacing that cannot be."""
    return DataError(
        f"{path}: the header's spacing or unit is wrong.",
        seen=f"voxels of {size_in_words(tuple(round(s, 6) for s in spacing))} mm, unit {unit!r}",
        hint=hint,
    )


def turned(values: Array, affine: Array) -> Array:
    """Turn (i, j, k) into (slices, rows, columns), and (i, j, k, channels) into (slices, channels, rows, columns)."""
    order, flips = _axes(affine)
    found = np.flip(values, flips).transpose((*order, *range(3, values.ndim)))
    return np.ascontiguousarray(found if values.ndim == 3 else np.moveaxis(found, 3, 1))


def from_canonical(label: Array, affine: Array) -> Array:
    """Turn (slices, rows, columns) back into the axes of the file with this affine."""
    order, flips = _axes(affine)
    back: Array = np.flip(label.transpose(tuple(np.argsort(order))), flips)
    return back


def check_one_grid(
    image: Path, origin: Mapping[str, Any], spacing: tuple[float, ...], other: Path, of_other: Mapping[str, Any],
    what: tuple[str, str] = ("image", "label"),
) -> None:  # fmt: skip
    """Check that two files lie on one grid.

    Args:
        image: The file that counts.
        origin: Of its grid.
        spacing: Of its grid, in mm.
        other: The other file, which the message names.
        of_other: Of its grid.
        what: What the two are called.

    Raises:
        DataError: their shapes or affines differ.
    """
    one, two = what
    if origin["shape"] != of_other["shape"]:
        raise DataError(
            f"{other}: {one} and {two} have different shapes.",
            seen=[f"{one} {size_in_words(origin['shape'])} ({image})", f"{two} {size_in_words(of_other['shape'])}"],
            hint="resample one onto the grid of the other, nearest neighbour for labels",
        )
    if _apart(origin, of_other) > _APART * min(spacing):
        raise DataError(
            f"{other}: {one} and {two} lie on different grids (their affines differ).",
            seen=[
                f"{one} {affine_in_words(origin['affine'])} {origin['unit']}",
                f"{two} {affine_in_words(of_other['affine'])} {of_other['unit']}",
            ],
            hint=f"resample the {two} to its {one}, or copy the {one}'s affine if only the header is wrong",
        )


def canonical_grid(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of the canonical axes, which files of one grid share however their own axes run.

    Args:
        origin: ``affine``, ``shape`` and ``unit`` of a file's own grid.

    Returns:
        The same of the array that :func:`canonical` returns, its axes in the order slices, rows, columns.
    """
    affine = np.asarray(origin["affine"], float)
    order, flips = _axes(affine)
    ends = np.zeros(4)
    signs = np.ones(4)
    for axis in flips:
        ends[axis], signs[axis] = origin["shape"][axis] - 1, -1.0
    turned_over = affine @ (np.diag(signs) + np.outer(ends, [0, 0, 0, 1]))
    shape = [origin["shape"][axis] for axis in order]
    return {"affine": turned_over[:, [*order, 3]].tolist(), "shape": shape, "unit": origin["unit"]}


def affine_of(directions: Array, start: Array) -> Array:
    """Return the affine of a file that counts towards left, back and head (DICOM, NRRD, MetaImage).

    Args:
        directions: (3, 3); column n is the step from one voxel to the next along axis n, in mm.
        start: The first voxel's centre.

    Returns:
        (4, 4), towards right, front and head.
    """
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, start
    return _LPS @ affine


def affine_in_words(affine: Any) -> str:
    """Return an affine as a message shows it."""
    return np.array2string(np.asarray(affine)[:3], precision=3, separator=" ").replace("\n", "")


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return by how many millimetres the corners of two grids of one shape differ at most."""
    corners = np.array([[*(np.array(c) * (np.array(one["shape"]) - 1)), 1] for c in np.ndindex(2, 2, 2)])
    first, second = (corners @ np.asarray(o["affine"]).T * MILLIMETRES.get(o["unit"], 1.0) for o in (one, other))
    return float(np.abs(first - second)[:, :3].max())


def _axes(affine: Array) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Find which file axes run along (head, back, left), and which axes must be flipped for that.

    An affine maps to (right, front, head): columns must run to the left and rows to the back, so both are minus.
    """
    nib = require("nibabel", "data")
    orientation = nib.io_orientation(affine)  # for each file axis: the world axis it follows, and its sign
    axis_of = {int(world): axis for axis, (world, _) in enumerate(orientation)}
    wanted = {0: -1, 1: -1, 2: 1}
    flips = tuple(axis for axis, (world, sign) in enumerate(orientation) if sign != wanted[int(world)])
    return (axis_of[2], axis_of[1], axis_of[0]), flips
