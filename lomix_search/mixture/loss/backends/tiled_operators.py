"""The operators of the PyTorch back end, forwards and backwards: maps of one operator and subset size, all at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from lomix_search.mixture.loss.kernel_plan import KernelPlan


def operator_groups(work: KernelPlan, params: Tensor) -> list["OperatorGroup"]:
    """Group the maps by operator and subset size, in the order in which they come first."""
    found: dict[tuple[str, int], list[int]] = {}
    for i, m in enumerate(work.plan.maps):
        found.setdefault((m.operator, len(m.scales)), []).append(i)
    return [_GROUPS[name](indices, work, params) for (name, _), indices in found.items()]


def plan_order(groups: Sequence["OperatorGroup"], device: torch.device) -> Tensor:
    """Return the index that brings the groups' maps, one group after another, into the order of the loss plan."""
    return torch.cat([group.maps for group in groups]).argsort().to(device)


class OperatorGroup(ABC):
    """Maps of one operator and subset size n: k subsets, built together from a tile of the originals.

    Args:
        indices: Where the k maps stand in the loss plan.
        work: The plan.
        params: Packed parameters.
    """

    def __init__(self, indices: Sequence[int], work: KernelPlan, params: Tensor) -> None:
        rows = [work.plan.maps[i] for i in indices]
        device = params.device
        self.maps = torch.tensor(indices, device=device)
        self.scales = [torch.tensor([m.scales[j] - 1 for m in rows], device=device) for j in range(len(rows[0].scales))]
        self.n = len(self.scales)

    def parts(self, maps: Tensor) -> list[Tensor]:
        """Return the n originals of each subset, (k, C, T) each, from the tile's originals (L, C, T)."""
        return [maps.index_select(0, at) for at in self.scales]

    @abstractmethod
    def build(self, maps: Tensor) -> Tensor:
        """Return the maps (k, C, T) from the tile's originals (L, C, T)."""

    @abstractmethod
    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        """Hand the gradient of the maps back.

        Args:
            d: Gradient of the total with respect to the maps (k, C, T).
            maps: The tile's originals (L, C, T).
            grad: Gradient of the originals, which is added to.
            grad_params: Gradient of the packed parameters, float64, which is added to.
        """


class _Sum(OperatorGroup):
    """An original too: the sum of one."""

    def build(self, maps: Tensor) -> Tensor:
        return reduce(torch.add, self.parts(maps))

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        for at in self.scales:
            grad.index_add_(0, at, d)


class _Sub(OperatorGroup):
    def build(self, maps: Tensor) -> Tensor:
        first, *others = self.parts(maps)
        return first - reduce(torch.add, others)

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        for j, at in enumerate(self.scales):
            grad.index_add_(0, at, d, alpha=-1 if j else 1)


class _Avg(_Sum):
    def build(self, maps: Tensor) -> Tensor:
        return super().build(maps) / self.n

    def spread(self, d: Tensor, maps: Tensor, grad: Tensor, grad_params: Tensor) -> None:
        super().spread(d / self.n, maps, grad, grad_params)


class _Mul(OperatorGroup):
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


class _Max(OperatorGroup):
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


class _Learned(OperatorGroup, ABC):
    """An operator with ``weight`` and ``bias``, gathered from the packed parameters for each subset."""

    @abstractmethod
    def shapes(self, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of weight and bias for one subset."""

    def __init__(self, indices: Sequence[int], work: KernelPlan, params: Tensor) -> None:
        super().__init__(indices, work, params)
        modules = [work.plan.maps[i].parameters for i in indices]
        starts = [work.offsets[name] for name in modules if name is not None]
        weight, bias = self.shapes(work.plan.num_classes)
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


_GROUPS: Mapping[str, type[OperatorGroup]] = {
    "original": _Sum,
    "add": _Sum,
    "sub": _Sub,
    "avg": _Avg,
    "mul": _Mul,
    "max": _Max,
    "concat": _Concat,
    "attention": _Attention,
}
