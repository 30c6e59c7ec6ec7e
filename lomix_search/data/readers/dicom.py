"""CT series with contours: DICOM slices and one RTSTRUCT in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Case
from lomix_search.data.readers.contours import fill_plane, inside
from lomix_search.data.readers.dicom_file import numbers_of, path_of, pixel_values, read_dicom_file, value_of
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.errors import DataError

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_MOVED = 0.1  # pixels that corners of slices of one grid may differ by
_PLANE = 0.01  # mm between heights of one plane, as files round them
_XOR = "CLOSEDPLANAR_XOR"  # the one kind of contour that says: even-odd with the others of its plane


def read_dicom_case(name: str, files: Sequence[Path], region: str) -> Case:
    """Read an axial CT and one of its contoured regions.

    Where the contours name the series that they were drawn on, it is read; without that there must be one. A contour
    belongs to the slice that lies nearest, at most half a slice distance away.

    Args:
        name: What to call the case.
        files: All DICOM files of the patient: CT slices and one RTSTRUCT. Files of other modalities are left alone.
        region: Name of the region, e.g. ``"GTV-1"``.

    Returns:
        The case: Hounsfield units, and 1 where a pixel's centre lies inside the region.

    Raises:
        DataError: not an axial CT on one grid, no contours, or no such region; the message names the file.
    """
    folder = files[0].parent
    datasets = [read_dicom_file(path) for path in files]
    structures = [d for d in datasets if value_of(d, "Modality") == "RTSTRUCT"]
    found = [d for d in datasets if d.Modality == "CT"]
    if not found or len(structures) != 1:
        raise DataError(
            f"{folder}: {len(found)} CT slices and {len(structures)} RTSTRUCT files; need some and one.",
            seen=[str(path_of(d)) for d in structures[:8]],
            hint="one folder for each CT: its slices, and one RTSTRUCT file",
        )
    slices = sorted(
        _of_one_series(folder, found, structures[0]), key=lambda d: numbers_of(d, "ImagePositionPatient", 3)[2]
    )
    spacing, corner = _check_grid(folder, slices)
    with readable(path_of(structures[0])):  # numbers or names that its sequences lack
        _check_frame(slices[0], structures[0], region)
        contours = _planes(path_of(structures[0]), contours_of(structures[0], region))
    shape = (len(slices), int(slices[0].Rows), int(slices[0].Columns))
    check_memory(path_of(slices[0]), shape)
    image = np.stack([pixel_values(d) for d in slices])
    label = _label(path_of(structures[0]), region, contours, shape, spacing, corner)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = -corner[0], -corner[1], corner[2]
    origin = {"affine": affine.tolist(), "shape": list(shape[::-1])}
    return Case(name, image[:, None].astype(np.float32), label, spacing, origin)


# -- slices ------------------------------------------------------------------------------------------------------------


def _of_one_series(folder: Path, slices: Sequence[Any], structures: Any) -> list[Any]:
    """Keep the series that the contours name; without a name there must be one series, and no localizer in it."""
    series: dict[str, list[Any]] = {}
    for d in slices:
        series.setdefault(str(d.get("SeriesInstanceUID", "")), []).append(d)
    if named := _named_series(structures):
        if not (kept := [d for uid in named & set(series) for d in series[uid]]):
            raise DataError(
                f"{path_of(structures)}: its contours belong to a series that is not in the folder.",
                seen=[f"named: {', '.join(sorted(named))}", *_first_of(series)],
                hint="put the slices of that series and this file into one folder",
            )
        series = {uid: members for uid, members in series.items() if uid in named}
    else:
        kept = list(slices)
    if scouts := [d for d in kept if "LOCALIZER" in [str(v).upper() for v in d.get("ImageType", ())]]:
        raise DataError(
            f"{path_of(scouts[0])} is a localizer (scout view), not a slice.", hint=f"move it out of {folder}"
        )
    if len(series) > 1:
        raise DataError(
            f"{folder} holds {len(series)} series of CT slices, and the contours do not say which is theirs.",
            seen=_first_of(series),
            hint="keep one series a folder",
        )
    return kept


def _named_series(structures: Any) -> set[str]:
    with readable(path_of(structures)):
        frames = structures.get("ReferencedFrameOfReferenceSequence") or ()
        studies = [s for frame in frames for s in frame.get("RTReferencedStudySequence") or ()]
        named = [one for study in studies for one in study.get("RTReferencedSeriesSequence") or ()]
        return {str(one.SeriesInstanceUID) for one in named if one.get("SeriesInstanceUID")}


def _first_of(series: dict[str, list[Any]]) -> list[str]:
    return [
        f"series {uid or 'without a name'}: {len(m)} slices, e.g. {path_of(m[0]).name}" for uid, m in series.items()
    ]


def _check_grid(folder: Path, slices: Sequence[Any]) -> tuple[tuple[float, float, float], NDArray[np.float64]]:
    """Return the spacing (slices, rows, columns) and the first slice's corner, once all slices make one grid."""
    for d in slices:
        if not np.allclose(numbers_of(d, "ImageOrientationPatient", 6), _AXIAL, atol=1e-3):
            raise DataError(f"{path_of(d)}: the slices are not axial.", hint="resample them to axial slices")
        if min(numbers_of(d, "PixelSpacing", 2)) <= 0:
            raise DataError(
                f"{path_of(d)}: PixelSpacing must be above 0.",
                seen=str(d.PixelSpacing),
                hint="export the series again, or leave it out",
            )
    corners = np.array([numbers_of(d, "ImagePositionPatient", 3) for d in slices])
    steps, size = np.diff(corners[:, 2]), numbers_of(slices[0], "PixelSpacing", 2)
    for n in np.flatnonzero(steps < _PLANE).tolist():
        raise DataError(
            f"{path_of(slices[n])} and {path_of(slices[n + 1]).name} lie at one height ({corners[n, 2]:g} mm).",
            hint=f"remove one of them from {folder}, or move slices of another series out of it",
        )
    first, frame = _grid_of(slices[0]), slices[0].get("FrameOfReferenceUID")
    odd = [d for d in slices if _grid_of(d) != first or d.get("FrameOfReferenceUID") != frame]
    odd += [
        d for d, c in zip(slices, corners, strict=True) if (abs(c - corners[0])[1::-1] > _MOVED * np.array(size)).any()
    ]
    even = not len(steps) or float(np.ptp(steps)) <= 0.1 * float(steps.mean())
    if odd or not even:
        wide = int(abs(steps - np.median(steps)).argmax()) if len(steps) else 0
        raise DataError(
            f"{folder}: the slices do not form one grid.",
            seen=[f"{path_of(d).name} has another size, pixel spacing, corner or frame of reference" for d in odd[:3]]
            or f"slice distances {steps.min():g} … {steps.max():g} mm, "
            f"e.g. between {path_of(slices[wide]).name} and {path_of(slices[wide + 1]).name}",
            hint="remove slices of other series, or find the missing ones",
        )
    step = float(steps.mean()) if len(steps) else numbers_of(slices[0], "SliceThickness", 1)[0]
    return (step, size[0], size[1]), corners[0]


