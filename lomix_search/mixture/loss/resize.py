"""Maps of every size, brought to that of the labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lomix_search.mixture.loss.plan import widest
from lomix_search.utils.interpolation import interpolate


def labels_size(labels: Tensor, maps: Sequence[Tensor]) -> torch.Size:
    """Return the labels' spatial size, whether or not they have an axis of channels."""
    return labels.shape[labels.ndim - maps[0].ndim + 2 :]


def resize_maps(maps: Sequence[Tensor], size: torch.Size) -> tuple[Tensor, ...]:
    """Bring maps to the labels' size; those that need it are resized in float32 at least.

    Args:
        maps: Logits (B, C, *any size).
        size: The labels' spatial size.

    Returns:
        Logits (B, C, *size), interpolated linearly with ``align_corners=False``.
    """
    wide = widest(maps)
    return tuple(resized(one, size, wide) for one in maps)


def resized(one: Tensor, size: torch.Size, wide: torch.dtype) -> Tensor:
    """Bring one map to the labels' size, in the type ``wide``; one that has it stays as it is."""
    return one if one.shape[2:] == size else interpolate(one.to(wide), size)
