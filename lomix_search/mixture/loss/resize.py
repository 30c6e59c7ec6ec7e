"""Maps of every size, brought to that of the labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lomix_search.mixture.loss.plan import widest
from lomix_search.utils.interpolation import interpolate


def resize_maps(maps: Sequence[Tensor], size: torch.Size) -> tuple[Tensor, ...]:
    """Bring maps to the labels' size; those that need it are resized in float32 at least.

    Args:
        maps: Logits (B, C, *any size).
        size: The labels' spatial size.

    Returns:
        Logits (B, C, *size), interpolated linearly with ``align_corners=False``.
    """
    wide = widest(maps)
    return tuple(one if one.shape[2:] == size else interpolate(one.to(wide), size) for one in maps)
