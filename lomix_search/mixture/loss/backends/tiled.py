"""The back end that always works: plain PyTorch, tile by tile, on any device, with every option of the loss.

All maps of a tile of one operator and subset size are built together as (k, C, T) tensors, k subsets of T pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.backends.pixel_losses import PixelLosses, pixel_losses
from lomix_search.mixture.loss.backends.tiled_operators import OperatorGroup, operator_groups, plan_order
from lomix_search.mixture.loss.kernel_plan import KernelPlan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.sums import size_of
from lomix_search.mixture.loss.top_k import number_of_largest, shares_of_largest, threshold, with_cuts

ELEMENTS = 2**20
"""Logits of a tile, over all maps. Memory does not grow beyond that with the number of maps and pixels."""


def sums(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, weights: Tensor | None = None
) -> Tensor:
    """Pass 1: add up what cross-entropy and region loss need.

    Args:
        maps: L originals (B, C, *size), float32 or float64, contiguous; a back end of ``READ_COARSE`` is given coarse
            ones (B, C, *own size).
        labels: Classes (B, *size), int64; with a sigmoid (B, C, *size) of 0 and 1.
        params: Packed parameters.
        work: What to compute.
        weights: Of the pixels (B, C, N), where the plan has boundary weights.

    Returns:
        Rows of sums (I, size), float64, in the order of ``Sums``; with ``top_k`` followed by what divides the largest
        cross-entropies of each map from the others, (m,) and (m,).
    """
    plan = work.plan
    maps, labels = _flat(maps), labels.flatten(2 if plan.sigmoid else 1)
    groups = operator_groups(work, params)
    order = plan_order(groups, params.device)
    rows = len(maps[0]) if plan.terms.per_image else 1
    total = torch.zeros(rows, size_of(plan), dtype=torch.float64, device=params.device)
    cuts, number = _cuts(maps, labels, groups, work)
    for tile in _tiles(maps, labels, weights, plan):
        logits = torch.cat([group.build(tile.maps) for group in groups])[order]
        found = _tile_sums(logits, tile, plan) if _plain(plan) else _sums_by_pixel(logits, tile, plan, cuts)
        total[tile.row] += found
    return total if cuts is None else with_cuts(total, number, cuts)


def gradients(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    work: KernelPlan,
    factors: Sequence[Tensor],
    weights: Tensor | None = None,
    cuts: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Pass 2: build every map again and walk back to the originals and the parameters.

    Args:
        maps: As for ``sums``.
        labels: As for ``sums``.
        params: Packed parameters.
        work: What to compute.
        factors: a (I, m, C), b (I, m, C) and g (m, K): the total's gradient by the probabilities of a map is
            a·p − b·y, or a − b·y where p was added up instead of p²; by its logits it has g times the slopes of the
            cross-entropies besides. With boundary weights g is (I, m, K).
        weights: As for ``sums``.
        cuts: With ``top_k``, what ``sums`` returned at the end of its rows (2, m).

    Returns:
        Gradients of the maps and of the packed parameters.
    """
    plan = work.plan
    shapes = [one.shape for one in maps]
    maps, labels = _flat(maps), labels.flatten(2 if plan.sigmoid else 1)
    groups = operator_groups(work, params)
    grads = [torch.empty_like(one) for one in maps]
    grad_params = torch.zeros_like(params, dtype=torch.float64)
    a, b, g = (factor.to(params.dtype) for factor in factors)
    cuts = None if cuts is None else cuts.to(params.dtype)
    for tile in _tiles(maps, labels, weights, plan):
        grad = torch.zeros_like(tile.maps)
        for group in groups:
            at = group.maps
            logits = group.build(tile.maps)
            own = a[tile.row, at][:, :, None], b[tile.row, at][:, :, None], g[tile.row % len(g), at][:, :, None]
            if _plain(plan):
                adjoint = _adjoint(logits, tile, plan, *own)
            else:
                adjoint = _adjoint_by_pixel(logits, tile, plan, *own, None if cuts is None else cuts[:, at])
            group.spread(adjoint, tile.maps, grad, grad_params)
        tile.store(grad, grads)
    return [one.view(shape) for one, shape in zip(grads, shapes, strict=True)], grad_params.to(params.dtype)


def _flat(maps: Sequence[Tensor]) -> list[Tensor]:
    return [one.flatten(2) for one in maps]


@dataclass(frozen=True)
class _Tile:
    """Pixels: ``maps`` (L, C, T), ``truth`` (C, T) and ``valid`` (T), 0 where they do not count.

    ``labels`` are (T), or (C, T) with a sigmoid; ``weights`` are ``valid`` or of each channel (C, T); ``row`` is the
    row of sums that they belong to.
    """

    maps: Tensor
    labels: Tensor
    truth: Tensor
    valid: Tensor
    weights: Tensor
    where: tuple[slice, slice, slice]
    row: int

    def store(self, grad: Tensor, grads: Sequence[Tensor]) -> None:
        """Write the gradients: 0 where a pixel does not count, even where others made the loss NaN."""
        grad = grad.masked_fill(self.valid == 0, 0)
        for one, part in zip(grads, grad, strict=True):
            images = one[self.where]
            images.copy_(part.view(part.shape[0], images.shape[0], images.shape[2]).transpose(0, 1))


def _plain(plan: LossPlan) -> bool:
    """Tell whether each pixel that counts has the plain cross-entropy, all with the same weight."""
    return not plan.terms.by_pixel and plan.terms.class_weights is None


