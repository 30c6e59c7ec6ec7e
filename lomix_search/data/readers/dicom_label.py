"""Labels of DICOM series: contours (RTSTRUCT) and segmentations (SEG), put on the grid of their series."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Array
from lomix_search.data.readers.contours import fill_plane
from lomix_search.data.readers.dicom import contours_of
from lomix_search.data.readers.dicom_file import read_dicom_file, value_of
from lomix_search.data.readers.grid import turned
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.errors import DataError

_BESIDE = 0.1  # pixels by which a frame may lie beside its slice
_BETWEEN = 0.5  # slices by which a contour may lie beside its slice
_Mask = NDArray[np.bool_]


def dicom_label_names(path: Path) -> list[str]:
    """Return the names of the regions of a file, in its order.

    Args:
        path: RTSTRUCT or SEG.

    Returns:
        Names of regions that have a contour, or of segments.

    Raises:
        DataError: it is neither, or has no names.
    """
    d = read_dicom_file(path, pixels=False)
    with readable(path):
        if value_of(d, "Modality") == "SEG":
            return [str(one.SegmentLabel) for one in value_of(d, "SegmentSequence")]
        drawn = {int(r.ReferencedROINumber) for r in value_of(d, "ROIContourSequence") if r.get("ContourSequence")}
        return [str(r.ROIName) for r in value_of(d, "StructureSetROISequence") if int(r.ROINumber) in drawn]


def read_dicom_label(path: Path, origin: Mapping[str, Any], numbers: Mapping[str, int]) -> Array:
    """Read the regions that have a number.

    Args:
        path: RTSTRUCT or SEG.
        origin: ``affine`` and ``shape`` of the series.
        numbers: Label value of each region by its name.

    Returns:
        (slices, rows, columns), canonical axes, uint8 or uint16; 0 where no region is.

    Raises:
        DataError: regions that overlap, or do not lie on the grid of the series.
    """
    d = read_dicom_file(path)
    shape = tuple(int(n) for n in reversed(origin["shape"]))
    check_memory(path, shape)
    affine = np.asarray(origin["affine"], float)
    read = _segments if value_of(d, "Modality") == "SEG" else _regions
    label, owner = np.zeros(shape, np.min_scalar_type(max(numbers.values(), default=0))), dict[int, str]()
    with readable(path):  # numbers or names that its sequences lack
        masks = read(path, d, affine, shape, numbers)
    for name, mask in masks.items():
        number = numbers[name]
        if (found := np.unique(label[mask & (label > 0)])).size:
            other = owner[int(found[0])]
            raise DataError(
                f"{path}: {other} and {name} overlap in {int((mask & (label == found[0])).sum())} voxels; a label has "
                "one value a voxel.",
                hint=f'--classes "{name}" takes this region alone; name all that you mean, in any order',
            )
        label[mask], owner[number] = number, name
    turned_label: Array = turned(label.transpose(2, 1, 0), affine)
    return turned_label


def _regions(path: Path, d: Any, affine: Array, shape: tuple[int, ...], numbers: Mapping[str, int]) -> dict[str, _Mask]:
    """Fill the contours of each region, slice by slice."""
    to_voxels = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    found = {}
    for name in dict.fromkeys(dicom_label_names(path)):
        if name not in numbers:
            continue
        mask, planes = np.zeros(shape, bool), dict[int, list[NDArray[np.float64]]]()
        for points, _ in contours_of(d, name):
            places = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            height = places[:, 2]
            number = int(np.rint(height.mean()))
            if np.ptp(height) > _BESIDE or abs(height.mean() - number) > _BETWEEN or not 0 <= number < shape[0]:
                raise DataError(
                    f"{path}: a contour of {name} does not lie in a slice of the series.",
                    seen=f"slices {height.min():.2f} … {height.max():.2f} of 0 … {shape[0] - 1}",
                    hint="take the contours and the slices from one series",
                )
            planes.setdefault(number, []).append(places[:, :2])
        for number, contours in planes.items():
            mask[number] = fill_plane(contours, shape[1:])
        found[name] = mask
    return found


def _segments(
    path: Path, d: Any, affine: Array, shape: tuple[int, ...], numbers: Mapping[str, int]
) -> dict[str, _Mask]:
    """Put the frames of each segment on the slices that they lie on."""
    with readable(path):
        name_of = {int(one.SegmentNumber): str(one.SegmentLabel) for one in d.SegmentSequence}
        frames = np.asarray(d.pixel_array).reshape(-1, int(d.Rows), int(d.Columns))
        if d.get("SegmentationType") == "FRACTIONAL" and set(np.unique(frames)) - {0, int(d.MaximumFractionalValue)}:
            raise DataError(f"{path}: shares of voxels, no mask.", hint="export it as a binary segmentation")
        places = [_place(d, group) for group in d.PerFrameFunctionalGroupsSequence]
    found: dict[str, _Mask] = {}
    for frame, (segment, turn, corner) in zip(frames, places, strict=True):
        if (name := name_of[segment]) not in numbers:
            continue
        number = _slice_of(path, affine, shape, turn, corner, frame.shape)
        mask = found.setdefault(name, np.zeros(shape, bool))
        mask[number] |= frame > 0
    return found


def _place(d: Any, group: Any) -> tuple[int, Array, Array]:
    """Return the segment, orientation and corner of a frame."""
    shared: Any = d.SharedFunctionalGroupsSequence[0] if d.get("SharedFunctionalGroupsSequence") else {}
    own = group if group.get("PlaneOrientationSequence") else shared
    segment = group if group.get("SegmentIdentificationSequence") else shared
    return (
        int(segment.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
        np.array(own.PlaneOrientationSequence[0].ImageOrientationPatient, float),
        np.array(group.PlanePositionSequence[0].ImagePositionPatient, float),
    )


def _slice_of(
    path: Path, affine: Array, shape: tuple[int, ...], turn: Array, corner: Array, size: tuple[int, ...]
) -> int:
    """Return the slice that a frame lies on."""
    place = np.linalg.inv(affine) @ [-corner[0], -corner[1], corner[2], 1.0]
    unit = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    same = np.abs(unit.T - turn.reshape(2, 3) * [-1, -1, 1]).max() < 1e-2
    number = round(float(place[2]))
    beside = max(abs(place[0]), abs(place[1]), abs(place[2] - number))
    if not same or beside > _BESIDE or size != shape[1:] or not 0 <= number < shape[0]:
        raise DataError(
            f"{path}: a frame does not lie on a slice of the series.",
            seen=f"column {place[0]:.2f}, row {place[1]:.2f}, slice {place[2]:.2f}; {size[0]} × {size[1]} pixels",
            hint="take the segmentation and the slices from one series, or resample it",
        )
    return number
