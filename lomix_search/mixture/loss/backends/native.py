"""The C++ kernel, called through ctypes.

Its results are the same to the last bit on any number of threads. How pixels are cut into chunks does not depend on
that number; each chunk has sums of its own, and these are added up in the order of the chunks.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from lomix_search.mixture.loss.backends.kernel_cache import library
from lomix_search.mixture.loss.kernel_plan import KernelPlan
from lomix_search.mixture.loss.sums import size_of
from lomix_search.mixture.loss.top_k import sums_of_largest

_TYPES = {torch.float32: "f32", torch.float64: "f64"}
_NO_LABEL = -(2**63)
"""Stands for the ignored label where there is none: no label has this value."""


def sums(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, work: KernelPlan, weights: Tensor | None = None
) -> Tensor:
    """Pass 1, as :func:`lomix_search.mixture.loss.backends.tiled.sums` says it; maps and labels are contiguous.

    With ``top_k`` the cross-entropies of all pixels are held, those of all maps.
    """
    plan, chunks = work.plan, _chunks(labels, work)
    rows = len(labels) if plan.terms.per_image else 1
    found = torch.zeros(chunks, rows, size_of(plan), dtype=torch.float64)
    each = None if plan.terms.top_k == 1 else params.new_empty(len(plan.maps), labels.numel())
    more = _pointer(found), None if each is None else _pointer(each)
    _call("forward", maps, labels, params, work, weights, chunks, *more)
    total = found.sum(0)
    return total if each is None else sums_of_largest(total, each, plan)


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
    chunks, size = _chunks(labels, work), _size(labels, work)
    grads = [torch.empty_like(one) if one.shape[2:] == size else torch.zeros_like(one) for one in maps]
    grad_params = torch.zeros(chunks, work.num_params, dtype=torch.float64)
    held = [factor.to(maps[0].dtype).contiguous() for factor in factors]
    cuts = None if cuts is None else cuts.to(maps[0].dtype).contiguous()
    given = *map(_pointer, held), None if cuts is None else _pointer(cuts)
    rest = ctypes.c_int64(work.num_params), *given, _pointers(grads), _pointer(grad_params)
    _call("backward", maps, labels, params, work, weights, chunks, *rest)
    return grads, grad_params.sum(0).to(params.dtype)


def _size(labels: Tensor, work: KernelPlan) -> torch.Size:
    return labels.shape[2 if work.plan.sigmoid else 1 :]


def _chunks(labels: Tensor, work: KernelPlan) -> int:
    """Return how many parts the pixels are cut into: enough for many threads, but with sums of at most 64 MiB."""
    plan, batch = work.plan, len(labels)
    rows = batch if plan.terms.per_image else 1
    a_chunk = 8 * max(work.num_params, rows * len(plan.maps) * (2 * plan.num_classes + 1))
    tiles = batch * -(-_size(labels, work).numel() // 32)
    return max(1, min(64, tiles, max(8, 2**26 // a_chunk)))


def _shapes(maps: Sequence[Tensor], labels: Tensor, work: KernelPlan) -> list[int]:
    """Return the sizes of the labels and then of each map, of three axes each."""
    sizes = _size(labels, work), *(one.shape[2:] for one in maps)
    return [number for size in sizes for number in (*[1] * (3 - len(size)), *size)]


def _call(
    name: str,
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    work: KernelPlan,
    boundary: Tensor | None,
    chunks: int,
    *rest: object,
) -> None:
    loaded = library()
    assert isinstance(loaded, ctypes.CDLL), loaded
    code, shapes = work.code, _shapes(maps, labels, work)
    weights = torch.tensor(work.plan.terms.class_weights or [], dtype=params.dtype)
    ignored = work.plan.ignore_index
    failed = getattr(loaded, f"lomix_{name}_{_TYPES[maps[0].dtype]}")(
        (ctypes.c_int64 * len(code))(*code),
        _pointers(maps),
        (ctypes.c_int64 * len(shapes))(*shapes),
        _pointer(labels),
        _pointer(params),
        _pointer(weights) if weights.numel() else None,
        None if boundary is None else _pointer(boundary),
        *map(ctypes.c_int64, (len(labels), _NO_LABEL if ignored is None else ignored, chunks)),
        *rest,
        ctypes.c_int(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("The C++ kernel of the mixture loss found no memory for one tile of pixels.")


def _pointer(one: Tensor) -> ctypes.c_void_p:
    assert one.is_contiguous()
    return ctypes.c_void_p(one.data_ptr())


def _pointers(many: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(many))(*[_pointer(one) for one in many])
