"""The mixture's losses in two passes over the pixels, holding no map: sums first, then the gradient.

Cross-entropy and region loss of all maps follow from sums over pixels (pass 1), by plain torch (``sums.py``), which
autograd walks back. The gradient by the logits of a map needs that by its sums, so pass 2 builds every map again, tile
by tile, and walks back to the originals. What walks is a back end: the C++ kernel, Triton, or plain PyTorch. All three
are one opaque operator to ``torch.compile``.

In a distributed run (``LossPlan.together``) the sums of all processes are added up between the passes: m·(2·C + 1) +
C + 1 numbers in float64. Cross-entropy and Dice are then those of the whole batch.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss import reference
from lomix_search.mixture.loss.backends import native, tiled
from lomix_search.mixture.loss.backends.limits import READ_COARSE
from lomix_search.mixture.loss.boundary import boundary_weights
from lomix_search.mixture.loss.kernel_plan import kernel_plan, pack_parameters, split_supported
from lomix_search.mixture.loss.label_checks import check_range
from lomix_search.mixture.loss.plan import LossPlan, plan_from_text, plan_to_text, widest
from lomix_search.mixture.loss.resize import labels_size, map_at_size
from lomix_search.mixture.loss.sums import Sums, map_losses, size_of
from lomix_search.utils.distributed import size, sum_over_processes

BACK_ENDS: dict[str, ModuleType] = {"native": native, "tiled": tiled}
"""Each has ``sums`` and ``gradients``. Triton's joins when it is first asked for, because its import is slow."""


def back_end_of(name: str) -> ModuleType:
    """Return a back end, importing it if need be."""
    if name == "triton" and name not in BACK_ENDS:
        BACK_ENDS[name] = importlib.import_module("lomix_search.mixture.loss.backends.triton")
    return BACK_ENDS[name]


