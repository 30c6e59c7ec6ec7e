"""NIfTI volumes with their labels, read into the canonical axes, and predictions written back where they came from."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, Case, size_in_words
from lomix_search.data.readers.grid import MILLIMETRES, canonical, check_one_grid, from_canonical, wrong_spacing
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values, float_of, whole_labels
from lomix_search.errors import DataError, require

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
    check_one_grid(image, origin, spacing, label, of_label)
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
    return canonical(path, values.astype(float_of(values.dtype)), affine, unit)


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
    return canonical(path, whole_labels(values, path), affine, unit)


def read_nifti_image(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read an image of one channel or several, which lie along the fourth axis of its file.

    Args:
        path: ``.nii`` or ``.nii.gz``, 3D or 4D.

    Returns:
        As :func:`read_nifti`, but values are (slices, channels, rows, columns), and the origin has its ``header``.

    Raises:
        DataError: as :func:`read_nifti`.
    """
    values, affine, unit = _stored(path, None, channels=True)
    turned, spacing, origin = canonical(path, values.astype(float_of(values.dtype)), affine, unit)
    return turned, spacing, origin | {"header": nifti_header(path)}


def nifti_header(image: Path, label: Path | None = None) -> dict[str, Any]:
    """Return what else a prediction needs of an image's header, so that every program shows both in one place.

    Args:
        image: Whose grid, units and codes count.
        label: Its label, which has as many axes as a prediction gets: 3, or 4 with one frame. 3 when left out.

    Returns:
        ``units`` of space and time, ``zooms``, ``sform`` and ``qform`` as (code, matrix), and ``axes``.
    """
    nib = require("nibabel", "data")
    with readable(image), readable(label or image):
        header, axes = nib.load(str(image)).header, 3 if label is None else len(nib.load(str(label)).shape)
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
    values = _on_grid(label, origin)
    values = values.reshape(*values.shape, *[1] * (origin.get("header", {}).get("axes", 3) - 3))
    narrow = np.result_type(
        label.dtype if label.dtype.kind == "u" else np.min_scalar_type(int(label.max(initial=0))), np.uint8
    )
    _save(path, np.ascontiguousarray(values, narrow), origin, spacing)


def write_nifti_scores(path: Path, scores: Array, origin: Mapping[str, Any], spacing: tuple[float, ...] = ()) -> None:
    """Write scores of classes on the grid of the image they were made for, float32, the classes on the fourth axis.

    Args:
        path: ``.nii.gz``.
        scores: (classes, slices, rows, columns), canonical axes.
        origin: As for :func:`write_nifti`.
        spacing: As for :func:`write_nifti`.
    """
    _save(path, np.stack([_on_grid(one, origin) for one in scores], -1).astype(np.float32), origin, spacing)


def _on_grid(values: Array, origin: Mapping[str, Any]) -> Array:
    """Turn (slices, rows, columns) into a file's axes; without an affine: to the left, to the back, to the head."""
    if "affine" in origin:
        return from_canonical(values, np.asarray(origin["affine"], float))
    return values.transpose(2, 1, 0)


def _save(path: Path, values: Array, origin: Mapping[str, Any], spacing: tuple[float, ...]) -> None:
    nib = require("nibabel", "data")
    z, y, x = spacing if spacing else (1.0, 1.0, 1.0)
    affine = np.asarray(origin["affine"], float) if "affine" in origin else np.diag([-x, -y, z, 1.0])
    header: Mapping[str, Any] = origin.get("header", {})
    file = nib.Nifti1Image(values, affine)
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
    return next((unit for unit, factor in MILLIMETRES.items() if abs(ratio / factor - 1) < 0.1), "unknown")


def _stored(path: Path, frame: int | None, channels: bool = False) -> tuple[Array, Array, str]:
    """Return the values of a volume, in their own type where no slope scales them, its affine and its unit.

    They are (i, j, k), or (i, j, k, n) where the fourth axis holds channels.
    """
    nib = require("nibabel", "data")
    with readable(path):
        file = nib.load(str(path))
        shape = tuple(int(n) for n in file.shape)
        check_real_values(path, np.dtype(file.get_data_dtype()))
        _check_zooms(path, file.header)
        _check_room(path, shape, np.dtype(file.get_data_dtype()).itemsize, int(getattr(file.dataobj, "offset", 0)))
        frames = shape[3] if len(shape) > 3 and set(shape[4:]) <= {1} else 1
        if frame is not None and not 0 <= frame < frames:
            raise DataError(
                f"{path} has {frames} frame{'s' * (frames > 1)}; number {frame + 1} is wanted.",
                hint=f"number 1 … {frames}",
            )
        many = channels or frame is not None
        if len(shape) < 3 or math.prod(shape[3:]) != (frames if many else 1) or 0 in shape:
            raise DataError(
                f"{path}: {size_in_words(shape)} values; a volume has 3 axes.", hint="save one frame a file"
            )
        check_memory(path, shape if channels else shape[:3])
        if channels:
            values = np.asanyarray(file.dataobj).reshape(*shape[:3], frames)
        else:
            index = (..., *((frame or 0,) + (0,) * (len(shape) - 4))) if len(shape) > 3 else (...,)
            values = np.asanyarray(file.dataobj[index])
        unit = file.header.get_xyzt_units()[0] if hasattr(file.header, "get_xyzt_units") else "mm"
        return values, np.asarray(file.affine, float), str(unit)


def _check_zooms(path: Path, header: Any) -> None:
    """Refuse a distance of 0 between voxels that nothing else says; nibabel alone would take it for 1."""
    nib, kind = require("nibabel", "data"), type(header)
    if not isinstance(header, nib.Nifti1Header) or not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    with nib.openers.Opener(str(path)) as file:
        raw = kind(file.read(kind.template_dtype.itemsize), check=False)
    zooms = [float(zoom) for zoom in raw["pixdim"][1:4]]
    if not int(raw["sform_code"]) and 0 in zooms:
        raise wrong_spacing(path, zooms, str(header.get_xyzt_units()[0]))


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
