"""Intensities: from what a file holds to what training sees."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError

Array = NDArray[Any]


def scale(image: Array, intensity: str, path: Path, window: tuple[float, float] | None = None) -> Array:
    """Scale intensities as a layout says.

    Args:
        image: (slices, channels, rows, columns), as stored in the file.
        intensity: ``ct``, ``mr`` or ``picture``.
        path: The file, for the message.
        window: Of a CT, in HU; −125 … 275 when left out.

    Returns:
        The same shape: float16 in 0 … 1, or uint8 for pictures.

    Raises:
        DataError: NaN or infinite values, or a CT that is not in Hounsfield units.
    """
    if intensity == "picture":
        return image
    if not np.isfinite(image).all():
        where = int(np.argwhere(~np.isfinite(image))[0][0])
        raise DataError(f"{path}: NaN or infinite intensities.", seen=f"first in slice {where}")
    low, high = float(image.min()), float(image.max())
    if low >= -1e-3 and high <= 1 + 1e-3:
        return image.astype(np.float16)  # scaled already, as the community's preprocessed files are
    if intensity == "ct":
        if low >= 0 or high - low < 100:
            raise DataError(
                f"{path}: a CT must be in Hounsfield units (air −1000, water 0) or already scaled to 0 … 1.",
                seen=f"values {low:g} … {high:g}",
                hint="apply the rescale slope and intercept of the DICOM files",
            )
        low, high = window or (-125.0, 275.0)
    else:
        low, high = (float(v) for v in np.percentile(image, (0.5, 99.5)))
    return ((np.clip(image, low, high) - low) / max(high - low, 1e-6)).astype(np.float16)
