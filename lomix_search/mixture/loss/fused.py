"""The mixture's losses in two passes over the pixels, holding no map: sums first, then the gradient.

Cross-entropy and Dice of all maps follow from sums over pixels (pass 1). The gradient of the total with respect to the
logits of a map needs those sums, so pass 2 builds every map again, tile by tile, and walks back to the originals. What
walks is a back end: the C++ kernel, Triton, or plain PyTorch. All three are one opaque operator to ``torch.compile``.

In a distributed run (``LossPlan.together``) the sums of all processes are added up between the passes: m·(2·C + 1) +
C + 1 numbers in float64. Cross-entropy and Dice are then those of the whole batch.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss import reference
from lomix_search.mixture.loss.backends import native, tiled
from lomix_search.mixture.loss.kernel_plan import kernel_plan, pack_parameters, split_supported
from lomix_search.mixture.loss.label_checks import check_range
from lomix_search.mixture.loss.plan import SMOOTH, LossPlan, plan_from_text, plan_to_text, widest
from lomix_search.utils.distributed import size, sum_over_processes

BACK_ENDS: dict[str, ModuleType] = {"native": native, "tiled": tiled}
"""Each has ``sums`` and ``gradients``. Triton's joins when it is first asked for, because its import is slow."""


def back_end_of(name: str) -> ModuleType:
    """Return a back end, importing it if need be."""
    if name == "triton" and name not in BACK_ENDS:
        BACK_ENDS[name] = importlib.import_module("lomix_search.mixture.loss.backends.triton")
    return BACK_ENDS[name]


