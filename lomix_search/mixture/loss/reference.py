"""The mixture's losses, slow and obvious: the oracle of the other engines, and the path of what they cannot do."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.plan import SMOOTH, LossPlan, widest
from lomix_search.mixture.maps import Map
from lomix_search.mixture.operators import find_operator
from lomix_search.utils.distributed import sum_over_processes

_Operators = Mapping[str, Callable[..., Tensor]]


def reference_losses(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: _Operators
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of every map of the plan, one after another.

    Args:
        maps: L logits (B, C, *spatial), coarse to fine, all of the labels' size; half precision is widened.
        labels: Classes (B, *spatial), int64 in [0, C), or in {0, 1} if C is 1, or the plan's ``ignore_index``; if the
            plan is multi-label (B, C, *spatial) of 0 and 1, and a pixel that is ignored in one channel is in all.
        plan: What to compute.
        operators: The learned operators by ``Map.parameters``.

    Returns:
        Cross-entropies (m,), the mean over the pixels that count and, with a sigmoid, over channels, 0 if no pixel
        does; Dice losses (m,), over the whole batch, averaged over classes.
    """
    maps = [one.to(widest(maps)) for one in maps]
    valid, target = _split_labels(labels, plan)
    if plan.ignore_index is not None:  # pixels that do not count may hold anything, even NaN
        maps = [one.masked_fill(~valid, 0) for one in maps]
    losses = [_losses(fuse(m, maps, operators), target, valid, plan) for m in plan.maps]
    ce, dice = zip(*losses, strict=True)
    return torch.stack(ce), torch.stack(dice)


def fuse(m: Map, maps: Sequence[Tensor], operators: _Operators) -> Tensor:
    """Build one map from the originals.

    Args:
        m: The map.
        maps: All originals, coarse to fine.
        operators: The learned operators by ``Map.parameters``.

    Returns:
        Logits (B, C, *spatial).
    """
    chosen = [maps[scale - 1] for scale in m.scales]
    if m.operator == "original":
        return chosen[0]
    plain = find_operator(m.operator).fuse if m.parameters is None else operators[m.parameters]
    assert plain is not None, m
    fused: Tensor = plain(*chosen)
    return fused


def _split_labels(labels: Tensor, plan: LossPlan) -> tuple[Tensor, Tensor]:
    """Tell the pixels that count, (B, 1, *spatial) bool, and give the others class 0.

    Labels out of range do not count either. On the CPU ``label_checks`` has refused them before this; on a GPU it does
    so one step later.
    """
    valid = (labels >= 0) & (labels < plan.num_values)
    if plan.ignore_index is not None:
        valid = valid & (labels != plan.ignore_index)
    valid = valid.all(1, keepdim=True) if plan.multilabel else valid[:, None]
    return valid, labels.where(valid if plan.multilabel else valid[:, 0], 0)


def _losses(logits: Tensor, target: Tensor, valid: Tensor, plan: LossPlan) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and Dice loss of one map."""
    if plan.sigmoid:
        truth = target.view_as(logits).to(logits.dtype)
        ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1, keepdim=True)
        probabilities = torch.sigmoid(logits)
    else:
        truth = F.one_hot(target, plan.num_classes).movedim(-1, 1).to(logits.dtype)
        ce = F.cross_entropy(logits, target, reduction="none")[:, None]
        probabilities = torch.softmax(logits, dim=1)
    over_all = sum_over_processes if plan.together else lambda sums: sums
    mean = over_all((ce * valid).sum()) / over_all(valid.sum()).clamp(min=1)
    return mean, _dice(probabilities * valid, truth * valid, over_all)


def _dice(p: Tensor, y: Tensor, over_all: Callable[[Tensor], Tensor]) -> Tensor:
    """Return mean over c of 1 − (2·Σ p·y + s) / (Σ p² + Σ y² + s), sums over batch and pixels; s = 1e-5."""
    p, y = p.movedim(1, 0).flatten(1), y.movedim(1, 0).flatten(1)
    overlap = 2 * over_all((p * y).sum(1)) + SMOOTH
    return (1 - overlap / (over_all((p * p).sum(1) + (y * y).sum(1)) + SMOOTH)).mean()
