"""The mixture's losses on a GPU: Triton kernels, nothing held per map. Needs ``triton``; import it lazily.

``triton_kernels`` loads them and says how they work. Half-precision logits are widened to float32 as they are
read, so a product of four overflows only where float32 does (four half-precision logits reach 2e19 at most). Each
program adds to a row of its own, and rows are added in order afterwards: results do not change from run to run.

Coarse originals are interpolated as they are read. Of their gradients a part of the pixels at a time is written at the
labels' size and gathered to their own at once, so that it comes from the L2 cache and never exists as a whole.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from lomix_search.mixture.loss.backends import triton_kernels
from lomix_search.mixture.loss.backends.on_cuda import private_cache_if_needed
from lomix_search.mixture.loss.backends.triton_tables import Tables, kernel_shape, tables_of
from lomix_search.mixture.loss.backends.triton_writer.shape import BLOCK
from lomix_search.mixture.loss.kernel_plan import KernelPlan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.sums import size_of
from lomix_search.mixture.loss.top_k import sums_of_largest

private_cache_if_needed()  # before Triton compiles anything
TILES = 16
"""Tiles of a program that adds up, at least where there are many: its sums over the lanes are then a small part."""
PARTS = 512
"""Programs for one entry, at most."""
ROW_BYTES = 2**25
"""Bytes for the rows of all programs, at most."""
PART_BYTES = 2**25
"""Bytes for the gradients of coarse originals at the labels' size, at most: what stays in the L2 cache of an H100. But
a GPU has at least one round to do."""
PART_OF_LOGITS = 0.6
"""These bytes, as a part of the last layer's logits at most."""
PROGRAMS = 3
"""Programs of pass 2 that a multiprocessor has room for."""


def sums(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, weights: Tensor | None = None
) -> Tensor:
    """Pass 1, as :func:`lomix_search.mixture.loss.backends.tiled.sums` says it.

    Maps are contiguous, of any floating type, along no axis finer than the labels, and within the numbers of
    ``limits``. With ``top_k`` the cross-entropies of all pixels are held, those of all maps, and it waits for the GPU.
    """
    launch = _Launch(maps, labels, params, work, weights)
    images = launch.batch if work.plan.terms.per_image else 1
    tiles = launch.tiles(BLOCK) // images if images else 0
    size = size_of(work.plan)
    parts = _parts(tiles, images * size)
    rows = torch.empty(parts, images, size, dtype=params.dtype, device=params.device)
    entries = launch.tables.entries
    more: tuple[Tensor, int] | tuple[()] = ()
    if launch.shape.largest:
        held = params.new_empty(len(work.plan.maps), labels.numel())
        more = held, held.shape[1]
    if images:
        launch.kernels.sums[(len(entries), parts, images)](
            *launch.inputs,
            entries,
            rows,
            *more,
            *launch.numbers(BLOCK, tiles, parts),
            maxnreg=triton_kernels.most_registers(launch.shape, "sums"),
        )
    total = rows.sum(0, dtype=torch.float64)
    return sums_of_largest(total, more[0], work.plan) if more else total