def _grid_of(d: Any) -> tuple[Any, ...]:
    return value_of(d, "Rows"), value_of(d, "Columns"), *(round(v, 4) for v in numbers_of(d, "PixelSpacing", 2))


# -- contours ----------------------------------------------------------------------------------------------------------


def _label(
    path: Path,
    region: str,
    planes: Sequence[tuple[float, list[Any]]],
    shape: tuple[int, ...],
    spacing: Sequence[float],
    corner: NDArray[np.float64],
) -> NDArray[np.uint8]:
    label = np.zeros(shape, np.uint8)
    for height, contours in planes:
        place = (height - corner[2]) / spacing[0]
        number = int(np.clip(np.ceil(place - 0.5 - 1e-6), 0, len(label) - 1))
        if abs(number - place) > 0.5 + 1e-3:
            raise DataError(
                f"{path}: a contour of {region} lies at {height:g} mm, outside the slices.",
                seen=f"slices from {corner[2]:g} to {corner[2] + spacing[0] * (len(label) - 1):g} mm",
                hint="export the contours with the slices that they were drawn on",
            )
        pixels = [((points[:, :2] - corner[:2]) / (spacing[2], spacing[1]), kind) for points, kind in contours]
        if any((p < -1.5).any() or (p > np.array(shape[:0:-1]) + 0.5).any() for p, _ in pixels):
            raise DataError(
                f"{path}: a contour of {region} at {height:g} mm lies outside the image.",
                hint="take the contours and the slices from one planning CT",
            )
        plane = fill_plane([p for p, kind in pixels if kind != _XOR], shape[1:])
        for odd in [inside(p, shape[1:]) for p, kind in pixels if kind == _XOR]:
            plane ^= odd
        label[number] |= plane
    if not label.any():
        raise DataError(
            f"{path}: {region} covers no pixel centre of the slices.",
            hint="leave the case out, or draw the region on these slices",
        )
    return label


