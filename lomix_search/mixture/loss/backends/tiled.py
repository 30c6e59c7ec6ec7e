"""The back end that always works: plain PyTorch, tile by tile, on any device.

All maps of a tile of one operator and subset size are built together as (k, C, T) tensors, k subsets of T pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.kernel_plan import KernelPlan
from lomix_search.mixture.loss.plan import LossPlan

ELEMENTS = 2**20
"""Logits of a tile, over all maps: what is held at a time, whatever the number of maps and pixels."""


def sums(maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan) -> Tensor:
    """Pass 1: add up what cross-entropy and Dice need.

    Args:
        maps: L originals (B, C, N), float32 or float64.
        labels: Classes (B, N), int64.
        params: Packed parameters.
        work: What to compute.

    Returns:
        One vector of sums, float64, in the order of ``fused.Sums``.
    """
    groups = _groups(work, params)
    order = _order(groups, params.device)
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
    groups = _groups(work, params)
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
    """Pixels: ``maps`` (L, C, T), ``labels`` (T), ``truth`` (C, T) and ``valid`` (T), 0 where they do not count."""

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
            yield _tile(maps, labels[where[0], where[2]].reshape(-1), where, plan)


def _tile(maps: Sequence[Tensor], labels: Tensor, where: tuple[slice, slice, slice], plan: LossPlan) -> _Tile:
    top = max(plan.num_classes, 2)
    valid = (labels >= 0) & (labels < top)
    if plan.ignore_index is not None:
        valid &= labels != plan.ignore_index
    labels = labels.where(valid, 0)
    held = torch.stack([one[where].transpose(0, 1).flatten(1) for one in maps]).masked_fill(~valid, 0)
    weights = valid.to(held.dtype)
    one_hot = F.one_hot(labels, top).T.to(held.dtype) * weights
    return _Tile(held, labels, one_hot[1:] if plan.binary else one_hot, weights, where)


def _size(plan: LossPlan) -> int:
    """Return the length of the vector of sums."""
    return len(plan.maps) * (2 * plan.num_classes + 1) + plan.num_classes + 1


def _tile_sums(logits: Tensor, tile: _Tile, plan: LossPlan) -> Tensor:
    if plan.binary:
        p = torch.sigmoid(logits) * tile.valid
        truth = tile.truth.expand_as(logits)
        ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * tile.valid
        overlap = p[:, 0] @ tile.truth.T
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
    if plan.binary:
        p = torch.sigmoid(logits) * tile.valid
        return p * (1 - p) * (a * p - b * y) + g * (p - y)
    p = torch.softmax(logits, 1) * tile.valid
    pull = a * p - b * y
    return p * (pull - (p * pull).sum(1, keepdim=True)) + g * (p - y)  # 0 to the last bit where p is y


def _groups(work: KernelPlan, params: Tensor) -> list["_Group"]:
    """Group the maps by operator and subset size, in the order in which they come first."""
    found: dict[tuple[str, int], list[int]] = {}
    for i, m in enumerate(work.plan.maps):
        found.setdefault((m.operator, len(m.scales)), []).append(i)
    return [_GROUPS[name](indices, work, params) for (name, _), indices in found.items()]


def _order(groups: Sequence["_Group"], device: torch.device) -> Tensor:
    return torch.cat([group.maps for group in groups]).argsort().to(device)


class _Group:
    """Maps of one operator and subset size n. This one adds, and is what an original is too.

    ``scales[j]`` (k,) is the j-th scale of each subset, ``maps`` (k,) where they stand in the plan.
    """

    def __init__(self, indices: Sequence[int], work: KernelPlan, params: Tensor) -> None:
        rows = [work.plan.maps[i] for i in indices]
        device = params.device
        self.maps = torch.tensor(indices, device=device)
        self.scales = [torch.tensor([m.scales[j] - 1 for m in rows], device=device) for j in range(len(rows[0].scales))]
        self.n = len(self.scales)
        self.read(work.plan.num_classes, [work.offsets.get(m.parameters or "", 0) for m in rows], params)

    def read(self, classes: int, starts: Sequence[int], params: Tensor) -> None:
        """Read the parameters, if there are any."""

    def parts(self, maps: Tensor) -> list[Tensor]:
        return [maps.index_select(0, at) for at in self.scales]

    def build(self, maps: Tensor) -> Tensor:
        return reduce(torch.add, self.parts(maps))

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        for at in self.scales:
            grad.index_add_(0, at, d)


class _Sub(_Group):
    def build(self, maps: Tensor) -> Tensor:
        first, *others = self.parts(maps)
        return first - reduce(torch.add, others)

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        for j, at in enumerate(self.scales):
            grad.index_add_(0, at, d, alpha=-1 if j else 1)


class _Avg(_Group):
    def build(self, maps: Tensor) -> Tensor:
        return super().build(maps) / self.n

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        super().spread(d / self.n, maps, grad, grad_params)


class _Mul(_Group):
    def build(self, maps: Tensor) -> Tensor:
        return reduce(torch.mul, self.parts(maps))

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        parts = self.parts(maps)
        before = [torch.ones_like(d)]
        for part in parts[:-1]:
            before.append(before[-1] * part)
        for j in reversed(range(self.n)):
            grad.index_add_(0, self.scales[j], d * before[j])
            d = d * parts[j]


class _Max(_Group):
    def build(self, maps: Tensor) -> Tensor:
        return reduce(torch.maximum, self.parts(maps))

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        """Hand the gradient to the larger one; ties share it in halves, and of NaN both get it all, as in torch."""
        parts = self.parts(maps)
        before = [parts[0]]
        for part in parts[1:-1]:
            before.append(torch.maximum(before[-1], part))
        for j in reversed(range(1, self.n)):
            shared = torch.where(parts[j] == before[j - 1], d * 0.5, d)
            grad.index_add_(0, self.scales[j], shared.masked_fill(before[j - 1] > parts[j], 0))
            d = shared.masked_fill(before[j - 1] < parts[j], 0)
        grad.index_add_(0, self.scales[0], d)


class _Learned(_Group, ABC):
    """An operator with ``weight`` and ``bias``, gathered from the packed parameters for each subset."""

    @abstractmethod
    def shapes(self, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of weight and bias for one subset."""

    def read(self, classes: int, starts: Sequence[int], params: Tensor) -> None:
        weight, bias = self.shapes(classes)
        begin = torch.tensor(starts, device=params.device)[:, None]
        size = torch.Size(weight).numel()
        self.weight_at = begin + torch.arange(size, device=params.device)
        self.bias_at = begin + size + torch.arange(torch.Size(bias).numel(), device=params.device)
        self.weight = params[self.weight_at].view(-1, *weight)
        self.bias = params[self.bias_at].view(-1, *bias)

    def give(self, grad_params: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Add gradients up; subsets that share their parameters add to the same ones."""
        grad_params.index_add_(0, self.weight_at.reshape(-1), weight.reshape(-1).double())
        grad_params.index_add_(0, self.bias_at.reshape(-1), bias.reshape(-1).double())


class _Concat(_Learned):
    def shapes(self, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (classes, self.n * classes), (classes,)

    def build(self, maps: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, :, None], self.weight, torch.cat(self.parts(maps), 1))

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        joined = torch.cat(self.parts(maps), 1)
        self.give(grad_params, d @ joined.transpose(1, 2), d.sum(2))
        for at, part in zip(self.scales, (self.weight.transpose(1, 2) @ d).chunk(self.n, 1), strict=True):
            grad.index_add_(0, at, part)


class _Attention(_Learned):
    def shapes(self, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.n, classes), (self.n,)

    def build(self, maps: Tensor) -> Tensor:
        parts = torch.stack(self.parts(maps), 1)
        return (self.gates(parts)[:, :, None] * parts).sum(1)

    def gates(self, parts: Tensor) -> Tensor:
        """Return the softmax over the subset (k, n, T) for its maps (k, n, C, T)."""
        scores = (self.weight[:, :, None] @ parts)[:, :, 0] + self.bias[:, :, None]
        return torch.softmax(scores, 1)

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        parts = torch.stack(self.parts(maps), 1)
        gates = self.gates(parts)
        slope = (d[:, None] * parts).sum(2)
        slope = gates * (slope - (gates * slope).sum(1, keepdim=True))
        self.give(grad_params, (parts @ slope[..., None])[..., 0], slope.sum(2))
        back = gates[:, :, None] * d[:, None] + slope[:, :, None] * self.weight[..., None]
        for j, at in enumerate(self.scales):
            grad.index_add_(0, at, back[:, j])


_GROUPS: Mapping[str, type[_Group]] = {
    "original": _Group,
    "add": _Group,
    "sub": _Sub,
    "avg": _Avg,
    "mul": _Mul,
    "max": _Max,
    "concat": _Concat,
    "attention": _Attention,
}