def _tiles(maps: Sequence[Tensor], labels: Tensor, weights: Tensor | None, plan: LossPlan) -> Iterator[_Tile]:
    """Cut the pixels: parts of one image, or several images where they are small and their sums are one."""
    batch, classes, pixels = maps[0].shape
    size = max(64, ELEMENTS // (max(len(plan.maps), plan.num_maps) * classes))
    images = 1 if plan.terms.per_image else max(1, size // max(pixels, 1))
    for first in range(0, batch, images):
        for start in range(0, pixels, size):
            where = (slice(first, first + images), slice(None), slice(start, start + size))
            yield _tile(maps, labels, weights, where, plan)


def _tile(
    maps: Sequence[Tensor], labels: Tensor, weights: Tensor | None, where: tuple[slice, slice, slice], plan: LossPlan
) -> _Tile:
    labels = _pixels(labels, where) if plan.sigmoid else labels[where[0], where[2]].reshape(-1)
    valid = (labels >= 0) & (labels < plan.num_values)
    if plan.ignore_index is not None:
        valid &= labels != plan.ignore_index
    valid = valid.all(0) if plan.sigmoid else valid
    labels = labels.where(valid, 0)
    held = torch.stack([_pixels(one, where) for one in maps]).masked_fill(~valid, 0)
    counted = valid.to(held.dtype)
    truth = labels.to(held.dtype) if plan.sigmoid else F.one_hot(labels, plan.num_classes).T.to(held.dtype) * counted
    weighed = counted if weights is None else _pixels(weights, where) * counted
    return _Tile(held, labels, truth, counted, weighed, where, where[0].start if plan.terms.per_image else 0)


def _pixels(one: Tensor, where: tuple[slice, slice, slice]) -> Tensor:
    """Return (C, T) of (B, C, N)."""
    return one[where].transpose(0, 1).flatten(1)


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
    spread = p * p if plan.terms.of_squares else p
    return _joined([ce.sum((1, 2)), overlap, spread.sum(2), tile.truth.sum(1), tile.valid.sum()])


def _adjoint(logits: Tensor, tile: _Tile, plan: LossPlan, a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the total with respect to logits (k, C, T)."""
    y = tile.truth
    if plan.sigmoid:
        p = torch.sigmoid(logits) * tile.valid
        return p * (1 - p) * _pull(p, y, plan, a, b) + g * (p - y)
    p = torch.softmax(logits, 1) * tile.valid
    pull = _pull(p, y, plan, a, b)
    return p * (pull - (p * pull).sum(1, keepdim=True)) + g * (p - y)  # 0 to the last bit where p is y


def _pull(p: Tensor, y: Tensor, plan: LossPlan, a: Tensor, b: Tensor) -> Tensor:
    """Return the gradient by the probabilities."""
    return a * p - b * y if plan.terms.of_squares else a - b * y


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1).double() for part in parts])


# -- losses that differ from pixel to pixel ----------------------------------------------------------------------------


def _sums_by_pixel(logits: Tensor, tile: _Tile, plan: LossPlan, cuts: Tensor | None) -> Tensor:
    p = (torch.sigmoid(logits) if plan.sigmoid else torch.softmax(logits, 1)) * tile.valid
    spread = p * p if plan.terms.of_squares else p
    losses = pixel_losses(logits, tile.truth, plan)
    ce = torch.where(tile.valid > 0, losses.each, 0) * _shares(losses, tile, cuts)
    ce, pixels = (ce.sum(2), tile.weights.sum(1)) if plan.terms.boundary_weight else (ce.sum((1, 2)), tile.valid.sum())
    overlap, spread = (p * tile.truth * tile.weights).sum(2), (spread * tile.weights).sum(2)
    return _joined([ce, overlap, spread, (tile.truth * tile.weights).sum(1), pixels])


def _adjoint_by_pixel(
    logits: Tensor, tile: _Tile, plan: LossPlan, a: Tensor, b: Tensor, g: Tensor, cuts: Tensor | None
) -> Tensor:
    p = torch.sigmoid(logits) if plan.sigmoid else torch.softmax(logits, 1)
    losses = pixel_losses(logits, tile.truth, plan)
    slope = losses.slope(p, g * _shares(losses, tile, cuts))
    p, pull = p * tile.valid, _pull(p, tile.truth, plan, a, b) * tile.weights
    return slope + p * ((1 - p) * pull if plan.sigmoid else pull - (p * pull).sum(1, keepdim=True))


def _shares(losses: PixelLosses, tile: _Tile, cuts: Tensor | None) -> Tensor:
    """Return how much each cross-entropy counts, broadcast to (k, K, T)."""
    if cuts is None:
        return tile.weights
    return shares_of_largest(losses.each, cuts[0][:, None, None], cuts[1][:, None, None]) * tile.valid


def _cuts(
    maps: Sequence[Tensor], labels: Tensor, groups: Sequence[OperatorGroup], work: KernelPlan
) -> tuple[Tensor | None, int]:
    """Find what divides the largest cross-entropies from the others (2, m), and how many those are, with ``top_k``.

    The cross-entropies of all pixels are held for the maps of one operator and subset size at a time.
    """
    plan = work.plan
    if plan.terms.top_k == 1:
        return None, 0
    counted = sum(int(tile.valid.sum()) for tile in _tiles(maps, labels, None, plan))
    count = counted * (plan.num_classes if plan.sigmoid else 1)
    number = number_of_largest(count, plan.terms.top_k)
    cuts = maps[0].new_zeros(2, len(plan.maps))
    for group in groups:
        held = []
        for tile in _tiles(maps, labels, None, plan):
            each = pixel_losses(group.build(tile.maps), tile.truth, plan).each
            held.append(torch.where(tile.valid > 0, each, -1).flatten(1))
        cuts[:, group.maps] = torch.stack(threshold(torch.cat(held, 1), number))
    return cuts, number
