"""The mixture's losses on a GPU: three Triton kernels, nothing held per map. Needs ``triton``; import it lazily.

``triton_kernels`` writes the kernels and says how they work. Half-precision logits are widened to float32 as they are
read, so a product of four overflows only where float32 does (four half-precision logits reach 2e19 at most). Each
program adds to a row of its own, and rows are added in order afterwards: results do not change from run to run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lomix_search.mixture.loss.backends import triton_kernels
from lomix_search.mixture.loss.backends.triton_kernels import (
    ATTENTION,
    BLOCK,
    CONCAT,
    JOB,
    LINEAR,
    MAX,
    MUL,
    KernelShape,
    entry_length,
)
from lomix_search.mixture.loss.kernel_plan import KernelPlan, kernel_plan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.sums import size_of

KINDS = {"original": LINEAR, "add": LINEAR, "sub": LINEAR, "avg": LINEAR, "mul": MUL, "max": MAX}
KINDS |= {"attention": ATTENTION, "concat": CONCAT}
TILES = 16
"""Tiles of a program that adds up, at least where there are many: its sums over the lanes are then a small part."""
PARTS = 512
"""Programs for one entry, at most."""
ROW_BYTES = 2**25
"""Bytes for the rows of all programs, at most."""


def sums(maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan) -> Tensor:
    """Pass 1, as :func:`lomix_search.mixture.loss.backends.tiled.sums` says it.

    Maps are contiguous, of any floating type, and within the numbers of ``limits``.
    """
    launch = _Launch(maps, labels, params, work)
    images = launch.batch if work.plan.terms.per_image else 1
    tiles = launch.tiles(BLOCK) // images if images else 0
    size = size_of(work.plan)
    parts = _parts(tiles, images * size)
    rows = torch.empty(parts, images, size, dtype=params.dtype, device=params.device)
    entries = launch.tables.entries
    if images:
        launch.kernels.sums[(len(entries), parts, images)](
            *launch.inputs, entries, rows, *launch.numbers(BLOCK, tiles, parts)
        )
    return rows.sum(0, dtype=torch.float64)


def gradients(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, factors: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Pass 2, as :func:`lomix_search.mixture.loss.backends.tiled.gradients` says it."""
    launch = _Launch(maps, labels, params, work)
    a, b, g = factors
    slopes, gains = torch.stack([a, b], -1).to(params.dtype), g.reshape(-1).to(params.dtype)
    kept = launch.shape.kept
    grads = [torch.empty_like(one) if kept else torch.zeros_like(one, dtype=params.dtype) for one in maps]
    if tiles := launch.tiles(BLOCK):
        launch.kernels.gradients[(tiles,)](
            *launch.inputs,
            launch.tables.walk,
            slopes,
            gains,
            *grads,
            *launch.numbers(BLOCK, tiles, 1),
            *launch.tables.counts,
        )
    return grads, _parameter_gradients(launch, slopes, gains)


def _parameter_gradients(launch: "_Launch", slopes: Tensor, gains: Tensor) -> Tensor:
    """Return the gradients of the packed parameters."""
    params, tables = launch.params, launch.tables
    block = BLOCK if launch.shape.kept else launch.shape.matrix_block
    tiles = launch.tiles(block)
    if not len(params) or not tiles:
        return torch.zeros_like(params)
    parts = _parts(tiles, tables.length)
    rows = torch.empty(parts, tables.length, dtype=params.dtype, device=params.device)
    launch.kernels.parameters[(len(tables.jobs), parts)](
        *launch.inputs, tables.jobs, slopes, gains, rows, tables.length, *launch.numbers(block, tiles, parts)
    )
    added = rows.sum(0, dtype=torch.float64)
    return torch.cat([added, added.new_zeros(1)])[tables.users].sum(1).to(params.dtype)