def gradients(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    work: KernelPlan,
    factors: Sequence[Tensor],
    weights: Tensor | None = None,
    cuts: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Pass 2, as :func:`lomix_search.mixture.loss.backends.tiled.gradients` says it."""
    launch = _Launch(maps, labels, params, work, weights)
    a, b, g = factors
    slopes = [torch.stack([a, b], -1), g, *([] if cuts is None else [cuts])]
    held = [one.to(params.dtype).contiguous() for one in slopes]
    return _map_gradients(launch, maps, held), _parameter_gradients(launch, held)


def _map_gradients(launch: "_Launch", maps: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the originals; ``slopes`` as ``KernelShape.slope_tables`` names them."""
    shape, tiles = launch.shape, launch.tiles(BLOCK)
    added = [not shape.kept or i in shape.coarse for i in range(len(maps))]  # to what stands there
    wide = launch.params.dtype
    grads = [
        torch.zeros_like(m, dtype=wide) if add else torch.empty_like(m) for m, add in zip(maps, added, strict=True)
    ]
    step = _at_once(launch, tiles) if shape.coarse else max(tiles, 1)
    held = launch.params.new_empty(len(shape.coarse), shape.classes, step * BLOCK)
    parts = dict(zip(shape.coarse, held, strict=True))
    targets = [parts.get(i, grad) for i, grad in enumerate(grads)]
    for begin in range(0, tiles, step):
        count = min(step, tiles - begin)
        launch.kernels.gradients[(count,)](
            *(*launch.inputs, launch.tables.walk, *slopes, *targets),
            *(*launch.numbers(BLOCK, tiles, 1), begin, step * BLOCK, *launch.tables.counts),
            maxnreg=triton_kernels.most_registers(shape, "gradients"),
        )
        for i, part in parts.items():
            _gather(launch, part, grads[i], begin, count)
    return grads


def _at_once(launch: "_Launch", tiles: int) -> int:
    """Return of how many tiles gradients of coarse originals are held at the labels' size: whole rounds of a GPU."""
    shape, params = launch.shape, launch.params
    round_ = _multiprocessors(params.device) * (PROGRAMS if shape.kept else 1)
    values = len(shape.coarse) * shape.classes * BLOCK
    logits = launch.batch * shape.classes * launch.pixels
    room = min(PART_BYTES // params.itemsize, int(PART_OF_LOGITS * logits))
    return max(1, min(tiles, max(1, room // (values * round_)) * round_))


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _gather(launch: "_Launch", part: Tensor, grad: Tensor, begin: int, count: int) -> None:
    """Add what the pixels of some tiles hand back to a gradient at its own size.

    Args:
        launch: What the kernels are given.
        part: Of the pixels (C, room).
        grad: (B, C, *own).
        begin: First tile.
        count: Of how many tiles.
    """
    full, own = launch.size, tuple(grad.shape[2:])
    start, values = _values_of(full, own, launch.batch, begin, count)
    footprint = math.prod(-(-2 * many // few) for many, few in zip(full, own, strict=True))
    kernel, width = triton_kernels.gather_kernel(len(own), launch.shape.double, footprint)
    classes, padded = grad.shape[1], BLOCK * launch.tiles(BLOCK) // launch.batch
    numbers = begin * BLOCK, part.shape[1], padded, start, values, classes
    kernel[(-(-values // width), classes)](part, grad, *numbers, *full, *own)


def _values_of(full: tuple[int, ...], own: tuple[int, ...], batch: int, begin: int, count: int) -> tuple[int, int]:
    """Return the first of the values (of all images in a row) that the pixels of some tiles read, and their number."""
    pixels, inner = math.prod(full), math.prod(own[1:])
    lead, padded = pixels // full[0], -(-pixels // BLOCK) * BLOCK
    (first, low), (last, high) = divmod(begin * BLOCK, padded), divmod((begin + count) * BLOCK - 1, padded)
    line = max((2 * (low // lead) + 1) * own[0] - full[0], 0) // (2 * full[0])
    end = max((2 * (min(high, pixels - 1) // lead) + 1) * own[0] - full[0], 0) // (2 * full[0]) + 2
    start = (first * own[0] + line) * inner
    return start, (last * own[0] + min(end, own[0])) * inner - start


def _parameter_gradients(launch: "_Launch", slopes: Sequence[Tensor]) -> Tensor:
    """Return the gradients of the packed parameters."""
    params, tables = launch.params, launch.tables
    block = BLOCK if launch.shape.kept else launch.shape.matrix_block
    tiles = launch.tiles(block)
    if not len(params) or not tiles:
        return torch.zeros_like(params)
    parts = _parts(tiles, tables.length)
    rows = torch.empty(parts, tables.length, dtype=params.dtype, device=params.device)
    launch.kernels.parameters[(len(tables.jobs), parts)](
        *launch.inputs, tables.jobs, *slopes, rows, tables.length, *launch.numbers(block, tiles, parts)
    )
    added = rows.sum(0, dtype=torch.float64)
    return torch.cat([added, added.new_zeros(1)])[tables.users].sum(1).to(params.dtype)


def _parts(tiles: int, row: int) -> int:
    """Return among how many programs tiles are divided."""
    return max(1, min(-(-tiles // TILES), PARTS, ROW_BYTES // (8 * max(row, 1))))


# -- what the kernels are told -----------------------------------------------------------------------------------------


def _tables(plan: LossPlan, dtype: torch.dtype, device: torch.device) -> Tables:
    """Return the tables of a plan; they are the same whichever originals are coarse."""
    return tables_of(plan, kernel_shape(plan, dtype == torch.float64), device)


def bring_tables(plan: LossPlan, dtype: torch.dtype, device: torch.device) -> None:
    """Bring what is kept between steps to the GPU, before a CUDA graph is recorded; not into a trace that is made.

    Args:
        plan: What will be computed.
        dtype: Of the packed parameters.
        device: Of everything.
    """
    if device.type == "cpu" or torch.cuda.is_available():  # else it is pretended
        with _disable_current_modes():
            _tables(plan, dtype, device)


def first_run(device: str) -> str:
    """Run a first kernel, so that whatever Triton lacks comes to light before training.

    Args:
        device: Where.

    Returns:
        What went wrong, in one line, or an empty text.
    """
    try:
        with _disable_current_modes():
            value = torch.zeros(1, device=device)
            triton_kernels.first_kernel()[(1,)](value)
            return "" if float(value) == 1 else f"a first kernel made {float(value)} of 0 + 1"
    except Exception as cause:  # of a compiler, a driver, an assembler: there is no common class
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__


class _Launch:
    """What all kernels are given."""

    def __init__(
        self, maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, bounds: Tensor | None = None
    ) -> None:
        self.plan, self.params = work.plan, params
        self.size = tuple(labels.shape[1 + work.plan.sigmoid :])
        self.batch, self.pixels = len(labels), math.prod(self.size)
        own = [tuple(one.shape[2:]) for one in maps]
        coarse = tuple(i for i, size in enumerate(own) if size != self.size)
        self.shape = kernel_shape(work.plan, params.dtype == torch.float64, coarse, len(self.size))
        self.sizes = tuple(n for size in (self.size, *(own[i] for i in coarse)) for n in size) if coarse else ()
        self.tables = _tables(work.plan, params.dtype, params.device)
        self.kernels = triton_kernels.kernels(self.shape)
        dense = torch.cat([params, params.new_zeros(1)])[self.tables.dense]  # −1 reads the zero at the end
        pairs = dense if self.shape.double else dense.view(torch.int64)
        tables = self.tables.weights, self.tables.factors, dense, pairs
        self.inputs = (*maps, labels, *tables, *([] if bounds is None else [bounds]))

    def tiles(self, block: int) -> int:
        """Return the number of tiles of so many pixels."""
        return self.batch * -(-self.pixels // block)

    def numbers(self, block: int, tiles: int, parts: int) -> tuple[int, ...]:
        """Return the numbers that all kernels take."""
        ignored = self.plan.ignore_index
        per_image = -(-self.pixels // block)
        ignored = -1 if ignored is None else ignored
        return self.pixels, per_image, tiles, parts, ignored, len(self.plan.maps), *self.sizes
