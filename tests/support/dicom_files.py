"""Small DICOM series, one file a slice."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def series(
    folder: Path,
    values: NDArray[np.int16],
    *,
    step: float = 1.0,
    pixel: tuple[float, float] = (1.0, 1.0),
    turned: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    modality: str = "MR",
    name: str = "series",
) -> list[Path]:
    """Write (slices, rows, columns), each slice ``step`` mm further along its normal."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(turned[:3], turned[3:])
    paths = []
    for n, plane in enumerate(values):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[str(folder), name, str(n)]
        )
        d.SeriesInstanceUID = generate_uid(entropy_srcs=[str(folder), name])
        d.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(folder)])
        d.Modality, d.Rows, d.Columns = modality, *plane.shape
        d.PixelSpacing, d.SliceThickness = list(pixel), step
        d.ImageOrientationPatient, d.ImagePositionPatient = list(turned), [float(v) for v in normal * step * n]
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.RescaleSlope, d.RescaleIntercept = 15, 1, 0
        d.PixelData = plane.astype("<i2").tobytes()
        path = folder / f"{name}{len(values) - n:03d}.dcm"
        pydicom.dcmwrite(path, d, enforce_file_format=True)
        paths.append(path)
    return paths
