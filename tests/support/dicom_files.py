"""Small DICOM series, one file a slice, with contours or segmentations of them."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def _new(kind: str, path: Path) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = kind
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    return d


def series(
    folder: Path,
    values: NDArray[np.int16],
    *,
    step: float = 1.0,
    pixel: tuple[float, float] = (1.0, 1.0),
    turned: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    modality: str = "MR",
    name: str = "series",
    patient: str = "",
) -> list[Path]:
    """Write (slices, rows, columns), each slice ``step`` mm further along its normal."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(turned[:3], turned[3:])
    paths = []
    for n, plane in enumerate(values):
        path = folder / f"{name}{len(values) - n:03d}.dcm"
        d = _new("1.2.840.10008.5.1.4.1.1.4", path)
        d.SeriesInstanceUID = generate_uid(entropy_srcs=[str(folder), name])
        d.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(folder)])
        d.Modality, d.Rows, d.Columns = modality, *plane.shape
        d.PatientID = patient
        d.PixelSpacing, d.SliceThickness = list(pixel), step
        d.ImageOrientationPatient, d.ImagePositionPatient = list(turned), [float(v) for v in normal * step * n]
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.RescaleSlope, d.RescaleIntercept = 15, 1, 0
        d.PixelData = plane.astype("<i2").tobytes()
        pydicom.dcmwrite(path, d, enforce_file_format=True)
        paths.append(path)
    return paths


def enhanced(
    path: Path,
    values: NDArray[np.int16],
    *,
    step: float = 1.0,
    pixel: tuple[float, float] = (1.0, 1.0),
    turned: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    slopes: tuple[tuple[float, float], ...] = (),
    modality: str = "MR",
) -> Path:
    """Write (slices, rows, columns) as one enhanced file, the last slice first; a slope and an intercept a slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    d = _new("1.2.840.10008.5.1.4.1.1.4.1", path)
    d.SeriesInstanceUID = generate_uid(entropy_srcs=[str(path)])
    d.Modality, d.Rows, d.Columns, d.NumberOfFrames = modality, *values.shape[1:], len(values)
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, shared, orientation, measures = 15, Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing, measures.SliceThickness = (
        list(turned),
        list(pixel),
        step,
    )
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = [shared], []
    normal = np.cross(turned[:3], turned[3:])
    for n in reversed(range(len(values))):
        frame, place, change = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [float(v) for v in normal * step * n]
        change.RescaleSlope, change.RescaleIntercept = slopes[n] if slopes else (1, 0)
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [change]
        d.PerFrameFunctionalGroupsSequence.append(frame)
    d.PixelData = values[::-1].astype("<i2").tobytes()
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path


def contours(path: Path, masks: dict[str, NDArray[np.bool_]], step: float = 1.0) -> Path:
    """Write an RTSTRUCT: a rectangle round the mask of each slice, which must be one, on an axial grid of 1 mm."""
    d = _new("1.2.840.10008.5.1.4.1.1.481.3", path)
    d.Modality, d.StructureSetROISequence, d.ROIContourSequence = "RTSTRUCT", [], []
    for number, (name, mask) in enumerate(masks.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for n in np.flatnonzero(mask.any((1, 2))):
            rows, columns = np.flatnonzero(mask[n].any(1)), np.flatnonzero(mask[n].any(0))
            (top, bottom), (left, right) = ((i[0] - 0.5, i[-1] + 0.5) for i in (rows, columns))
            one = Dataset()
            one.ContourGeometricType = "CLOSED_PLANAR"
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            one.ContourData = [float(v) for x, y in corners for v in (x, y, n * step)]
            one.NumberOfContourPoints = len(corners)
            drawn.ContourSequence.append(one)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(drawn)
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path


def segmentation(path: Path, masks: dict[str, NDArray[np.bool_]], step: float = 1.0) -> Path:
    """Write a binary SEG: one frame a segment and slice that has it, on an axial grid of 1 mm."""
    d = _new("1.2.840.10008.5.1.4.1.1.66.4", path)
    d.Modality, d.SegmentationType, d.SegmentSequence, d.PerFrameFunctionalGroupsSequence = "SEG", "BINARY", [], []
    turned, shared, frames = Dataset(), Dataset(), []
    turned.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = [turned]
    d.SharedFunctionalGroupsSequence = [shared]
    for number, (name, mask) in enumerate(masks.items(), 1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, name
        d.SegmentSequence.append(segment)
        for n in np.flatnonzero(mask.any((1, 2))):
            group, which, place = Dataset(), Dataset(), Dataset()
            which.ReferencedSegmentNumber, place.ImagePositionPatient = number, [0.0, 0.0, float(n * step)]
            group.SegmentIdentificationSequence, group.PlanePositionSequence = [which], [place]
            d.PerFrameFunctionalGroupsSequence.append(group)
            frames.append(mask[n])
    d.Rows, d.Columns, d.NumberOfFrames = *frames[0].shape, len(frames)
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated = d.BitsStored = 1
    d.HighBit = 0
    packed = np.packbits(np.stack(frames).ravel(), bitorder="little").tobytes()
    d.PixelData = packed + b"\0" * (len(packed) % 2)
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path