def _parts(tiles: int, row: int) -> int:
    """Return among how many programs tiles are divided."""
    return max(1, min(-(-tiles // TILES), PARTS, ROW_BYTES // (8 * max(row, 1))))


# -- what the kernels are told -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tables:
    """The maps as the kernels walk them. A subset of scales is a number with one bit for each.

    Args:
        entries: What a program of pass 1 has (n, 1 + 3·slots): a subset, then index, kind and place of each map, index
            −1 where there is none. The first stands for the counts of pixels.
        walk: Subset, index and place of each map (m, 3), sorted by kind.
        jobs: What a program that adds up gradients of learned operators has (k, ``JOB``).
        counts: Number of maps of each kind.
        factors: Factor of each scale in each map (m, L), float64: a third is none of float32.
        dense: Which packed parameter stands where in the rows of weights that the kernels read; −1: a zero.
        users: For each packed parameter, the places where it stands, padded with the place past the end.
    """

    entries: Tensor
    walk: Tensor
    jobs: Tensor
    counts: tuple[int, ...]
    factors: Tensor
    dense: Tensor
    users: Tensor

    @property
    def length(self) -> int:
        """Number of weights that the kernels read."""
        return len(self.dense)


@lru_cache(maxsize=64)
def _shape(plan: LossPlan, double: bool) -> KernelShape:
    kinds = tuple(sorted({KINDS[m.operator] for m in plan.maps}))
    terms = plan.terms
    flags = plan.sigmoid, terms.of_squares, terms.per_image, terms.class_weights is not None
    return KernelShape(plan.num_maps, plan.num_classes, kinds, *flags, double)


@lru_cache(maxsize=64)
def _tables(plan: LossPlan, shape: KernelShape, device: torch.device) -> _Tables:
    work = kernel_plan(plan)
    factors = torch.zeros(len(plan.maps), plan.num_maps, dtype=torch.float64)
    dense: list[int] = []
    rows = []
    for i, m in enumerate(plan.maps):
        kind, at = KINDS[m.operator], i * plan.num_maps
        for j, scale in enumerate(m.scales):
            factors[i, scale - 1] = (
                -1.0 if m.operator == "sub" and j else 1 / len(m.scales) if m.operator == "avg" else 1.0
            )
        if m.parameters is not None:
            at = len(dense)
            dense += _places(m.scales, kind, work.offsets[m.parameters], shape)
        rows.append((sum(1 << (s - 1) for s in m.scales), i, kind, at))
    by_kind = sorted(rows, key=lambda row: (row[2], row[1]))
    walk = [(bits, i, at) for bits, i, _, at in by_kind]
    jobs = [job for row in reversed(by_kind) if row[2] >= ATTENTION for job in _jobs(row, shape)]
    counts = tuple(sum(row[2] == kind for row in rows) for kind in range(5))
    parts = (_entries(by_kind, shape), walk, jobs or [(0,) * JOB])
    numbers = (torch.tensor(part, dtype=torch.int32, device=device) for part in parts)
    read = torch.tensor(dense, dtype=torch.int64)
    users = _users(read, work.num_params)
    return _Tables(*numbers, counts, factors.to(device), read.to(device), users.to(device))


def _places(scales: Sequence[int], kind: int, start: int, shape: KernelShape) -> list[int]:
    """Return where each weight of a map stands among the packed parameters: rows of C and a bias, padded.

    Attention has a row for each scale. A concatenation has one for each scale and input, of C outputs, and one of
    biases.
    """
    classes, arity = shape.classes, len(scales)
    if kind == ATTENTION:
        table = torch.full((shape.scales, shape.row), -1)
        for j, scale in enumerate(scales):
            table[scale - 1, :classes] = start + j * classes + torch.arange(classes)
            table[scale - 1, classes] = start + arity * classes + j
        return table.flatten().tolist()
    table = torch.full((shape.scales * classes + 1, shape.row), -1)
    outputs = torch.arange(classes)
    for j, scale in enumerate(scales):
        for c in range(classes):
            table[(scale - 1) * classes + c, :classes] = start + outputs * (arity * classes) + j * classes + c
    table[-1, :classes] = start + classes * arity * classes + outputs
    return table.flatten().tolist()


def _entries(rows: Sequence[tuple[int, int, int, int]], shape: KernelShape) -> list[list[int]]:
    """Give maps of one subset to one program, as many as it has slots; learned ones first, the dearest at the front."""
    entries: list[list[tuple[int, int, int, int]]] = []
    for row in reversed(rows):
        free = (e for e in entries if e[0][0] == row[0] and len(e) < shape.slots and row[2] < ATTENTION)
        if (entry := next(free, None)) is not None:
            entry.append(row)
        else:
            entries.append([row])
    none = (-1, 0, 0)
    filled = ([e[0][0], *(n for row in e for n in row[1:]), *none * (shape.slots - len(e))] for e in entries)
    return [[0] * entry_length(shape), *filled]


def _jobs(row: tuple[int, int, int, int], shape: KernelShape) -> list[tuple[int, ...]]:
    """Divide the inputs of a map among programs."""
    bits, index, kind, at = row
    if kind == ATTENTION or not shape.kept:
        return [(bits, index, kind, at, 0, 0, -1, 0)]
    sets, inputs = shape.outer
    members = [i for i in range(shape.scales) if bits >> i & 1]
    parts = [(scale, c) for scale in members for c in range(0, shape.classes, inputs)]
    pairs = [parts[i : i + sets] for i in range(0, len(parts), sets)]
    return [(bits, index, kind, at, *pair[0], *(pair[1] if len(pair) > 1 else (-1, 0))) for pair in pairs]


def _users(read: Tensor, num_params: int) -> Tensor:
    """Return for each parameter the places that read it. Rows are padded to one length with the place past the end."""
    places: list[list[int]] = [[] for _ in range(num_params)]
    for place, parameter in enumerate(read.tolist()):
        if parameter >= 0:
            places[parameter].append(place)
    width = max(map(len, places), default=1)
    return torch.tensor([row + [len(read)] * (width - len(row)) for row in places], dtype=torch.int64).view(-1, width)


class _Launch:
    """What all kernels are given."""

    def __init__(self, maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan) -> None:
        self.plan, self.params = work.plan, params
        self.batch, self.pixels = len(labels), math.prod(labels.shape[1 + work.plan.sigmoid :])
        self.shape = _shape(work.plan, params.dtype == torch.float64)
        self.tables = _tables(work.plan, self.shape, params.device)
        self.kernels = triton_kernels.kernels(self.shape)
        dense = torch.cat([params, params.new_zeros(1)])[self.tables.dense]  # −1 reads the zero at the end
        pairs = dense if self.shape.double else dense.view(torch.int64)
        weights = params.new_tensor(work.plan.terms.class_weights) if self.shape.weighted else params
        self.inputs = (*maps, labels, weights, self.tables.factors.to(params.dtype), dense, pairs)

    def tiles(self, block: int) -> int:
        """Return the number of tiles of so many pixels."""
        return self.batch * -(-self.pixels // block)

    def numbers(self, block: int, tiles: int, parts: int) -> tuple[int, ...]:
        """Return the numbers that all kernels take."""
        ignored = self.plan.ignore_index
        per_image = -(-self.pixels // block)
        return self.pixels, per_image, tiles, parts, -1 if ignored is None else ignored, len(self.plan.maps)
