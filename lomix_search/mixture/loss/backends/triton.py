"""The mixture's losses on a GPU: one pair of Triton kernels, nothing held per map. Needs ``triton``; import it lazily.

A program walks over tiles of pixels; the originals of a tile stand in registers as one (L, C, pixels) block, padded to
powers of two, and every map is built from it, used and forgotten. Half-precision logits are widened to float32 as they
are read, so a product of four overflows only where float32 does (four half-precision logits reach 2e19 at most).
Each program adds to a row of its own, and rows are added in order afterwards: results do not change from run to run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lomix_search.mixture.loss.backends import triton_kernels
from lomix_search.mixture.loss.backends.limits import TRITON_MAPS
from lomix_search.mixture.loss.kernel_plan import KernelPlan, kernel_plan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.sums import size_of

LINEAR, MUL, MAX, ATTENTION, CONCAT = range(5)
KINDS = {"original": LINEAR, "add": LINEAR, "sub": LINEAR, "avg": LINEAR, "mul": MUL, "max": MAX}
KINDS |= {"attention": ATTENTION, "concat": CONCAT}
BLOCK_ELEMENTS = 4096
"""Values of one block of originals: 32 registers of each of 128 threads."""
ROW_BYTES = 2**26
"""Bytes for the rows of all programs, at most."""


def sums(maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan) -> Tensor:
    """Pass 1, as :func:`lomix_search.mixture.loss.backends.tiled.sums` says it.

    Maps are contiguous, of any floating type, and within the numbers of ``limits``.
    """
    tables = _tables(work.plan, params.device)
    m = len(work.plan.maps)
    images = len(maps[0]) if work.plan.terms.per_image else 1
    launch = _launch(maps, work, images * size_of(work.plan))
    rows = torch.zeros(launch.programs, images, size_of(work.plan), dtype=torch.float64, device=params.device)
    triton_kernels.forward[(launch.programs,)](
        *launch.arguments(maps, labels, tables, params), rows, m, images, **launch.constants
    )
    return rows.sum(0)


def gradients(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, factors: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Pass 2, as :func:`lomix_search.mixture.loss.backends.tiled.gradients` says it."""
    tables = _tables(work.plan, params.device)
    launch = _launch(maps, work, tables.learned)
    grads = [torch.empty_like(one) for one in maps]
    rows = torch.zeros(launch.programs, tables.learned, dtype=params.dtype, device=params.device)
    held = [factor.to(params.dtype).contiguous() for factor in factors]
    given = launch.arguments(maps, labels, tables, params)
    triton_kernels.backward[(launch.programs,)](
        *given, *held, len(work.plan.maps), *_padded(grads), rows, tables.learned, **launch.constants
    )
    flat = torch.cat([rows.double().sum(0), rows.new_zeros(1, dtype=torch.float64)])
    return grads, flat[tables.users].sum(1).to(params.dtype)


# -- what the kernels are told -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tables:
    """The maps sorted by kind, and where their parameters stand.

    Args:
        order: Index of each map in the plan, linear ones first, (m,).
        member: Whether a scale belongs to a map, (m, LP).
        factor: Factor of each scale in a linear map, (m, LP), float64: a third is none of float32.
        attention: For each attention map, scale and class, where its weight is among the packed parameters and then
            its bias, (k, LP, CP + 1); −1 where there is none.
        concat: The same for each concatenation, scale, output and input, (k, LP, CP, CP), then biases (k, CP).
        users: For each packed parameter, which of the values read through ``attention`` and ``concat`` are it, padded.
        learned: How many values those are.
        counts: Number of maps of each kind.
    """

    order: Tensor
    member: Tensor
    factor: Tensor
    attention: Tensor
    concat: Tensor
    concat_bias: Tensor
    users: Tensor
    learned: int
    counts: tuple[int, ...]


