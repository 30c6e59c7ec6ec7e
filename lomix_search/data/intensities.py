"""Intensities: from what a file holds to what training sees."""

from pathlib import Path

import numpy as np

from lomix_search.data.case import Array
from lomix_search.errors import DataError

_FEW = 0.05  # where fewer voxels than this share differ from the background, percentiles are taken of them alone


def scale_intensities(image: Array, intensity: str, path: Path, window: tuple[float, float] | None = None) -> Array:
    """Scale intensities as a layout says.

    Args:
        image: (slices, channels, rows, columns), as stored in the file.
        intensity: ``ct``, ``mr``, ``picture`` or ``range``.
        path: The file, for the message.
        window: Of a CT, in HU; −125 … 275 when left out. Of ``range``: what all images of the dataset lie in.

    Returns:
        The same shape: float16 in 0 … 1, uint8 for pictures, float32 in 0 … 1 for ``range``.

    Raises:
        DataError: NaN or infinite values, values outside a range, or a CT that is not in Hounsfield units.
    """
    if intensity == "picture":
        return image
    if not np.isfinite(image).all():
        where = int(np.argwhere(~np.isfinite(image))[0][0])
        raise DataError(f"{path}: NaN or infinite intensities.", seen=f"first in slice {where}")
    low, high = float(image.min()), float(image.max())
    if intensity == "range" and window is not None:
        if low < window[0] or high > window[1]:
            raise DataError(f"{path}: values {low:g} … {high:g} lie outside {window[0]:g} … {window[1]:g}.")
        return ((image.astype(np.float64) - window[0]) / (window[1] - window[0])).astype(np.float32)
    if low >= -1e-3 and (0.5 if intensity == "mr" else 0) <= high <= 1 + 1e-3:
        return image.astype(np.float16)  # scaled already, as the community's preprocessed files are
    if intensity == "ct":
        if low >= 0 or high - low < 100:
            raise DataError(
                f"{path}: a CT must be in Hounsfield units (air −1000, water 0) or already scaled to 0 … 1.",
                seen=f"values {low:g} … {high:g}",
                hint="apply the rescale slope and intercept of the DICOM files",
            )
        low, high = (-125.0, 275.0) if window is None else window
    else:
        low, high = _percentiles(image)
    return ((np.clip(image, low, high) - low) / (high - low if high > low else 1.0)).astype(np.float16)


def _percentiles(image: Array) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of a volume.

    Where nearly all voxels have one value (air round a small field of view), a percentile of all would clip away much
    or all of the rest, so it is taken of the rest alone.
    """
    low, high = (float(v) for v in np.percentile(image, (0.5, 99.5)))
    above, below = image[image > low], image[image < high]
    if 0 < above.size < _FEW * image.size:
        high = float(np.percentile(above, 99.5))
    if 0 < below.size < _FEW * image.size:
        low = float(np.percentile(below, 0.5))
    return low, high
