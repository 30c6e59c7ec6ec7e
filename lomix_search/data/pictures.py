"""Photographs and their binary masks: jpg, png, tif, bmp."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.volumes import Case, readable
from lomix_search.errors import DataError, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")

_COLOUR = 48  # largest difference between channels that JPEG noise explains
_GREY = (32, 223)  # values between these are neither black nor white
_GREY_SHARE = 0.05  # share of such pixels that soft edges explain


def read_picture_pair(name: str, image: Path, masks: tuple[Path, ...]) -> Case:
    """Read a picture and its mask or masks.

    Args:
        name: What to call the case.
        image: The picture.
        masks: Binary masks of the same size; the foreground is their union.

    Returns:
        The case: image (1, 3, rows, columns) uint8, label (1, rows, columns) of 0 and 1.

    Raises:
        DataError: unreadable, a mask of another size, in colours, or not binary; the message names the file.
    """
    picture = read_picture(image)
    label = np.zeros(picture.shape[1:], np.uint8)
    for mask in masks:
        one = read_mask(mask)
        if one.shape != label.shape:
            raise DataError(
                f"{mask}: the mask is {_size(one.shape)} and its picture {_size(label.shape)} pixels.",
                seen=str(image),
                hint="make sure that both are of one size; resize masks with nearest-neighbour interpolation",
            )
        label |= one
    foreground = 1 if all(_pixels(mask, None).max() <= 1 for mask in masks) else 255  # what a prediction is written as
    return Case(name, picture[None], label[None], (), {"size": list(label.shape), "values": [[1, foreground]]})


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB.

    Args:
        path: Any format that Pillow reads.

    Returns:
        (3, rows, columns).

    Raises:
        DataError: it cannot be read.
    """
    return np.ascontiguousarray(_pixels(path, "RGB").transpose(2, 0, 1))


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a binary mask stored as 0/1, 0/255, RGB, or as a noisy JPEG.

    Args:
        path: Any format that Pillow reads.

    Returns:
        (rows, columns) of 0 and 1.

    Raises:
        DataError: it cannot be read, has colours, or is not binary.
    """
    values = _one_channel(_pixels(path, None), path)
    if values.max(initial=0) <= 1:
        return values.astype(np.uint8)
    grey = float(np.mean((values > _GREY[0]) & (values < _GREY[1])))
    if grey > _GREY_SHARE:
        raise DataError(
            f"{path}: not a binary mask: {grey:.0%} of its pixels are neither black nor white.",
            seen=f"{len(np.unique(values))} values, {values.min()} … {values.max()}",
            hint="save masks as PNG with the values 0 and 255",
        )
    return (values >= 128).astype(np.uint8)


def read_classes(path: Path) -> NDArray[np.uint8]:
    """Read a mask whose pixel values are class numbers.

    Args:
        path: A grey or palette picture.

    Returns:
        (rows, columns), values as stored.

    Raises:
        DataError: it cannot be read or has colours.
    """
    return _one_channel(_pixels(path, None), path).astype(np.uint8)


def _pixels(path: Path, mode: str | None) -> NDArray[Any]:
    pil = require("PIL.Image", "data")
    with readable(path), pil.open(path) as picture:
        if mode is None and picture.mode in ("1", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
            mode = {"1": "L", "LA": "L", "PA": "P"}.get(picture.mode, "RGB")
        converted = picture.convert(mode) if mode else picture
        return np.asarray(converted)


def _one_channel(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    if pixels.ndim == 2:
        return (pixels // 257).astype(np.uint8) if pixels.dtype.itemsize > 1 and pixels.max(initial=0) > 255 else pixels
    spread = pixels.max(-1).astype(int) - pixels.min(-1)
    if spread.max(initial=0) > _COLOUR:
        raise DataError(
            f"{path}: an RGB mask in colours; a mask has one channel.",
            seen=f"{len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0))} colours",
            hint="convert every colour to a class number and save one channel",
        )
    return np.asarray(np.rint(pixels.mean(-1)), np.uint8)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