@lru_cache(maxsize=64)
def _tables(plan: LossPlan, device: torch.device) -> _Tables:
    work = kernel_plan(plan)
    lp, cp, c = _pad(plan.num_maps), _pad_classes(plan.num_classes), plan.num_classes
    kinds = [KINDS[m.operator] for m in plan.maps]
    order = sorted(range(len(kinds)), key=lambda i: (kinds[i], i))
    counts = tuple(kinds.count(kind) for kind in range(5))
    member, factor = torch.zeros(len(order), lp, dtype=torch.int32), torch.zeros(len(order), lp).double()
    attention = torch.full((counts[ATTENTION], lp, cp + 1), -1)
    concat, bias = torch.full((counts[CONCAT], lp, cp, cp), -1), torch.full((counts[CONCAT], cp), -1)
    for row, i in enumerate(order):
        m = plan.maps[i]
        start, arity = work.offsets.get(m.parameters or "", 0), len(m.scales)
        for j, scale in enumerate(s - 1 for s in m.scales):
            member[row, scale] = 1
            factor[row, scale] = -1.0 if m.operator == "sub" and j else 1.0 / arity if m.operator == "avg" else 1.0
            if m.operator == "attention":
                own = attention[row - sum(counts[:ATTENTION])]
                own[scale, :c] = start + j * c + torch.arange(c)
                own[scale, cp] = start + arity * c + j
            if m.operator == "concat":
                at = row - sum(counts[:CONCAT])
                rows = torch.arange(c)[:, None] * arity * c
                concat[at, scale, :c, :c] = start + rows + j * c + torch.arange(c)
                bias[at, :c] = start + c * c * arity + torch.arange(c)
    read = torch.cat([attention.reshape(-1), concat.reshape(-1), bias.reshape(-1)])
    users = _users(read, work.num_params)
    parts = (torch.tensor(order, dtype=torch.int32), member, factor, attention, concat, bias, users)
    return _Tables(*(part.to(device) for part in parts), learned=len(read), counts=counts)  # type: ignore[misc, arg-type]


def _users(read: Tensor, num_params: int) -> Tensor:
    """Return for each parameter the places that read it. Rows are padded to one length with the place past the end."""
    places: list[list[int]] = [[] for _ in range(num_params)]
    for place, parameter in enumerate(read.tolist()):
        if parameter >= 0:
            places[parameter].append(place)
    width = max(map(len, places), default=1)
    return torch.tensor([row + [len(read)] * (width - len(row)) for row in places], dtype=torch.int64).view(-1, width)


@dataclass(frozen=True)
class _Launch:
    """Sizes of a launch."""

    programs: int
    work: KernelPlan
    batch: int
    pixels: int
    block: int

    def arguments(
        self, maps: Sequence[Tensor], labels: Tensor, tables: _Tables, params: Tensor
    ) -> tuple[Tensor | int, ...]:
        """Return what both kernels take first."""
        held = torch.cat([params, params.new_zeros(1)])  # −1 reads the zero at the end
        dense = held[torch.cat([part.reshape(-1) for part in (tables.attention, tables.concat, tables.concat_bias)])]
        ignored = self.work.plan.ignore_index
        per_image = -(-self.pixels // self.block)
        numbers = (self.pixels, per_image, per_image * self.batch, -1 if ignored is None else ignored)
        factor = tables.factor.to(params.dtype)
        weights = params.new_tensor(self.work.plan.terms.class_weights or [1.0] * self.work.plan.num_classes)
        return (*_padded(maps), labels, weights, tables.order, tables.member, factor, dense, *numbers, *tables.counts)

    @property
    def constants(self) -> dict[str, int | bool]:
        """Return what the kernels are compiled for."""
        plan = self.work.plan
        return {
            "L": plan.num_maps,
            "LP": _pad(plan.num_maps),
            "C": plan.num_classes,
            "CP": _pad_classes(plan.num_classes),
            "BLOCK": self.block,
            "SIGMOID": plan.sigmoid,
            "SQUARES": plan.terms.of_squares,
            "PER_IMAGE": plan.terms.per_image,
            "WEIGHTED": plan.terms.class_weights is not None,
        }


def _launch(maps: Sequence[Tensor], work: KernelPlan, row: int) -> _Launch:
    batch, pixels = len(maps[0]), maps[0][0, 0].numel()
    plan = work.plan
    block = max(16, min(128, BLOCK_ELEMENTS // (_pad(plan.num_maps) * _pad_classes(plan.num_classes))))
    tiles = batch * -(-pixels // block)
    return _Launch(max(1, min(tiles, 1024, ROW_BYTES // (8 * max(row, 1)))), work, batch, pixels, block)


def _padded(maps: Sequence[Tensor]) -> list[Tensor]:
    return [*maps, *[maps[0]] * (TRITON_MAPS - len(maps))]


def _pad(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _pad_classes(classes: int) -> int:
    return max(16, _pad(classes))  # matrix products take no less
