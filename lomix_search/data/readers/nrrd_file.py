"""NRRD volumes, and 3D Slicer's segmentations (``.seg.nrrd``) with the names of their segments."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.grid import affine_of, canonical
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values, float_of, whole_labels
from lomix_search.errors import DataError, require

# Factors of the three directions that turn a space into (left, back, head), which grids are made of.
_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_PACKED = 50_000  # no packed file holds more bytes than this a byte; bzip2 packs zeros that far
_HINT = "nrrd.write(NEW, values, {'space': 'left-posterior-superior', 'space directions': …, 'space origin': …})"


def read_nrrd_image(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a volume of one channel or several.

    Args:
        path: ``.nrrd``. Values that lie in another file are not followed.

    Returns:
        (slices, channels, rows, columns), spacing in mm, and affine, shape and unit of its grid.

    Raises:
        DataError: unreadable, cut short, not 3D, or a grid that makes no sense.
    """
    values, affine = _stored(path)
    return _canonical(path, values.astype(float_of(values.dtype)), affine)


def read_nrrd_label(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a label, also one of 3D Slicer's segments where they do not overlap.

    Args:
        path: ``.nrrd`` or ``.seg.nrrd``.

    Returns:
        (slices, rows, columns) in the smallest unsigned type, spacing and origin.

    Raises:
        DataError: as :func:`read_nrrd_image`; segments in several layers; labels that are not whole numbers.
    """
    values, affine = _stored(path)
    if values.shape[3] > 1:
        raise DataError(
            f"{path}: segments that overlap, in {values.shape[3]} layers; a label has one value a voxel.",
            hint="in 3D Slicer: Segmentations, Export to new labelmap; then save the labelmap as .nrrd",
        )
    return _canonical(path, whole_labels(values[..., 0], path), affine)


def segment_names(path: Path) -> dict[int, str]:
    """Return what a ``.seg.nrrd`` calls its label values; empty for any other NRRD file."""
    header = _header(path)
    keys = [key.removesuffix("_LabelValue") for key in header if str(key).endswith("_LabelValue")]
    with readable(path):
        return {int(header[f"{key}_LabelValue"]): str(header.get(f"{key}_Name", key)) for key in sorted(keys)}


def _canonical(path: Path, values: Array, affine: Array) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Turn values into the canonical axes; a spacing that the header does not say is not known."""
    turned, spacing, origin = canonical(path, values, affine, hint=_HINT)
    return turned, spacing if _header(path).keys() & {"space directions", "spacings"} else (), origin


def _header(path: Path) -> Mapping[str, Any]:
    nrrd = require("nrrd", "data")
    with readable(path):
        header: Mapping[str, Any] = nrrd.read_header(str(path))
        return header


def _stored(path: Path) -> tuple[Array, Array]:
    """Return values (i, j, k, channels) in their own type, and the affine."""
    nrrd, header = require("nrrd", "data"), _header(path)
    if key := next((k for k in ("data file", "datafile") if k in header), None):
        raise DataError(
            f"{path}: its values lie in another file, which is not followed.",
            seen=f"{key}: {header[key]}",
            hint="save it as one file, e.g. with 3D Slicer or SimpleITK.WriteImage(image, 'NEW.nrrd')",
        )
    with readable(path):
        shape, there = tuple(int(n) for n in header["sizes"]), path.stat().st_size
        packed = str(header.get("encoding")).lower() in ("gzip", "gz", "bzip2", "bz2")
        if math.prod(shape) > there * (_PACKED if packed else 1):
            raise ValueError(f"its header says {size_in_words(shape)} values, and it has {there:,} bytes")
        check_memory(path, shape)
        values = nrrd.read(str(path))[0]
    check_real_values(path, values.dtype)
    with readable(path):
        return _with_channels(path, values, header), _affine(path, header)


def _spatial(path: Path, header: Mapping[str, Any]) -> list[int]:
    """Return which axes lie in space: those with a direction, or with a kind that says so."""
    count = int(header["dimension"])
    if (directions := header.get("space directions")) is not None:
        axes = [n for n, one in enumerate(directions) if one is not None and np.isfinite(np.asarray(one, float)).all()]
    else:
        kinds = header.get("kinds", ["domain"] * count)
        axes = [n for n, kind in enumerate(kinds) if kind in ("domain", "space")]
    if len(axes) != 3 or count - 3 not in (0, 1):
        raise DataError(
            f"{path}: {count} axes, {len(axes)} of them in space; a volume has 3, and may have one of channels.",
            seen=f"sizes {size_in_words(int(n) for n in header['sizes'])}, kinds {header.get('kinds', 'not said')}",
            hint="save one volume a file",
        )
    return axes


def _with_channels(path: Path, values: Array, header: Mapping[str, Any]) -> Array:
    axes = _spatial(path, header)
    if 0 in values.shape:
        raise DataError(
            f"{path}: {size_in_words(values.shape)} values; a volume has no axis of 0.",
            hint="write the file again, or leave it out",
        )
    return values[..., None] if values.ndim == 3 else np.moveaxis(values, ({0, 1, 2, 3} - set(axes)).pop(), 3)


def _affine(path: Path, header: Mapping[str, Any]) -> Array:
    axes, space = _spatial(path, header), str(header.get("space", "lps")).lower()
    if space not in _SPACES:
        raise DataError(f"{path}: its space is {space!r}; how it lies in a patient is not known.", hint=_HINT)
    factors = np.array(_SPACES[space], float)
    with readable(path):
        if (directions := header.get("space directions")) is not None:
            steps = np.array([np.asarray(directions[n], float) for n in axes]).T
        else:
            steps = np.diag([float(header["spacings"][n]) for n in axes] if "spacings" in header else [1.0] * 3)
        start = np.asarray(header.get("space origin", np.zeros(3)), float)
        return affine_of(factors[:, None] * steps, factors * start)
