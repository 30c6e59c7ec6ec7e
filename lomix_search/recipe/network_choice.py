"""Which network a new recipe begins with, and which patch of volumes it sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.block_fit import STEP

_MOST = 128 * 128 * 64  # voxels of a patch that a laptop trains on
_LEAST = 8  # voxels along an axis that can still be halved
_WIDTHS = (32, 64, 128, 256, 320)
_TOGETHER = 2  # axes that are halved by a stage; one alone makes it hardly coarser
_THICK = 2.0  # times the finest spacing from which on an axis is not halved yet: nnU-Net's rule


def network_for(
    dims: int, size: Sequence[int], spacing: Sequence[float], channels: int, outputs: int
) -> dict[str, Any]:
    """Choose a network.

    Args:
        dims: 2 or 3.
        size: Of the patch, for dims 3.
        spacing: Millimetres along its axes; empty where not known.
        channels: Of the images.
        outputs: Classes with the background, or regions.

    Returns:
        ``[network]`` of the recipe: BasicUNet for slices, DynUNet for volumes, with strides that fit the patch.
    """
    if dims == 2:
        args: dict[str, Any] = {"spatial_dims": 2, "in_channels": channels, "out_channels": outputs}
        return {"build": "monai.networks.nets:BasicUNet", "args": args | {"features": [32, 32, 64, 128, 256, 32]}}
    strides = strides_for(size, spacing)
    args = {"spatial_dims": 3, "in_channels": channels, "out_channels": outputs}
    args |= {
        "kernel_size": [[3, 3, 3]] * len(strides),
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": list(_WIDTHS[: len(strides)]),
    }
    return {"build": "monai.networks.nets:DynUNet", "args": args}


def strides_for(size: Sequence[int], spacing: Sequence[float] = ()) -> list[list[int]]:
    """Choose how each stage of a network halves a patch.

    Args:
        size: Slices, rows and columns.
        spacing: Millimetres along them; empty where not known.

    Returns:
        Strides of each stage, the first of them 1: an axis is halved while it has 8 voxels or more and an even number,
        while it is not twice as coarse as the finest, and while another one is.
    """
    sides, mm, strides = list(size), list(spacing or (1.0, 1.0, 1.0)), [[1, 1, 1]]
    while len(strides) < len(_WIDTHS):
        stride = [
            2 if side >= _LEAST and side % 2 == 0 and own < _THICK * min(mm) else 1
            for side, own in zip(sides, mm, strict=True)
        ]
        if sum(stride) < len(stride) + _TOGETHER:
            break
        strides.append(stride)
        sides = [side // s for side, s in zip(sides, stride, strict=True)]
        mm = [own * s for own, s in zip(mm, stride, strict=True)]
    return strides


def shapes_at(
    shapes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]], target: Sequence[float] = ()
) -> NDArray[np.float64]:
    """Return slices, rows and columns of each volume at one spacing.

    Args:
        shapes: As for :func:`patch_size`, like the others.
        spacings: Of each volume.
        target: Spacing that they are brought to.

    Returns:
        (volumes, 3), not rounded.
    """
    own = np.array([(shape[0], *shape[2:]) for shape in shapes], float)
    if len(spacings) == len(shapes):
        own = own * np.array(spacings) / (np.array(target) if len(target) else np.median(np.array(spacings), 0))
    return own


def patch_size(
    shapes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]], target: Sequence[float] = ()
) -> tuple[int, int, int]:
    """Choose a patch that holds a median volume, or as much of it as can be trained on.

    Args:
        shapes: Slices, channels, rows and columns of each volume.
        spacings: Of each volume, in mm; empty where not known.
        target: Spacing that they are brought to; the median when empty.

    Returns:
        Slices, rows and columns, each a multiple of 16.
    """
    own = shapes_at(shapes, spacings, target)
    sides = [max(STEP, STEP * int(np.ceil(side / STEP))) for side in np.median(own, 0)]
    while np.prod(sides) > _MOST:
        sides[int(np.argmax(sides))] -= STEP
    return sides[0], sides[1], sides[2]
