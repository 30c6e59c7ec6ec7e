"""Weights of pixels near the boundary of what is true, as in PraNet's structure loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 15
"""Pixels each way that the neighbourhood of a pixel reaches: 31 across."""


def boundary_weights(truth: Tensor, weight: float) -> Tensor:
    """Weigh pixels by how much their neighbourhood differs from them.

    Args:
        truth: 0 and 1 (B, C, *spatial), floating point; 0 beyond the border and where pixels are ignored.
        weight: κ.

    Returns:
        1 + κ·|mean over 31 pixels along each axis − truth| of that shape.
    """
    mean = truth
    for axis in range(2, truth.ndim):
        last = mean.movedim(axis, -1)
        rows = F.avg_pool1d(last.reshape(-1, 1, last.shape[-1]), 2 * REACH + 1, 1, REACH)
        mean = rows.view(last.shape).movedim(-1, axis)
    return 1 + weight * torch.abs(mean - truth)
