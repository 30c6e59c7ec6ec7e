"""A DICOM series of slices, single or as frames, of any modality and orientation: one volume with its grid."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.readers.dicom_file import numbers_of, path_of, pixel_values, read_dicom_file, value_of
from lomix_search.data.readers.dicom_frames import DicomFrame, frames_of
from lomix_search.data.readers.grid import affine_of, canonical
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import float_of
from lomix_search.errors import DataError

LABELS = ("RTSTRUCT", "SEG")
"""Modalities of labels: contours and segmentations."""

NO_IMAGES = (*LABELS, "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG")
"""Modalities of files that lie beside slices and are none."""

_UNEVEN = 0.1  # of the slice distance, by which single distances may differ
_MOVED = 0.1  # pixels by which slices may lie beside each other
_SPACING_HINT = "copy or export the series again, with its PixelSpacing and ImagePositionPatient"


def sort_dicom(files: Iterable[Path]) -> tuple[dict[str, tuple[Path, ...]], list[Path]]:
    """Sort DICOM files into series of images and labels.

    Args:
        files: DICOM files.

    Returns:
        Images by the UID of their series, in the order in which the series are met; and files of contours (RTSTRUCT)
        and segmentations (SEG). What is neither (plans, reports, doses) is left out.

    Raises:
        DataError: a file is no DICOM file.
    """
    series: dict[str, list[Path]] = {}
    labels = []
    for path in files:
        d = read_dicom_file(path, pixels=False)
        if (modality := value_of(d, "Modality")) in LABELS:
            labels.append(path)
        elif modality not in NO_IMAGES:
            series.setdefault(_uid(d), []).append(path)
    return {uid: tuple(members) for uid, members in series.items()}, labels


def read_series(files: Sequence[Path]) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a series as one volume.

    Args:
        files: Its slices, in any order, or one enhanced file of many; files that are no images are left alone.

    Returns:
        (slices, rows, columns), slope and intercept applied; spacing in mm; affine, shape and unit of the grid whose
        axes are columns, rows and slices of the series, and the ``modality``.

    Raises:
        DataError: no slices, several series, or slices that do not form one grid; the files are named.
    """
    images = [d for d in map(read_dicom_file, files) if value_of(d, "Modality") not in NO_IMAGES]
    folder = files[0].parent
    if len(series := set(map(_uid, images))) != 1:
        raise DataError(f"{folder}: {len(series)} series of DICOM slices; need one.", hint="keep one series a folder")
    slices = [one for d in images for one in frames_of(d)]
    ordered, affine = _grid(folder, slices)
    shape = (len(ordered), int(ordered[0].Rows), int(ordered[0].Columns))
    check_memory(path_of(ordered[0]), shape)
    planes = [pixel_values(d) for d in ordered]
    values = np.stack(planes).astype(float_of(np.dtype(ordered[0].pixel_array.dtype)))
    turned, spacing, origin = canonical(path_of(ordered[0]), values.transpose(2, 1, 0), affine, "mm", _SPACING_HINT)
    return turned, spacing, origin | {"modality": str(value_of(ordered[0], "Modality"))}


def _grid(folder: Path, slices: Sequence[Any]) -> tuple[list[Any], Array]:
    """Return the slices in order along their normal, and the affine of (column, row, slice)."""
    turned = np.array([numbers_of(d, "ImageOrientationPatient", 6) for d in slices])
    normal = np.cross(turned[0, :3], turned[0, 3:])
    places = np.array([numbers_of(d, "ImagePositionPatient", 3) for d in slices])
    order = np.argsort(places @ normal, kind="stable")
    ordered, places = [slices[i] for i in order], places[order]
    size = numbers_of(ordered[0], "PixelSpacing", 2)
    if min(size) <= 0:
        raise DataError(f"{path_of(ordered[0])}: PixelSpacing must be above 0.", seen=str(size), hint=_SPACING_HINT)
    step = _step(folder, ordered, places @ normal)
    across = (places - places[0]) - np.outer((places - places[0]) @ normal, normal)
    odd = [d for d, away in zip(ordered, across, strict=True) if np.linalg.norm(away) > _MOVED * min(size)]
    odd += [d for d, o in zip(slices, turned, strict=True) if np.abs(o - turned[0]).max() > 1e-3]
    odd += [d for d in ordered if _size_of(d) != _size_of(ordered[0])]
    if odd:
        raise DataError(
            f"{folder}: the slices do not form one grid.",
            seen=[f"{_called(d)} has another size, pixel spacing, place or orientation" for d in odd[:3]],
            hint="remove slices of other series, or those that are tilted or moved",
        )
    directions = np.stack([turned[0, :3] * size[1], turned[0, 3:] * size[0], normal * step], 1)
    return ordered, affine_of(directions, places[0])


def _step(folder: Path, ordered: Sequence[Any], heights: Array) -> float:
    """Return the distance between slices, which must be one."""
    if len(ordered) == 1:
        return numbers_of(ordered[0], "SliceThickness", 1)[0]
    steps = np.diff(heights)
    if steps.min() <= 0 or np.abs(steps - np.median(steps)).max() > _UNEVEN * np.median(steps):
        at = int(np.abs(steps - np.median(steps)).argmax())
        raise DataError(
            f"{folder}: the slices do not form one grid.",
            seen=f"slice distances {steps.min():g} … {steps.max():g} mm, "
            f"e.g. between {_called(ordered[at])} and {_called(ordered[at + 1])}",
            hint="remove slices of other series or that are there twice, or find the missing ones; "
            "frames of several times, echoes or stacks are several volumes: export each by itself",
        )
    return float(steps.mean())


def _called(d: Any) -> str:
    name = path_of(d).name
    return f"{name}, frame {d.number + 1}" if isinstance(d, DicomFrame) else name


def _uid(d: Any) -> str:
    with readable(path_of(d)):
        return str(d.get("SeriesInstanceUID", ""))


def _size_of(d: Any) -> tuple[Any, ...]:
    with readable(path_of(d)):
        return value_of(d, "Rows"), value_of(d, "Columns"), *(round(v, 4) for v in numbers_of(d, "PixelSpacing", 2))
