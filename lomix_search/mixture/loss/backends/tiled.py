"""The back end that always works: plain PyTorch, tile by tile, on any device.

All maps of a tile of one operator and subset size are built together as (k, C, T) tensors, k subsets of T pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.backends.tiled_operators import operator_groups, plan_order
from lomix_search.mixture.loss.kernel_plan import KernelPlan
from lomix_search.mixture.loss.plan import LossPlan

ELEMENTS = 2**20
"""Logits of a tile, over all maps. Memory does not grow beyond that with the number of maps and pixels."""


def sums(maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan) -> Tensor:
    """Pass 1: add up what cross-entropy and Dice need.

    Args:
        maps: L originals (B, C, N), float32 or float64.
        labels: Classes (B, N), int64; with a sigmoid (B, C, N) of 0 and 1.
        params: Packed parameters.
        work: What to compute.

    Returns:
        One vector of sums, float64, in the order of ``fused.Sums``.
    """
    groups = operator_groups(work, params)
    order = plan_order(groups, params.device)
    total = torch.zeros(_size(work.plan), dtype=torch.float64, device=params.device)
    for tile in _tiles(maps, labels, work.plan):
        logits = torch.cat([group.build(tile.maps) for group in groups])[order]
        total = total + _tile_sums(logits, tile, work.plan)
    return total


def gradients(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, factors: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Pass 2: build every map again and walk back to the originals and the parameters.

    Args:
        maps: As for ``sums``.
        labels: As for ``sums``.
        params: Packed parameters.
        work: What to compute.
        factors: a (m, C), b (m, C) and g (m) of the gradient with respect to a map's probabilities and logits.

    Returns:
        Gradients of the maps and of the packed parameters.
    """
    groups = operator_groups(work, params)
    grads = [torch.empty_like(one) for one in maps]
    grad_params = torch.zeros_like(params, dtype=torch.float64)
    a, b, g = (factor.to(params.dtype) for factor in factors)
    for tile in _tiles(maps, labels, work.plan):
        grad = torch.zeros_like(tile.maps)
        for group in groups:
            at = group.maps
            logits = group.build(tile.maps)
            adjoint = _adjoint(logits, tile, work.plan, a[at][:, :, None], b[at][:, :, None], g[at][:, None, None])
            group.spread(adjoint, tile.maps, grad, grad_params)
        tile.store(grad, grads)
    return grads, grad_params.to(params.dtype)


@dataclass(frozen=True)
class _Tile:
    """Pixels: ``maps`` (L, C, T), ``truth`` (C, T) and ``valid`` (T), 0 where they do not count.

    ``labels`` are (T), or (C, T) with a sigmoid.
    """

    maps: Tensor
    labels: Tensor
    truth: Tensor
    valid: Tensor
    where: tuple[slice, slice, slice]

    def store(self, grad: Tensor, grads: Sequence[Tensor]) -> None:
        """Write the gradients: 0 where a pixel does not count, even where others made the loss NaN."""
        grad = grad.masked_fill(self.valid == 0, 0)
        for one, part in zip(grads, grad, strict=True):
            images = one[self.where]
            images.copy_(part.view(part.shape[0], images.shape[0], images.shape[2]).transpose(0, 1))


def _tiles(maps: Sequence[Tensor], labels: Tensor, plan: LossPlan) -> Iterator[_Tile]:
    """Cut the pixels: parts of one image, or several images where they are small."""
    batch, classes, pixels = maps[0].shape
    size = max(64, ELEMENTS // (max(len(plan.maps), plan.num_maps) * classes))
    images = max(1, size // pixels)
    for first in range(0, batch, images):
        for start in range(0, pixels, size):
            where = (slice(first, first + images), slice(None), slice(start, start + size))
            yield _tile(maps, labels, where, plan)


def _tile(maps: Sequence[Tensor], labels: Tensor, where: tuple[slice, slice, slice], plan: LossPlan) -> _Tile:
    labels = labels[where].transpose(0, 1).flatten(1) if plan.sigmoid else labels[where[0], where[2]].reshape(-1)
    valid = (labels >= 0) & (labels < plan.num_values)
    if plan.ignore_index is not None:
        valid &= labels != plan.ignore_index
    valid = valid.all(0) if plan.sigmoid else valid
    labels = labels.where(valid, 0)
    held = torch.stack([one[where].transpose(0, 1).flatten(1) for one in maps]).masked_fill(~valid, 0)
    counted = valid.to(held.dtype)
    truth = labels.to(held.dtype) if plan.sigmoid else F.one_hot(labels, plan.num_classes).T.to(held.dtype) * counted
    return _Tile(held, labels, truth, counted, where)


def _size(plan: LossPlan) -> int:
    """Return the length of the vector of sums."""
    return len(plan.maps) * (2 * plan.num_classes + 1) + plan.num_classes + 1


def _tile_sums(logits: Tensor, tile: _Tile, plan: LossPlan) -> Tensor:
    if plan.sigmoid:
        p = torch.sigmoid(logits) * tile.valid
        truth = tile.truth.expand_as(logits)
        ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * tile.valid
        overlap = p[:, 0] @ tile.truth.T if plan.binary else (p * tile.truth).sum(2)
    else:
        top = logits.amax(1, keepdim=True)
        exps = (logits - top).exp_()
        total = exps.sum(1, keepdim=True)
        p = exps.mul_(tile.valid / total)
        at = tile.labels.expand(logits.shape[0], 1, -1)
        ce = (total.log() - (logits.gather(1, at) - top)) * tile.valid
        overlap = p.gather(1, at)[:, 0] @ tile.truth.T
    parts = [ce.sum((1, 2)), overlap, (p * p).sum(2), tile.truth.sum(1), tile.valid.sum()]
    return torch.cat([part.reshape(-1).double() for part in parts])


def _adjoint(logits: Tensor, tile: _Tile, plan: LossPlan, a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the total with respect to logits (k, C, T)."""
    y = tile.truth
    if plan.sigmoid:
        p = torch.sigmoid(logits) * tile.valid
        return p * (1 - p) * (a * p - b * y) + g * (p - y)
    p = torch.softmax(logits, 1) * tile.valid
    pull = a * p - b * y
    return p * (pull - (p * pull).sum(1, keepdim=True)) + g * (p - y)  # 0 to the last bit where p is y
