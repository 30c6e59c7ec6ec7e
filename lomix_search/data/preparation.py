"""From a raw image to what a network takes, and from its answer back to the grid of the image.

``prepare`` and ``predict`` use the same two functions, each given the :class:`~lomix_search.data.manifest.Preparation`
that a prepared folder's manifest carries, so that a new image is seen as those of training were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.intensities import scale_channels
from lomix_search.data.manifest import Preparation
from lomix_search.data.resizing import resize_images, resize_scores, resize_volume
from lomix_search.errors import DataError

_FLAT = 3.0  # times the distance of pixels
_FEWEST = 2  # voxels along each axis of a volume
_SLAB = 1 << 26  # scores that are brought back at a time


@dataclass(frozen=True)
class PreparedImage:
    """An image as it was prepared.

    Args:
        native: (slices, channels, rows, columns) on its own grid, scaled.
        small: The same as training sees it: of one size (dims 2), or of one spacing (dims 3).
    """

    native: Array
    small: Array


def prepare_image(image: Array, spacing: Sequence[float], how: Preparation, path: str | Path) -> PreparedImage:
    """Turn a raw image into what a network takes.

    Args:
        image: (slices, channels, rows, columns), intensities as the file has them.
        spacing: Millimetres between slices, rows and columns; empty where unknown.
        how: The preparation.
        path: The file, for messages.

    Returns:
        The image on its own grid and in the form of training.

    Raises:
        DataError: another number of channels, values that are not finite or all the same, a slice where volumes are
            needed, no spacing or one that is not positive; the message names the file.
    """
    check_image(image, spacing, how, path)
    native = scale_channels(image, how, Path(path))
    if how.dims == 3:
        apart = [axis for axis in (flat_axis(spacing), flat_axis(how.spacing)) if axis is not None]
        shape = training_shape(image.shape, spacing, how)
        return PreparedImage(native, resize_volume(native, shape, flat=apart[0] if apart else None))
    if how.size is None:
        return PreparedImage(native, native)
    linear = how.scaling_of(0).kind in ("picture", "range")
    return PreparedImage(native, resize_images(native, (how.size, how.size), picture=linear))


def training_shape(shape: Sequence[int], spacing: Sequence[float], how: Preparation) -> tuple[int, int, int]:
    """Return how many slices, rows and columns a volume has at the spacing of training.

    Args:
        shape: (slices, channels, rows, columns) of its own grid.
        spacing: Of its own grid; empty where unknown.
        how: The preparation, dims 3.

    Returns:
        At least 1 each.
    """
    own = shape[0], shape[2], shape[3]
    if not how.spacing:
        return own
    made = [max(1, round(n * a / b)) for n, a, b in zip(own, spacing, how.spacing, strict=True)]
    return made[0], made[1], made[2]


def flat_axis(spacing: Sequence[float]) -> int | None:
    """Say along which axis voxels lie so far apart that its planes are resampled and turned by themselves.

    Args:
        spacing: Millimetres between slices, rows and columns; empty where unknown.

    Returns:
        0, 1 or 2: the one axis along which they lie more than three times as far apart as along the finest (nnU-Net's
        rule); None where there is none, or two.
    """
    apart = [axis for axis, between in enumerate(spacing) if between > _FLAT * min(spacing)]
    return apart[0] if len(apart) == 1 else None


def check_image(image: Array, spacing: Sequence[float], how: Preparation, path: str | Path) -> None:
    """Check that an image is of the kind that was prepared.

    Args:
        image: (slices, channels, rows, columns).
        spacing: Millimetres, or empty.
        how: The preparation.
        path: The file, for messages.

    Raises:
        DataError: as :func:`prepare_image`.
    """
    if how.channels and image.shape[1] != how.channels:
        names = f" ({', '.join(how.modalities)})" if how.modalities else ""
        raise DataError(
            f"{path}: {image.shape[1]} channels; the others have {how.channels}{names}.",
            hint="leave the case out, or bring all images to the same channels",
        )
    if how.dims == 2:
        return
    own = image.shape[0], image.shape[2], image.shape[3]
    if min(own) < _FEWEST:
        raise DataError(
            f"{path}: a single slice; volumes are needed.",
            seen=f"{size_in_words(own)} voxels",
            hint="move it away, or prepare all of them as slices",
        )
    check_spacing(spacing, path)
    if bool(spacing) != bool(how.spacing):
        known, others = ("one", "none") if spacing else ("no", "one")
        raise DataError(f"{path}: it has {known} spacing, and the others have {others}.", hint="move it away")


def check_spacing(spacing: Sequence[float], path: str | Path) -> None:
    """Check that a spacing, where it is known, is a positive number for each axis.

    Args:
        spacing: Millimetres between slices, rows and columns; empty where unknown.
        path: The file, for messages.

    Raises:
        DataError: it is not.
    """
    if spacing and (len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing)):
        raise DataError(
            f"{path}: the spacing must be a positive number for each of 3 axes.",
            seen=f"{size_in_words(tuple(float(s) for s in spacing))} mm",
            hint="mend the file's header, or move it away",
        )


def scores_on_grid(scores: Tensor, shape: Sequence[int], *, corners: bool = False) -> Iterator[Tensor]:
    """Bring scores back to the grid of their case, some slices at a time: whole ones may need far more memory.

    Args:
        scores: (C, slices, rows, columns) logits or probabilities on the grid of training.
        shape: Slices, rows and columns of the case.
        corners: As for :func:`~lomix_search.data.resizing.resize_scores`.

    Yields:
        (C, n, rows, columns), linear between voxels; n add up to the slices of the case.
    """
    slices, rows, columns = shape
    at_once = max(1, _SLAB // max(1, scores.shape[0] * rows * columns))
    for start in range(0, slices, at_once):
        plane = _between_slices(scores, slices, range(start, min(slices, start + at_once)))
        yield resize_scores(plane.movedim(0, 1), (rows, columns), corners=corners).movedim(1, 0)


def _between_slices(scores: Tensor, slices: int, wanted: range) -> Tensor:
    """Return some slices of scores as if they had ``slices`` of them, linear between neighbours."""
    own = scores.shape[1]
    if own == slices:
        return scores[:, wanted.start : wanted.stop]
    place = ((torch.arange(wanted.start, wanted.stop, dtype=torch.float64) + 0.5) * own / slices - 0.5).clamp(
        0, own - 1
    )
    below = place.floor().long()
    share = (place - below).to(scores.dtype).to(scores.device)[:, None, None]
    above = (below + 1).clamp(max=own - 1)
    return scores[:, below] * (1 - share) + scores[:, above] * share
