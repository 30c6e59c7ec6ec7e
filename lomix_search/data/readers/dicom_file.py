"""One DICOM file: its attributes, each there and a number where one is needed, and its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.readers.guard import readable
from lomix_search.errors import DataError, require

_SUFFIXES = (".dcm", ".dicom", ".ima")
_MARK, _MARK_AT = b"DICM", 128


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending, or, where it has none or a number, by the mark behind its preamble."""
    ending = path.suffix.lower()
    if ending in _SUFFIXES:
        return True
    if ending and not ending[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_MARK_AT + 4)[_MARK_AT:] == _MARK
    except OSError:
        return False


def read_dicom_file(path: Path, pixels: bool = True) -> Any:
    """Read a DICOM file.

    Args:
        path: The file.
        pixels: Read the pixels too.

    Returns:
        pydicom's data set.

    Raises:
        DataError: it is no DICOM file.
    """
    pydicom = require("pydicom", "data")
    with readable(path):
        try:
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
        except pydicom.errors.InvalidDicomError as cause:
            raise ValueError(str(cause)) from None


def patient_key(path: Path) -> tuple[str, ...]:
    """Return what tells the patient of a file from others; it may be personal data, and is never to be written.

    Args:
        path: A DICOM file; its pixels are not read.

    Returns:
        PatientID and who issued it; empty where the file has none.

    Raises:
        DataError: it is no DICOM file.
    """
    d = read_dicom_file(path, pixels=False)
    with readable(path):
        found = str(d.get("PatientID") or "").strip()
        return (found, str(d.get("IssuerOfPatientID") or "").strip()) if found else ()


def pixel_values(d: Any) -> NDArray[np.float64]:
    """Return the values of a slice, slope and intercept applied: Hounsfield units of a CT.

    Args:
        d: pydicom's data set.

    Returns:
        (rows, columns).

    Raises:
        DataError: several frames or values a pixel, no slope in a CT, or pixels that cannot be decoded.
    """
    path = path_of(d)
    with readable(path):
        frames, samples = int(d.get("NumberOfFrames") or 1), int(d.get("SamplesPerPixel") or 1)
    if frames > 1:
        raise DataError(f"{path} holds {frames} frames; need one slice a file.", hint="split it into single slices")
    if samples > 1 or not str(value_of(d, "PhotometricInterpretation")).startswith("MONOCHROME"):
        raise DataError(
            f"{path}: {samples} values a pixel, {d.PhotometricInterpretation}; a slice has one grey value.",
            hint="export grey slices, or save colours as PNG",
        )
    if d.get("ModalityLUTSequence"):
        raise DataError(
            f"{path} maps its values by a table, not by slope and intercept to Hounsfield units.",
            hint="export it with RescaleSlope and RescaleIntercept",
        )
    scaled = value_of(d, "Modality") == "CT" or d.get("RescaleSlope") is not None
    (slope,), (intercept,) = (
        (numbers_of(d, key, 1) for key in ("RescaleSlope", "RescaleIntercept")) if scaled else ([1.0], [0.0])
    )
    with readable(path):
        try:
            stored = d.pixel_array
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as cause:  # each decoder has its own; a missing one is a RuntimeError
            syntax = d.file_meta.TransferSyntaxUID.name
            raise ValueError(f"{cause} (stored as {syntax})") from None
    return np.asarray(stored * slope + intercept, np.float64)


def path_of(dataset: Any) -> Path:
    """Return the file that a data set was read from."""
    return Path(dataset.filename)


def value_of(dataset: Any, key: str) -> Any:
    """Return an attribute; DataError where it is missing or empty."""
    with readable(path_of(dataset)):
        value = dataset.get(key)
    if value is None or value == "":
        raise DataError(f"{path_of(dataset)} has no {key}.", hint="copy or export it again, with all its attributes")
    return value


def numbers_of(dataset: Any, key: str, count: int) -> list[float]:
    """Return an attribute of ``count`` finite numbers; DataError where it is anything else."""
    value = value_of(dataset, key)
    try:
        found = [float(v) for v in (value if count > 1 else [value])]
    except (TypeError, ValueError):
        found = []
    if len(found) != count or not np.isfinite(found).all():
        raise DataError(
            f"{path_of(dataset)}: {key} must be {count} finite number{'s' * (count > 1)}.",
            seen=str(value),
            hint="export the series again, or leave it out",
        )
    return found