class Sums(NamedTuple):
    """What pass 1 adds up, over all pixels that count; every part float64.

    Args:
        ce: Σ −log p_label (m,).
        overlap: Σ p·y (m, C).
        squares: Σ p² (m, C).
        counts: Σ y (C,), which is Σ y² too.
        pixels: How many pixels count, ().
    """

    ce: Tensor
    overlap: Tensor
    squares: Tensor
    counts: Tensor
    pixels: Tensor

    @classmethod
    def split(cls, flat: Tensor, plan: LossPlan) -> "Sums":
        """Cut the vector that back ends return."""
        m, c = len(plan.maps), plan.num_classes
        ce, overlap, squares, counts, pixels = torch.split(flat, [m, m * c, m * c, c, 1])
        return cls(ce, overlap.view(m, c), squares.view(m, c), counts, pixels[0])

    def losses(self, plan: LossPlan) -> tuple[Tensor, Tensor]:
        """Return cross-entropies (m,) and Dice losses (m,)."""
        dice = 1 - (2 * self.overlap + SMOOTH) / self._union()
        return self.ce / self._judged(plan), dice.mean(1)

    def factors(self, plan: LossPlan, grad_ce: Tensor, grad_dice: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a, b (m, C) and g (m,): the total's gradient is a·p − b·y in p, and g·(p − y) in the logits."""
        union, share = self._union(), grad_dice.double()[:, None] / self.overlap.shape[1]
        a = share * 2 * (2 * self.overlap + SMOOTH) / union**2
        return a, share * 2 / union, grad_ce.double() / self._judged(plan)

    def _judged(self, plan: LossPlan) -> Tensor:
        """Return how many cross-entropies of a map were added up: one a pixel, with a sigmoid one a channel."""
        return self.pixels.clamp(min=1) * (plan.num_classes if plan.sigmoid else 1)

    def _union(self) -> Tensor:
        return self.squares + self.counts + SMOOTH


def fused_losses(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: Mapping[str, nn.Module], back_end: str = "tiled"
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of every map of the plan, as ``reference.reference_losses`` does.

    Operators that users registered are not known here; their maps take the reference path.

    Args:
        maps: L logits (B, C, *spatial), coarse to fine, all of the labels' size, of any floating type.
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
    flat = [one.flatten(2) for one in maps]
    params = pack_parameters(plan, operators, widest(maps), labels.device)
    labels = labels.reshape(flat[0].shape) if plan.sigmoid else labels.flatten(1)
    ce, dice, _ = mixture_losses(flat, labels, params, plan_to_text(plan), back_end)
    return ce, dice


@torch.library.custom_op("lomix::mixture_losses", mutates_args=())
def mixture_losses(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, plan: str, back_end: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass 1 as one operator.

    Args:
        maps: L originals (B, C, N).
        labels: Classes (B, N), int64; with a sigmoid (B, C, N) of 0 and 1.
        params: Packed parameters.
        plan: A plan, as ``plan_to_text`` writes it.
        back_end: A name of ``BACK_ENDS``.

    Returns:
        Cross-entropies (m,), Dice losses (m,) and the sums that the backward pass needs.
    """
    read = plan_from_text(plan)
    if labels.device.type == "cpu":  # here too, because a compiled step comes in by this door
        check_range(labels, read)
    held = _held(maps, params, back_end)
    sums = back_end_of(back_end).sums(held, labels.contiguous(), params.contiguous(), kernel_plan(read))
    if read.together:
        sums = sum_over_processes(sums)
    ce, dice = Sums.split(sums, read).losses(read)
    return ce.to(params.dtype), dice.to(params.dtype), sums


@mixture_losses.register_fake
def _(maps: Sequence[Tensor], labels: Tensor, params: Tensor, plan: str, back_end: str) -> tuple[Tensor, ...]:
    m, c = len(plan_from_text(plan).maps), plan_from_text(plan).num_classes
    return params.new_empty(m), params.new_empty(m), params.new_empty(m * (2 * c + 1) + c + 1, dtype=torch.float64)


@torch.library.custom_op("lomix::mixture_gradients", mutates_args=())
def mixture_gradients(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    sums: Tensor,
    grad_ce: Tensor,
    grad_dice: Tensor,
    plan: str,
    back_end: str,
) -> list[Tensor]:
    """Pass 2 as one operator.

    Args:
        maps: L originals (B, C, N).
        labels: Classes (B, N), int64; with a sigmoid (B, C, N) of 0 and 1.
        params: Packed parameters.
        sums: What pass 1 added up.
        grad_ce: Gradient of the total with respect to the cross-entropies (m,).
        grad_dice: Gradient of the total with respect to the Dice losses (m,).
        plan: A plan, as ``plan_to_text`` writes it.
        back_end: A name of ``BACK_ENDS``.

    Returns:
        Gradients of the maps, then of the packed parameters; where the sums are those of all processes, times their
        number, so that the mean over them, as DDP takes it, is the gradient of the whole.
    """
    read = plan_from_text(plan)
    held = _held(maps, params, back_end)
    times = size() if read.together else 1
    factors = Sums.split(sums, read).factors(read, grad_ce * times, grad_dice * times)
    given = (held, labels.contiguous(), params.contiguous(), kernel_plan(read), factors)
    grads, grad_params = back_end_of(back_end).gradients(*given)
    return [*(grad.to(one.dtype) for grad, one in zip(grads, maps, strict=True)), grad_params]


@mixture_gradients.register_fake
def _(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    sums: Tensor,
    grad_ce: Tensor,
    grad_dice: Tensor,
    plan: str,
    back_end: str,
) -> list[Tensor]:
    like = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in maps]
    return [*like, torch.empty_like(params)]


def _held(maps: Sequence[Tensor], params: Tensor, back_end: str) -> list[Tensor]:
    """Return the maps as back ends want them; Triton's widens half precision to float32 as it reads.

    Not to float64: on its interpreter float64 becomes 0 where it is stored as bfloat16.
    """
    if back_end == "triton" and params.dtype == torch.float32:
        return [one.contiguous() for one in maps]
    return [one.to(params.dtype).contiguous() for one in maps]


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    maps, labels, params, ctx.plan, ctx.back_end = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(labels, params, output[2], *maps)  # type: ignore[arg-type, misc]


def _backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[object, ...]:
    labels, params, sums, *maps = ctx.saved_tensors  # type: ignore[attr-defined]
    found = mixture_gradients(maps, labels, params, sums, grads[0], grads[1], ctx.plan, ctx.back_end)  # type: ignore[attr-defined]
    return found[:-1], None, found[-1], None, None


def _refuse(ctx: object, *grads: object) -> None:
    raise LossError("The fused mixture loss has no second derivative.", hint='MixtureLoss(…, engine="reference")')


mixture_losses.register_autograd(_backward, setup_context=_save)
mixture_gradients.register_autograd(_refuse)
