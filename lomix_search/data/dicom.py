"""CT series with contours: DICOM slices and one RTSTRUCT in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.volumes import Case, readable
from lomix_search.errors import DataError, require

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def read_dicom_case(name: str, files: Sequence[Path], region: str) -> Case:
    """Read an axial CT and one of its contoured regions.

    Args:
        name: What to call the case.
        files: All DICOM files of the patient: CT slices and one RTSTRUCT.
        region: Name of the region, e.g. ``"GTV-1"``.

    Returns:
        The case: Hounsfield units, and 1 where a pixel's centre lies inside a contour.

    Raises:
        DataError: not an axial CT on one grid, no contours, or no such region.
    """
    folder = files[0].parent
    datasets = [_read(path) for path in files]
    slices = sorted((d for d in datasets if d.Modality == "CT"), key=lambda d: float(d.ImagePositionPatient[2]))
    contours = [d for d in datasets if d.Modality == "RTSTRUCT"]
    if not slices or len(contours) != 1:
        raise DataError(f"{folder}: {len(slices)} CT slices and {len(contours)} RTSTRUCT files; need some and one.")
    heights = np.array([float(d.ImagePositionPatient[2]) for d in slices])
    _check_grid(folder, slices, heights)
    first = slices[0]
    step = float(np.diff(heights).mean()) if len(heights) > 1 else float(first.SliceThickness)
    spacing = (step, float(first.PixelSpacing[0]), float(first.PixelSpacing[1]))
    image = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])
    label = np.zeros(image.shape, np.uint8)
    corner = np.array([float(v) for v in first.ImagePositionPatient])
    for points in _contours(folder, contours[0], region):
        number = int(np.abs(heights - points[0, 2]).argmin())
        if abs(heights[number] - points[0, 2]) > step / 2:
            raise DataError(f"{folder}: a contour of {region} lies at {points[0, 2]:g} mm, outside the slices.")
        pixels = (points[:, :2] - corner[:2]) / (spacing[2], spacing[1])
        label[number] ^= inside(pixels, label.shape[1:])  # a contour within a contour is a hole
    affine = np.diag([-spacing[2], -spacing[1], step, 1.0])
    affine[:3, 3] = -corner[0], -corner[1], corner[2]
    origin = {"affine": affine.tolist(), "shape": list(image.shape[::-1])}
    return Case(name, image[:, None].astype(np.float32), label, spacing, origin)


def inside(polygon: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Fill a polygon by the even-odd rule.

    Args:
        polygon: (n, 2) corners as (column, row); pixel centres have whole numbers.
        shape: Rows, columns.

    Returns:
        1 where a pixel's centre lies inside.
    """
    filled = np.zeros(tuple(shape), bool)
    top, bottom = max(0, int(np.floor(polygon[:, 1].min()))), int(np.ceil(polygon[:, 1].max())) + 1
    rows, columns = np.arange(shape[0])[top:bottom, None], np.arange(shape[1])[None]
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y1 != y2:
            filled[top:bottom] ^= ((y1 > rows) != (y2 > rows)) & (columns < (x2 - x1) * (rows - y1) / (y2 - y1) + x1)
    return filled.astype(np.uint8)


def _read(path: Path) -> Any:
    pydicom = require("pydicom", "data")
    with readable(path):
        try:
            return pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError as cause:
            raise ValueError(str(cause)) from None


def _check_grid(folder: Path, slices: Sequence[Any], heights: NDArray[np.float64]) -> None:
    if any(not np.allclose([float(v) for v in d.ImageOrientationPatient], _AXIAL, atol=1e-3) for d in slices):
        raise DataError(f"{folder}: the slices are not axial.", hint="resample them to axial slices")
    grids = {(d.Rows, d.Columns, *(round(float(v), 4) for v in d.PixelSpacing)) for d in slices}
    steps = np.diff(heights)
    if len(grids) > 1 or (len(steps) and np.ptp(steps) > 0.1 * steps.mean()):
        raise DataError(
            f"{folder}: the slices do not form one grid.",
            seen=f"{len(grids)} pixel grids; slice distances {steps.min():g} … {steps.max():g} mm",
            hint="remove slices of other series, or find the missing ones",
        )


def _contours(folder: Path, structures: Any, region: str) -> list[NDArray[np.float64]]:
    """Return the corners (n, 3), in mm, of every contour of a region."""
    number_of = {str(roi.ROIName): int(roi.ROINumber) for roi in structures.StructureSetROISequence}
    if region not in number_of:
        raise DataError(f"{folder}: no region {region!r}.", seen=f"it has {', '.join(number_of)}")
    found = [r for r in structures.ROIContourSequence if int(r.ReferencedROINumber) == number_of[region]]
    contours = [c for r in found for c in r.get("ContourSequence", ())]
    return [np.array([float(v) for v in c.ContourData]).reshape(-1, 3) for c in contours]
