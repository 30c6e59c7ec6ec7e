"""Intensities: from what a file holds to what training sees."""

from pathlib import Path

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.manifest import ChannelScaling, Preparation
from lomix_search.data.readers.values import NOT_FINITE
from lomix_search.errors import DataError

_LARGEST = 60000.0  # of float16
_FEW = 0.05  # where fewer voxels than this share differ from the background, percentiles are taken of them alone


def scale_channels(image: Array, how: Preparation, path: Path) -> Array:
    """Scale each channel of an image as its preparation says.

    Args:
        image: (slices, channels, rows, columns), as stored in the file.
        how: The preparation.
        path: The file, for the message.

    Returns:
        The same shape; types as of :func:`scale_intensities`, float16 for volumes.

    Raises:
        DataError: as :func:`scale_intensities`; or an image, or a channel of a volume, of one value.
    """
    if image.min() == image.max():  # NaN is told below
        raise _constant(path, "", float(image.min()))
    if how.dims == 2 and len(how.intensity) == 1 and (image.shape[1] == 1 or how.intensity[0].kind == "picture"):
        return scale_intensities(image, how.intensity[0].kind, path, how.intensity[0].window)
    return np.concatenate(
        [_channel(image[:, c : c + 1], how.scaling_of(c), path, _called(how, c)) for c in range(image.shape[1])], 1
    )


def _called(how: Preparation, channel: int) -> str:
    known = how.modalities[channel] if channel < len(how.modalities) else f"channel {channel}"
    return f" in {known}" if how.channels > 1 else ""


def _channel(image: Array, how: ChannelScaling, path: Path, where: str) -> Array:
    """Scale one channel (slices, 1, rows, columns)."""
    if not np.isfinite(image).all():
        raise DataError(f"{path}: NaN or infinite intensities{where}.", hint=NOT_FINITE)
    low, high = float(image.min()), float(image.max())
    if low == high:
        raise _constant(path, where, low)
    if how.kind == "kept":
        return image.clip(-_LARGEST, _LARGEST).astype(np.float16)
    if how.kind not in ("foreground", "zscore"):
        return scale_intensities(image, how.kind, path, how.window)
    if how.kind == "foreground":
        if low >= 0 and how.window is not None and how.window[0] < 0:
            raise DataError(
                f"{path}: a CT must be in Hounsfield units (air −1000, water 0), as the others are.",
                seen=f"values {low:g} … {high:g}",
                hint="apply the rescale slope and intercept of the DICOM files",
            )
        clipped = image.astype(np.float32) if how.window is None else np.clip(image, *how.window)
        return ((clipped - np.float32(how.mean)) / np.float32(how.std)).astype(np.float16)
    return _zscore(image, how.nonzero)


def _constant(path: Path, where: str, value: float) -> DataError:
    return DataError(f"{path}: every voxel{where} is {value:g}; nothing can be seen in it.", hint="move it away")


def _zscore(image: Array, nonzero: bool) -> Array:
    """Bring an image to mean 0 and deviation 1; its largest values are bounded by the type that holds them."""
    values = image.astype(np.float64)
    counted = values[values != 0] if nonzero else values
    deviation = float(counted.std())
    scaled = (values - float(counted.mean())) / (deviation if deviation > 0 else 1.0)
    scaled = np.where(values != 0, scaled, 0.0) if nonzero else scaled
    return scaled.clip(-_LARGEST, _LARGEST).astype(np.float16)


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
        raise DataError(f"{path}: NaN or infinite intensities.", seen=f"first in slice {where}", hint=NOT_FINITE)
    low, high = float(image.min()), float(image.max())
    if intensity == "range" and window is not None:
        if low < window[0] or high > window[1]:
            raise DataError(
                f"{path}: values {low:g} … {high:g} lie outside {window[0]:g} … {window[1]:g}.",
                hint="prepare all images together, so that their range holds this one; or leave it out",
            )
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