def fused_losses(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: Mapping[str, nn.Module], back_end: str = "tiled"
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of every map of the plan, as ``reference.reference_losses`` does.

    Operators that users registered are not known here; their maps take the reference path.

    Args:
        maps: L logits (B, C, *any size), coarse to fine, of any floating type.
        labels: Classes (B, *spatial), int64; if the plan is multi-label (B, C, *spatial) of 0 and 1.
        plan: What to compute.
        operators: The learned operators by ``Map.parameters``.
        back_end: A name of ``BACK_ENDS``.

    Returns:
        Cross-entropies (m,) and Dice losses (m,).
    """
    known, others = split_supported(plan.maps)
    if not others:
        return _fused(maps, labels, plan, operators, back_end)
    slow = replace(plan, maps=tuple(plan.maps[i] for i in others))
    parts = [reference.reference_losses(maps, labels, slow, operators)]
    if known:
        fast = replace(plan, maps=tuple(plan.maps[i] for i in known))
        parts.insert(0, _fused(maps, labels, fast, operators, back_end))
    order = torch.tensor([*known, *others], device=labels.device).argsort()
    ce, dice = (torch.cat(part)[order] for part in zip(*parts, strict=True))
    return ce, dice


def _fused(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: Mapping[str, nn.Module], back_end: str
) -> tuple[Tensor, Tensor]:
    dtype = widest(maps)
    params = pack_parameters(plan, operators, dtype, labels.device)
    weights = _pixel_weights(labels, plan, dtype)
    maps = _readable(maps, labels_size(labels, maps), back_end)
    labels = labels[:, None] if plan.sigmoid and labels.ndim < maps[0].ndim else labels
    rows = mixture_sums(maps, labels, weights, params, plan_to_text(plan), back_end)
    ce, region = map_losses(Sums.split(rows, plan), plan)
    return ce.to(dtype), region.to(dtype)


def _readable(maps: Sequence[Tensor], size: torch.Size, back_end: str) -> list[Tensor]:
    """Resize what a back end does not interpolate by itself; those that do read coarse maps, but none that is finer."""
    wide, coarse = widest(maps), back_end in READ_COARSE
    kept = [coarse and all(own <= full for own, full in zip(one.shape[2:], size, strict=True)) for one in maps]
    return [one if keep else map_at_size(one, size, wide) for one, keep in zip(maps, kept, strict=True)]


def _pixel_weights(labels: Tensor, plan: LossPlan, dtype: torch.dtype) -> Tensor:
    """Return boundary weights (B, C, N), or an empty tensor where there are none."""
    if not plan.terms.boundary_weight:
        return labels.new_zeros(0, dtype=dtype)
    given = labels if plan.multilabel else labels[:, None]
    known = ((given >= 0) & (given < plan.num_values)).all(1, keepdim=True)
    if plan.ignore_index is not None:
        known = known & (given != plan.ignore_index).all(1, keepdim=True)
    return boundary_weights(((given == 1) & known).to(dtype), plan.terms.boundary_weight).flatten(2)


@torch.library.custom_op("lomix::mixture_sums", mutates_args=())
def mixture_sums(
    maps: Sequence[Tensor], labels: Tensor, weights: Tensor, params: Tensor, plan: str, back_end: str
) -> Tensor:
    """Pass 1 as one operator.

    Args:
        maps: L originals (B, C, *own size).
        labels: Classes (B, *size), int64; with a sigmoid (B, C, *size) of 0 and 1.
        weights: Of pixels (B, C, N), where the plan has boundary weights, else empty.
        params: Packed parameters.
        plan: A plan, as ``plan_to_text`` writes it.
        back_end: A name of ``BACK_ENDS``.

    Returns:
        The rows (I, …) that ``Sums.split`` cuts, float64, and behind them what else the backward pass needs.
    """
    read = plan_from_text(plan)
    if labels.device.type == "cpu":  # here too, because a compiled step comes in by this door
        check_range(labels, read)
    held = _held(maps, params, back_end)
    more = (weights,) if weights.numel() else ()
    rows = back_end_of(back_end).sums(held, labels.contiguous(), params.contiguous(), kernel_plan(read), *more)
    if _reduced(read):
        end = size_of(read)
        rows = torch.cat([sum_over_processes(rows[:, :end]), rows[:, end:]], 1)
    found: Tensor = rows
    return found


@mixture_sums.register_fake
def _(maps: Sequence[Tensor], labels: Tensor, weights: Tensor, params: Tensor, plan: str, back_end: str) -> Tensor:
    read = plan_from_text(plan)
    if back_end == "triton":  # a compiled step is traced here before a CUDA graph of it is recorded
        back_end_of(back_end).bring_tables(read, params.dtype, params.device)
    cuts = 2 * len(read.maps) if read.terms.top_k < 1 else 0
    rows = maps[0].shape[0] if read.terms.per_image else 1
    return params.new_empty(rows, size_of(read) + cuts, dtype=torch.float64)


@torch.library.custom_op("lomix::mixture_gradients", mutates_args=())
def mixture_gradients(
    maps: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    params: Tensor,
    rows: Tensor,
    grad_rows: Tensor,
    plan: str,
    back_end: str,
) -> list[Tensor]:
    """Pass 2 as one operator.

    Args:
        maps: L originals (B, C, *own size).
        labels: As for ``mixture_sums``.
        weights: As for ``mixture_sums``.
        params: Packed parameters.
        rows: What pass 1 returned.
        grad_rows: Gradient of the total with respect to that.
        plan: A plan, as ``plan_to_text`` writes it.
        back_end: A name of ``BACK_ENDS``.

    Returns:
        Gradients of the maps, then of the packed parameters; where the sums are those of all processes, times their
        number, so that the mean over them, as DDP takes it, is the gradient of the whole.
    """
    read = plan_from_text(plan)
    held = _held(maps, params, back_end)
    more: dict[str, Tensor] = {"weights": weights} if weights.numel() else {}
    if read.terms.top_k < 1:
        more["cuts"] = rows[:1, size_of(read) :].reshape(2, -1)
    factors = _factors(grad_rows * (size() if _reduced(read) else 1), read)
    given = (held, labels.contiguous(), params.contiguous(), kernel_plan(read), factors)
    grads, grad_params = back_end_of(back_end).gradients(*given, **more)
    return [*(grad.to(one.dtype) for grad, one in zip(grads, maps, strict=True)), grad_params]


@mixture_gradients.register_fake
def _(
    maps: Sequence[Tensor],
    labels: Tensor,
    weights: Tensor,
    params: Tensor,
    rows: Tensor,
    grad_rows: Tensor,
    plan: str,
    back_end: str,
) -> list[Tensor]:
    like = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in maps]
    return [*like, torch.empty_like(params)]


def _factors(grad_rows: Tensor, plan: LossPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, b (I, m, C) and g (1 or I, m, K), which ``tiled.gradients`` explains."""
    grads = Sums.split(grad_rows, plan)
    a = 2 * grads.spread if plan.terms.of_squares else grads.spread
    return a, -grads.overlap, grads.ce if plan.terms.boundary_weight else grads.ce[:1]


def _reduced(plan: LossPlan) -> bool:
    """Tell whether sums of all processes are added up: not those of each image."""
    return plan.together and not plan.terms.per_image


def _held(maps: Sequence[Tensor], params: Tensor, back_end: str) -> list[Tensor]:
    """Return the maps as back ends want them; Triton's widens half precision to float32 as it reads.

    Not to float64: on its interpreter float64 becomes 0 where it is stored as bfloat16.
    """
    if back_end == "triton" and params.dtype == torch.float32:
        return [one.contiguous() for one in maps]
    return [one.to(params.dtype).contiguous() for one in maps]


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: Tensor) -> None:
    maps, labels, weights, params, ctx.plan, ctx.back_end = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(labels, weights, params, output, *maps)  # type: ignore[arg-type, misc]


def _backward(ctx: torch.autograd.function.FunctionCtx, grad_rows: Tensor) -> tuple[object, ...]:
    labels, weights, params, rows, *maps = ctx.saved_tensors  # type: ignore[attr-defined]
    found = mixture_gradients(maps, labels, weights, params, rows, grad_rows, ctx.plan, ctx.back_end)  # type: ignore[attr-defined]
    return found[:-1], None, None, found[-1], None, None


def _refuse(ctx: object, *grads: object) -> None:
    raise LossError("The fused mixture loss has no second derivative.", hint='MixtureLoss(…, engine="reference")')


mixture_sums.register_autograd(_backward, setup_context=_save)
mixture_gradients.register_autograd(_refuse)
