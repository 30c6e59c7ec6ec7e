"""NIfTI volumes with their labels, read into the canonical axes, and predictions written back where they came from."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, Case, size_in_words
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values, float_of, whole_labels
from lomix_search.errors import DataError, require

_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_SPACING = (0.01, 100.0)  # millimetres; outside, a header's unit is wrong
_APART = 0.1  # voxels by which the corners of one grid may differ between two files, for rounding
_FLAT = 1e-3  # volume of the three axes' unit vectors below which two of them fall together
_DEFLATE = 1032  # no gzip file holds more than this many bytes a byte


def read_nifti_pair(name: str, image: Path, label: Path, frame: int | None = None) -> Case:
    """Read an image and its label.

    Args:
        name: What to call the case.
        image: NIfTI file, 3D, or 4D with one frame, or with ``frame`` given.
        label: NIfTI file on the same grid.
        frame: Which frame of a 4D image, from 0.

    Returns:
        The case, intensities as stored (slope and intercept applied).

    Raises:
        DataError: a file is missing, empty, cut short, of another grid than the other, or has labels that are not whole
            numbers; the message names the file.
    """
    values, spacing, origin = read_nifti(image, frame)
    whole, _, of_label = read_nifti_label(label)
    if origin["shape"] != of_label["shape"]:
        raise DataError(
            f"{label}: image and label have different shapes.",
            seen=[f"image {size_in_words(origin['shape'])} ({image})", f"label {size_in_words(of_label['shape'])}"],
        )
    if _apart(origin, of_label) > _APART * min(spacing):
        raise DataError(
            f"{label}: image and label lie on different grids (their affines differ).",
            seen=[
                f"image {_rows(origin['affine'])} {origin['unit']}",
                f"label {_rows(of_label['affine'])} {of_label['unit']}",
            ],
            hint="resample the label to its image, or copy the image's affine if only the header is wrong",
        )
    origin |= {"header": nifti_header(image, label)}
    return Case(name, values[:, None], whole, spacing, origin)


def read_nifti(path: Path, frame: int | None = None) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read an image into the canonical axes.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        frame: Which frame of a 4D file, from 0; needed where there are several.

    Returns:
        Values (slices, rows, columns), slope and intercept applied, float32, or float64 where the file's own type needs
        it; spacing in mm; affine, shape and unit of the file's own grid.

    Raises:
        DataError: the file is missing, empty, cut short, not a volume of numbers, or its grid makes no sense.
    """
    values, affine, unit = _stored(path, frame)
    return _canonical(path, values.astype(float_of(values.dtype)), affine, unit)


