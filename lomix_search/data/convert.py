"""Intensities and sizes: from what a file holds to what training sees."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError, require

Array = NDArray[Any]


def scale(image: Array, intensity: str, path: Path, window: tuple[float, float] | None = None) -> Array:
    """Scale intensities as a layout says.

    Args:
        image: (slices, channels, rows, columns), as stored in the file.
        intensity: ``ct``, ``mr``, ``picture`` or ``range``.
        path: The file, for the message.
        window: Of a CT, in HU; −125 … 275 when left out. Of ``range``: what all images of the data set lie in.

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
        low, high = _percentiles(image)
    return ((np.clip(image, low, high) - low) / max(high - low, 1e-6)).astype(np.float16)


def _percentiles(image: Array) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of an MR; where most voxels have one value, of the others."""
    common = np.median(image)
    others = image[image != common]
    if 0 < 2 * others.size < image.size:  # what is there may be less than half a per cent of the volume
        low, high = np.percentile(others, (0.5, 99.5))
        return float(min(low, common)), float(max(high, common))
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high)


def resize(image: Array, label: Array, size: int) -> tuple[Array, Array]:
    """Resize slices: the image cubic, the label with the nearest neighbour, as the paper does.

    Args:
        image: (slices, channels, rows, columns); uint8 pictures are resized linearly, as polyp benchmarks do.
        label: (slices, rows, columns).
        size: Rows and columns wanted.

    Returns:
        Image and label of that size, of the same types.
    """
    if image.shape[2:] == (size, size):
        return image, label
    if image.dtype == np.uint8:
        return _resize_pictures(image, label, size)
    ndimage = require("scipy.ndimage", "data")
    factors = (size / image.shape[2], size / image.shape[3])
    images = np.empty((*image.shape[:2], size, size), image.dtype)
    labels = np.empty((len(label), size, size), label.dtype)
    for number, (planes, mask) in enumerate(zip(image, label, strict=True)):
        for channel, plane in enumerate(planes):
            images[number, channel] = ndimage.zoom(plane.astype(np.float32), factors, order=3)
        labels[number] = ndimage.zoom(mask, factors, order=0)
    return images, labels


def _resize_pictures(image: Array, label: Array, size: int) -> tuple[Array, Array]:
    pil = require("PIL.Image", "data")

    def of(plane: Array, how: int) -> Array:
        return np.asarray(pil.fromarray(plane).resize((size, size), how))

    images = np.stack([np.stack([of(plane, pil.Resampling.BILINEAR) for plane in planes]) for planes in image])
    return images, np.stack([of(mask, pil.Resampling.NEAREST) for mask in label])