def _planes(path: Path, contours: Sequence[tuple[NDArray[np.float64], str]]) -> list[tuple[float, list[Any]]]:
    """Put contours of one height together, lowest first."""
    planes: list[tuple[float, list[Any]]] = []
    for points, kind in sorted(contours, key=lambda contour: float(contour[0][0, 2])):
        height = float(points[0, 2])
        if np.ptp(points[:, 2]) > _PLANE:
            raise DataError(
                f"{path}: the corners of a contour at {height:g} mm are not in one plane.",
                hint="export the contours in the plane of the slices",
            )
        if not planes or height - planes[-1][0] > _PLANE:
            planes.append((height, []))
        planes[-1][1].append((points, kind))
    return planes


def contours_of(structures: Any, region: str) -> list[tuple[NDArray[np.float64], str]]:
    """Read the contours of a region.

    Args:
        structures: pydicom's data set of an RTSTRUCT.
        region: Name of the region.

    Returns:
        The corners (n, 3), in mm, and the kind of every contour.

    Raises:
        DataError: no such region or two of that name, nothing drawn, or contours that are not closed and planar.
    """
    path, number = path_of(structures), int(_region(structures, region).ROINumber)
    found = [r for r in value_of(structures, "ROIContourSequence") if int(r.ReferencedROINumber) == number]
    contours = []
    for c in (c for r in found for c in r.get("ContourSequence") or ()):
        kind = str(c.get("ContourGeometricType", ""))
        if kind not in ("CLOSED_PLANAR", _XOR):
            raise DataError(
                f"{path}: a contour of {region} is {kind or 'of no kind'}; need CLOSED_PLANAR.",
                hint="export the region as closed contours, or as a DICOM SEG",
            )
        with readable(path):
            points = np.array([float(v) for v in c.ContourData]).reshape(-1, 3)
            if not len(points) or not np.isfinite(points).all():
                raise ValueError(f"corners of {region} that are missing or not finite")
        contours.append((points, kind))
    if not contours:
        raise DataError(f"{path}: nothing is drawn for {region}.", hint="leave this patient out, or contour it")
    return contours


def _region(structures: Any, region: str) -> Any:
    known = list(value_of(structures, "StructureSetROISequence"))
    found = [roi for roi in known if str(roi.ROIName) == region]
    if not found:
        raise DataError(
            f"{path_of(structures)}: no region {region!r}.",
            seen=f"it has {', '.join(str(r.ROIName) for r in known)}",
            hint="leave the case out, or name the region in it as in the others",
        )
    if len(found) > 1:
        raise DataError(
            f"{path_of(structures)}: {len(found)} regions {region!r}; it must be clear which is meant.",
            seen=f"numbers {', '.join(str(roi.ROINumber) for roi in found)}",
            hint="rename or remove one of them",
        )
    return found[0]


def _check_frame(first: Any, structures: Any, region: str) -> None:
    """Contours in another frame of reference would lie beside what they mean."""
    mine, theirs = first.get("FrameOfReferenceUID"), _region(structures, region).get("ReferencedFrameOfReferenceUID")
    if mine and theirs and mine != theirs:
        raise DataError(
            f"{path_of(structures)}: {region} was drawn in another frame of reference than that of the slices.",
            seen=[f"contours {theirs}", f"{path_of(first).name} {mine}"],
            hint="take the contours and the slices from one planning CT",
        )
