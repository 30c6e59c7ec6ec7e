"""Sizes: slices and label maps to the size that a network sees, and predictions back to the size of the case.

One geometry, there and back: pixels are squares and the borders of an image stay its borders, so that the centre of
pixel i of n lies at (i + ½) / n. ``prepare``, ``evaluate`` and everything else resize by the functions of this file.

Where this departs from what the Synapse and ACDC literature does: its code calls ``scipy.ndimage.zoom``, which lays the
centres of the corner pixels on each other. Against true positions that moves an image by up to (n / m − 1) / 2 of its
own pixels at the borders when n become m (0.64 pixels for 512 → 224), and nothing in its middle; there and back by
``zoom`` the shift cancels. It also samples without a low-pass filter, so that an edge lands up to half a training pixel
beside its place and noise is kept. The filter here is cubic as well, as wide as the pixels that it makes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lomix_search.data.case import Array
from lomix_search.errors import require
from lomix_search.utils.interpolation import interpolate

RULE = "centres"
"""How arrays are resized, as their manifest says. Folders of earlier versions do not say it: their volumes were resized
with corner pixels on each other, their pictures as now."""


def resize_images(images: Array, size: Sequence[int], *, picture: bool) -> Array:
    """Resize slices to what a network sees.

    Args:
        images: (slices, channels, rows, columns).
        size: Rows and columns wanted.
        picture: Linear, as the benchmarks of photographs resize; else cubic, as those of CT and MR do. Both are widened
            when they shrink (antialiasing), as Pillow does.

    Returns:
        The same type; integers are rounded.
    """
    if images.shape[2:] == tuple(size):
        return images
    wide = torch.from_numpy(np.array(images, np.float32))
    mode = "bilinear" if picture else "bicubic"
    made = F.interpolate(wide, tuple(size), mode=mode, align_corners=False, antialias=True).numpy()
    if images.dtype.kind in "iu":
        limits = np.iinfo(images.dtype)
        made = np.rint(made).clip(limits.min, limits.max)
    return made.astype(images.dtype)


def resize_labels(labels: Array, size: Sequence[int], *, corners: bool = False) -> Array:
    """Resize label maps: each pixel takes the label of the one that holds its centre, so that no new label comes up.

    Where a centre lies between two pixels (each one when an even number is halved), they take turns, because taking
    always the same side would shift the map by half a pixel.

    Args:
        labels: (…, rows, columns), or (…, slices, rows, columns).
        size: Rows and columns wanted, or slices, rows and columns.
        corners: As for :func:`resize_scores`.

    Returns:
        The same type.
    """
    own = labels.shape[-len(size) :]
    if own == tuple(size):
        return labels
    taken = (_nearest(old, new, corners) for old, new in zip(own, size, strict=True))
    index: tuple[Any, ...] = (..., *np.ix_(*taken))
    return np.ascontiguousarray(labels[index])


def resize_volume(image: Array, size: Sequence[int], *, flat: int | None = None) -> Array:
    """Resample a volume by cubic splines, each channel by itself, within the intensities that it has.

    Args:
        image: (slices, channels, rows, columns).
        size: Slices, rows and columns wanted; the borders of the volume stay its borders.
        flat: Axis (0 slices, 1 rows, 2 columns) along which voxels lie far apart: linear along it, where a spline would
            swing, and cubic within its planes.

    Returns:
        (slices, channels, rows, columns) of the same type.
    """
    own = image.shape[0], image.shape[2], image.shape[3]
    if own == tuple(size):
        return image
    along = tuple(size[axis] if axis == flat else n for axis, n in enumerate(own))
    steps = [(along, 1), (tuple(size), 3)]  # the first changes nothing where no axis is flat
    made = np.empty((size[0], image.shape[1], *size[1:]), image.dtype)
    for channel in range(image.shape[1]):
        given = image[:, channel].astype(np.float32)
        low, high = float(given.min()), float(given.max())
        for shape, order in steps:
            given = _zoomed(given, shape, order)
        given = given.clip(low, high)
        made[:, channel] = np.rint(given) if image.dtype.kind in "iu" else given
    return made


def _zoomed(values: Array, shape: Sequence[int], order: int) -> Array:
    if values.shape == tuple(shape):
        return values
    factors = [new / old for old, new in zip(values.shape, shape, strict=True)]
    zoom = require("scipy.ndimage", "data").zoom
    return np.asarray(zoom(values, factors, order=order, mode="nearest", grid_mode=True))


def resize_scores(scores: Tensor, size: Sequence[int], *, corners: bool = False) -> Tensor:
    """Bring a prediction's scores (logits or probabilities) back to the size of its case, linearly.

    Args:
        scores: (slices, channels, rows, columns).
        size: Rows and columns wanted.
        corners: The images were resized with corner pixels on each other, as earlier versions prepared volumes.

    Returns:
        The same type.
    """
    if scores.shape[2:] == tuple(size):
        return scores
    if corners:
        return interpolate(scores, size, corners=True)
    shrinks = any(new < old for old, new in zip(scores.shape[2:], size, strict=True))
    return interpolate(scores, size, antialias=shrinks)


def _nearest(old: int, new: int, corners: bool) -> NDArray[np.int64]:
    """Return which of ``old`` pixels each of ``new`` ones takes; in whole numbers, so that ties are ties."""
    i = np.arange(new, dtype=np.int64)
    if corners:
        return (2 * i * (old - 1) + new - 1) // max(1, 2 * (new - 1))
    index, rest = np.divmod((2 * i + 1) * old, 2 * new)
    return np.asarray(index - ((rest == 0) & (i % 2 == 0)))
