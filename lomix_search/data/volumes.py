"""Cases in one canonical form, read from NIfTI, npz and h5, and written back where they came from.

An image is ``(slices, channels, rows, columns)``: slices run from feet to head, rows from front to back, columns from
the patient's right to left, so that a slice looks as radiologists show it. A label is ``(slices, rows, columns)``.
"""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError, require

Array = NDArray[Any]

_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_SPACING = (0.01, 100.0)  # millimetres; outside, a header's unit is wrong


@dataclass(frozen=True)
class Case:
    """One case: a volume, or a picture as a volume of one slice.

    Args:
        name: Its name; may hold ``/``.
        image: (slices, channels, rows, columns).
        label: (slices, rows, columns), raw label values.
        spacing: Millimetres between slices, rows, columns; empty where it is not known.
        origin: How to write a prediction in the file's own form: ``affine``, ``shape`` and ``header`` of a NIfTI file;
            ``size`` of a picture, with ``values``, pairs of a label value and what the file has in its place, where
            the reader changed them; empty otherwise.
        patient: Whose it is; intervals are drawn by patient. The case's own name when left out.
        small: The image as training sees it, (slices, channels, rows, columns) of that size; resized from ``image``
            when left out.
        corners: ``small`` has its corner pixels on those of ``image``, as volumes that earlier versions prepared.
        values: What the raw file writes for class 0, 1, …, where it is not these numbers; predictions are saved so.
    """

    name: str
    image: Array
    label: Array
    spacing: tuple[float, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    patient: str = ""
    small: Array | None = None
    corners: bool = False
    values: tuple[int, ...] = ()


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
    raw, _, of_label = read_nifti(label)
    if origin["shape"] != of_label["shape"]:
        raise DataError(
            f"{label}: image and label have different shapes.",
            seen=[f"image {_times(origin['shape'])} ({image})", f"label {_times(of_label['shape'])}"],
        )
    if not np.allclose(origin["affine"], of_label["affine"], atol=1e-2):
        raise DataError(
            f"{label}: image and label lie on different grids (their affines differ).",
            seen=[f"image {_rows(origin['affine'])}", f"label {_rows(of_label['affine'])}"],
            hint="resample the label to its image, or copy the image's affine if only the header is wrong",
        )
    origin |= {"header": nifti_header(image, label)}
    return Case(name, values[:, None], whole_labels(raw, label), spacing, origin)


def read_nifti(path: Path, frame: int | None = None) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a NIfTI file into the canonical axes.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        frame: Which frame of a 4D file, from 0.

    Returns:
        Values (slices, rows, columns), float32; spacing in mm; affine and shape of the file's own grid.

    Raises:
        DataError: the file is missing, empty, cut short, not a volume, or its spacing makes no sense.
    """
    nib = require("nibabel", "data")
    with readable(path):
        file = nib.load(str(path))
        shape = file.shape
        if len(shape) == 4 and (frame is not None or shape[3] == 1):
            values = np.asarray(file.dataobj[..., frame or 0], np.float32)
        else:
            values = np.asarray(file.dataobj, np.float32)
        unit = file.header.get_xyzt_units()[0] if hasattr(file.header, "get_xyzt_units") else "mm"
    if values.ndim != 3:
        raise DataError(f"{path}: {_times(shape)} values; a volume has 3 axes.", hint="save one frame a file")
    scale = _MILLIMETRES.get(unit, 1.0)
    affine = np.asarray(file.affine, float)
    spacing = tuple(float(s) * scale for s in nib.affines.voxel_sizes(affine))
    if not all(_SPACING[0] <= s <= _SPACING[1] for s in spacing):
        raise DataError(
            f"{path}: the header's spacing or unit is wrong.",
            seen=f"voxels of {_times(tuple(round(s, 6) for s in spacing))} mm, unit {unit!r}",
            hint="image.header.set_zooms((…)); image.header.set_xyzt_units('mm'); nibabel.save(image, …)",
        )
    turned, order = _to_canonical(values, affine)
    return turned, tuple(spacing[axis] for axis in order), {"affine": affine.tolist(), "shape": list(values.shape)}


def nifti_header(image: Path, label: Path) -> dict[str, Any]:
    """Return what else of a NIfTI file's header a prediction must have, to lie where the file lies in every program.

    Args:
        image: Whose grid, units and codes count.
        label: Who says how many axes a segmentation of it has: 3, or 4 with one frame.

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
        z, y, x = spacing or (1.0, 1.0, 1.0)
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


def read_npz(path: Path, image_key: str) -> tuple[Array, Array]:
    """Read a slice or volume of a community's preprocessed form.

    Args:
        path: ``.npz`` with an image and ``label``.
        image_key: ``"image"`` or ``"img"``.

    Returns:
        Image and label as stored.

    Raises:
        DataError: unreadable, a key is missing, or shapes differ.
    """
    with readable(path), np.load(path, allow_pickle=False) as content:
        return _pair_of(path, content, image_key)


def read_h5(path: Path, image_key: str = "image") -> tuple[Array, Array]:
    """Read a volume of the community's preprocessed form.

    Args:
        path: ``.h5`` with an image and ``label``, slices first.
        image_key: Name of the image.

    Returns:
        Image and label as stored.

    Raises:
        DataError: unreadable, a key is missing, or shapes differ.
    """
    h5py = require("h5py", "data")
    with readable(path), h5py.File(path, "r") as content:
        return _pair_of(path, content, image_key)


def whole_labels(label: Array, path: Path) -> Array:
    """Turn labels that may be stored as floats into whole numbers.

    Args:
        label: Any shape.
        path: The file they come from.

    Returns:
        The same values in the smallest unsigned type that holds them.

    Raises:
        DataError: values that are not whole, negative, or above 2³² − 1.
    """
    if label.dtype.kind not in "iub":
        whole = np.rint(label)
        if not np.isfinite(label).all() or np.abs(label - whole).max(initial=0) > 1e-3:
            odd = np.unique(label[~(np.abs(label - whole) <= 1e-3)])[:5]
            raise DataError(
                f"{path}: labels must be whole numbers.",
                seen=f"values such as {', '.join(f'{v:g}' for v in odd)}",
                hint="resample labels with nearest-neighbour interpolation",
            )
        label = whole
    low, high = int(label.min(initial=0)), int(label.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise DataError(f"{path}: labels must lie in 0 … 2³² − 1.", seen=f"{low} … {high}")
    return label.astype(np.min_scalar_type(high))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a reader throws at a missing, empty, cut or foreign file into one error that names it.

    Args:
        path: The file that is read inside.

    Yields:
        Nothing.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty.", hint="copy or download it again")
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except MemoryError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as cause:
        raise DataError(
            f"{path} cannot be read; it is cut short or not what its name says.",
            seen=f"{type(cause).__name__}: {cause}",
            hint="copy or download it again",
        ) from None
    except Exception as cause:  # nibabel, zipfile and PIL each have error classes of their own, below Exception only
        if type(cause).__module__.partition(".")[0] in ("nibabel", "zipfile", "PIL"):
            raise DataError(
                f"{path} cannot be read; it is cut short or not what its name says.",
                seen=f"{type(cause).__name__}: {cause}",
                hint="copy or download it again",
            ) from None
        raise


def _pair_of(path: Path, content: Any, image_key: str) -> tuple[Array, Array]:
    if missing := [key for key in (image_key, "label") if key not in content]:
        raise DataError(f"{path} has no {' and no '.join(missing)}.", seen=f"it has {', '.join(content)}")
    image, label = np.asarray(content[image_key]), np.asarray(content["label"])
    if image.shape != label.shape:
        raise DataError(
            f"{path}: image and label have different shapes.",
            seen=f"image {_times(image.shape)}, label {_times(label.shape)}",
        )
    return image.astype(np.float32), whole_labels(label, path)


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


def _times(shape: Any) -> str:
    return " × ".join(f"{value:g}" for value in shape)


def _rows(affine: Any) -> str:
    return np.array2string(np.asarray(affine)[:3], precision=3, separator=" ").replace("\n", "")
