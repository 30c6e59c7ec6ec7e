"""What the Triton kernels are told: the maps of a plan as tables of numbers, arranged for kernels of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lomix_search.mixture.loss.backends.triton_writer.parameters import JOB
from lomix_search.mixture.loss.backends.triton_writer.shape import (
    ATTENTION,
    CONCAT,
    LINEAR,
    MAX,
    MUL,
    KernelShape,
)
from lomix_search.mixture.loss.backends.triton_writer.sums import entry_length
from lomix_search.mixture.loss.kernel_plan import kernel_plan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.top_k import ALIKE

KINDS = {"original": LINEAR, "add": LINEAR, "sub": LINEAR, "avg": LINEAR, "mul": MUL, "max": MAX}
KINDS |= {"attention": ATTENTION, "concat": CONCAT}
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Tables:
    """The maps as the kernels walk them. A subset of scales is a number with one bit for each.

    Args:
        entries: What a program of pass 1 has (n, 1 + 3·slots): a subset, then index, kind and place of each map, index
            −1 where there is none. The first stands for the counts of pixels.
        walk: Subset, index and place of each map (m, 3), sorted by kind.
        jobs: What a program that adds up gradients of learned operators has (k, ``JOB``).
        counts: Number of maps of each kind.
        factors: Factor of each scale in each map (m, L).
        weights: Of the classes (C,), and behind them the numbers of what changes each pixel's loss.
        dense: Which packed parameter stands where in the rows of weights that the kernels read; −1: a zero.
        users: For each packed parameter, the places where it stands, padded with the place past the end.
    """

    entries: Tensor
    walk: Tensor
    jobs: Tensor
    counts: tuple[int, ...]
    factors: Tensor
    weights: Tensor
    dense: Tensor
    users: Tensor

    @property
    def length(self) -> int:
        """Number of weights that the kernels read."""
        return len(self.dense)


@lru_cache(maxsize=64)
def kernel_shape(plan: LossPlan, double: bool, coarse: tuple[int, ...] = (), axes: int = 0) -> KernelShape:
    """Return what the kernels of a plan are compiled for; ``coarse`` and ``axes`` as ``KernelShape`` has them."""
    kinds = tuple(sorted({KINDS[m.operator] for m in plan.maps}))
    terms = plan.terms
    flags = plan.sigmoid, terms.of_squares, terms.per_image, terms.class_weights is not None
    options = bool(terms.focal_gamma), bool(terms.label_smoothing), terms.top_k < 1, bool(terms.boundary_weight)
    return KernelShape(plan.num_maps, plan.num_classes, kinds, *flags, double, coarse, axes if coarse else 0, *options)


@lru_cache(maxsize=64)
def tables_of(plan: LossPlan, shape: KernelShape, device: torch.device = _CPU) -> Tables:
    """Arrange the maps of a plan for kernels of a shape."""
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
    entries, steps, work_of = (torch.tensor(part, dtype=torch.int32, device=device) for part in parts)
    read = torch.tensor(dense, dtype=torch.int64)
    weights = torch.tensor(_weights(plan, shape.double), dtype=torch.float64)
    real = torch.float64 if shape.double else torch.float32
    return Tables(
        entries=entries,
        walk=steps,
        jobs=work_of,
        counts=counts,
        factors=factors.to(device, real),
        weights=weights.to(device, real),
        dense=read.to(device),
        users=_users(read, work.num_params).to(device),
    )


def _weights(plan: LossPlan, double: bool) -> list[float]:
    """Return the weights of classes; γ; how much of the truth is kept, and what each class gets; what is as large."""
    terms = plan.terms
    even = terms.label_smoothing / (2 if plan.sigmoid else plan.num_classes)
    own = terms.class_weights or [1.0] * plan.num_classes
    return [*own, terms.focal_gamma, 1 - terms.label_smoothing, even, ALIKE[torch.float64 if double else torch.float32]]


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