def read_nifti_label(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a label into the canonical axes, every value as it is meant.

    Args:
        path: ``.nii`` or ``.nii.gz``, 3D.

    Returns:
        As :func:`read_nifti`; values in the smallest unsigned type that holds them.

    Raises:
        DataError: as :func:`read_nifti`, and as :func:`whole_labels`.
    """
    values, affine, unit = _stored(path, None)
    return _canonical(path, whole_labels(values, path), affine, unit)


def nifti_header(image: Path, label: Path) -> dict[str, Any]:
    """Return what else a prediction needs of an image's header, so that every program shows both in one place.

    Args:
        image: Whose grid, units and codes count.
        label: Its label, which has as many axes as a prediction gets: 3, or 4 with one frame.

    Returns:
        ``units`` of space and time, ``zooms``, ``sform`` and ``qform`` as (code, matrix), and ``axes``.
    """
    nib = require("nibabel", "data")
    with readable(image), readable(label):
        header, axes = nib.load(str(image)).header, len(nib.load(str(label)).shape)
        if not hasattr(header, "get_qform"):  # Analyze has neither units nor codes
            return {"axes": axes}
        forms = {key: getattr(header, f"get_{key}")(coded=True) for key in ("sform", "qform")}
        coded = {key: [int(code), None if matrix is None else matrix.tolist()] for key, (matrix, code) in forms.items()}
        zooms = [float(zoom) for zoom in header.get_zooms()[:3]]
        return {"units": list(header.get_xyzt_units()), "zooms": zooms, **coded, "axes": axes}


def write_nifti(path: Path, label: Array, origin: Mapping[str, Any], spacing: tuple[float, ...] = ()) -> None:
    """Write a prediction on the grid of the image it was made for, in the smallest type that holds its labels.

    Args:
        path: ``.nii.gz``.
        label: (slices, rows, columns), canonical axes, whole numbers from 0 up.
        origin: ``affine``, ``shape`` and ``header`` of that image; without them the canonical axes are written with
            ``spacing``.
        spacing: Millimetres between slices, rows, columns; tells the unit where ``origin`` does not.
    """
    nib = require("nibabel", "data")
    if "affine" in origin:
        affine = np.asarray(origin["affine"], float)
        values = _from_canonical(label, affine)
    else:
        z, y, x = spacing if spacing else (1.0, 1.0, 1.0)
        affine, values = np.diag([-x, -y, z, 1.0]), label.transpose(2, 1, 0)  # columns to the left, rows to the back
    header: Mapping[str, Any] = origin.get("header", {})
    values = values.reshape(*values.shape, *[1] * (header.get("axes", 3) - 3))
    narrow = np.result_type(
        label.dtype if label.dtype.kind == "u" else np.min_scalar_type(int(label.max(initial=0))), np.uint8
    )
    file = nib.Nifti1Image(np.ascontiguousarray(values, narrow), affine)
    file.header.set_xyzt_units(*header.get("units", [_unit(affine, spacing)]))
    if "sform" in header:
        file.header.set_zooms((*header["zooms"], *[1.0] * (values.ndim - 3)))
        for key, set_form in (("qform", file.set_qform), ("sform", file.set_sform)):
            code, matrix = header[key]
            set_form(None if matrix is None else np.asarray(matrix), code, update_affine=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(file, str(path))


def _unit(affine: Array, spacing: tuple[float, ...]) -> str:
    """Tell the unit of an affine from a spacing that is known to be in millimetres."""
    ratio = np.prod(spacing) ** (1 / 3) / abs(np.linalg.det(affine[:3, :3])) ** (1 / 3) if spacing else 1.0
    return next((unit for unit, factor in _MILLIMETRES.items() if abs(ratio / factor - 1) < 0.1), "unknown")


def _stored(path: Path, frame: int | None) -> tuple[Array, Array, str]:
    """Return the values of a volume, in their own type where no slope scales them, its affine and its unit."""
    nib = require("nibabel", "data")
    with readable(path):
        file = nib.load(str(path))
        shape = tuple(int(n) for n in file.shape)
        check_real_values(path, np.dtype(file.get_data_dtype()))
        _check_room(path, shape, np.dtype(file.get_data_dtype()).itemsize, int(getattr(file.dataobj, "offset", 0)))
        frames = shape[3] if len(shape) > 3 and set(shape[4:]) <= {1} else 1
        if frame is not None and not 0 <= frame < frames:
            raise DataError(f"{path} has {frames} frame{'s' * (frames > 1)}; number {frame + 1} is wanted.")
        if len(shape) < 3 or math.prod(shape[3:]) != (1 if frame is None else frames) or 0 in shape:
            raise DataError(
                f"{path}: {size_in_words(shape)} values; a volume has 3 axes.", hint="save one frame a file"
            )
        check_memory(path, shape[:3])
        index = (..., *((0 if frame is None else frame,) + (0,) * (len(shape) - 4))) if len(shape) > 3 else (...,)
        values = np.asanyarray(file.dataobj[index])
        unit = file.header.get_xyzt_units()[0] if hasattr(file.header, "get_xyzt_units") else "mm"
        return values, np.asarray(file.affine, float), str(unit)


def _check_room(path: Path, shape: Sequence[int], itemsize: int, offset: int) -> None:
    """Refuse a header that claims more than its file can hold."""
    needed, there = math.prod(shape) * itemsize + offset, path.stat().st_size
    most = {".nii": there, ".gz": there * _DEFLATE}.get(path.suffix.lower())
    if most is not None and needed > most:
        raise DataError(
            f"{path} is cut short, or its header is wrong.",
            seen=f"the header says {size_in_words(shape)} values, {needed:,} bytes; the file has {there:,}",
            hint="copy or download it again",
        )


def _canonical(path: Path, values: Array, affine: Array, unit: str) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    scale = _MILLIMETRES.get(unit, 1.0)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = tuple(float(s) * scale for s in lengths)
    if not np.isfinite(affine).all() or not all(_SPACING[0] <= s <= _SPACING[1] for s in spacing):
        raise DataError(
            f"{path}: the header's spacing or unit is wrong.",
            seen=f"voxels of {size_in_words(tuple(round(s, 6) for s in spacing))} mm, unit {unit!r}",
            hint="image.header.set_zooms((…)); image.header.set_xyzt_units('mm'); nibabel.save(image, …)",
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < _FLAT:
        raise DataError(
            f"{path}: two axes of its affine fall together, so that it describes no volume.",
            seen=_rows(affine),
            hint="nibabel.save(nibabel.Nifti1Image(values, affine), …)   # with the affine of the scan",
        )
    turned, order = _to_canonical(values, affine)
    origin = {"affine": affine.tolist(), "shape": list(values.shape), "unit": unit}
    return turned, tuple(spacing[axis] for axis in order), origin


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return by how many millimetres the corners of two grids of one shape differ at most."""
    corners = np.array([[*(np.array(c) * (np.array(one["shape"]) - 1)), 1] for c in np.ndindex(2, 2, 2)])
    first, second = (corners @ np.asarray(o["affine"]).T * _MILLIMETRES.get(o["unit"], 1.0) for o in (one, other))
    return float(np.abs(first - second)[:, :3].max())


def _to_canonical(values: Array, affine: Array) -> tuple[Array, tuple[int, int, int]]:
    """Return (slices, rows, columns) and which axis of the file each of them was."""
    order, flips = _axes(affine)
    turned = np.flip(values, flips).transpose(order)
    return np.ascontiguousarray(turned), order


def _from_canonical(label: Array, affine: Array) -> Array:
    order, flips = _axes(affine)
    back: Array = np.flip(label.transpose(tuple(np.argsort(order))), flips)
    return back


def _axes(affine: Array) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Find which file axes run along (head, back, left), and which axes must be flipped for that.

    A NIfTI affine maps to (right, front, head): columns must run to the left and rows to the back, so both are minus.
    """
    nib = require("nibabel", "data")
    orientation = nib.io_orientation(affine)  # for each file axis: the world axis it follows, and its sign
    axis_of = {int(world): axis for axis, (world, _) in enumerate(orientation)}
    wanted = {0: -1, 1: -1, 2: 1}
    flips = tuple(axis for axis, (world, sign) in enumerate(orientation) if sign != wanted[int(world)])
    return (axis_of[2], axis_of[1], axis_of[0]), flips


def _rows(affine: Any) -> str:
    return np.array2string(np.asarray(affine)[:3], precision=3, separator=" ").replace("\n", "")
