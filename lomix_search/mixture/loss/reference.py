"""The mixture's losses, slow and obvious: the oracle of the other engines, and the path of what they cannot do."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.boundary import boundary_weights
from lomix_search.mixture.loss.plan import LossPlan, widest
from lomix_search.mixture.loss.resize import labels_size, resize_maps
from lomix_search.mixture.loss.sums import Sums, map_losses
from lomix_search.mixture.loss.top_k import number_of_largest, shares_of_largest, threshold
from lomix_search.mixture.maps import Map
from lomix_search.mixture.operators import find_operator
from lomix_search.utils.distributed import sum_over_processes

_Operators = Mapping[str, Callable[..., Tensor]]


def reference_losses(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: _Operators
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of every map of the plan, one after another.

    Args:
        maps: L logits (B, C, *any size), coarse to fine; they are resized, and half precision is widened.
        labels: Classes (B, *spatial), int64 in [0, C), or in {0, 1} if C is 1, or the plan's ``ignore_index``; if the
            plan is multi-label (B, C, *spatial) of 0 and 1, and a pixel that is ignored in one channel is in all.
        plan: What to compute.
        operators: The learned operators by ``Map.parameters``.

    Returns:
        Cross-entropies (m,), the mean over the pixels that count and, with a sigmoid, over channels, 0 if no pixel
        does; Dice losses (m,), over the whole batch, averaged over classes. ``plan.terms`` may say otherwise.
    """
    nothing = _nothing_of(maps, plan)
    maps = [one.to(widest(maps)) for one in resize_maps(maps, labels_size(labels, maps))]
    valid, target = _split_labels(labels, plan)
    if plan.ignore_index is not None:  # pixels that do not count may hold anything, even NaN
        maps = [one.masked_fill(~valid, 0) for one in maps]
    rows = [_sums(fuse(m, maps, operators), target, valid, plan) for m in plan.maps]
    ce, overlap, spread, counts, pixels = zip(*rows, strict=True)
    sums = Sums(torch.stack(ce, 1), torch.stack(overlap, 1), torch.stack(spread, 1), counts[0], pixels[0])
    if plan.together and not plan.terms.per_image:
        sums = Sums(*map(sum_over_processes, sums))
    entropies, regions = map_losses(sums, plan)
    return entropies if nothing is None else entropies + nothing.to(entropies.dtype), regions


def _nothing_of(maps: Sequence[Tensor], plan: LossPlan) -> Tensor | None:
    """Return 0 made of the originals that no map of the plan has, whatever they hold; None where there are none.

    So their heads get a gradient of 0, as with the other engines; DistributedDataParallel waits for it.
    """
    held = {scale for m in plan.maps for scale in m.scales}
    rest = [one for scale, one in enumerate(maps, 1) if scale not in held and one.requires_grad]
    firsts = [one.flatten()[:1] for one in rest]
    zeros = [first.masked_fill(torch.ones_like(first, dtype=torch.bool), 0).sum() for first in firsts]
    return torch.stack([zero.to(widest(maps)) for zero in zeros]).sum() if zeros else None


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


def _sums(
    logits: Tensor, target: Tensor, valid: Tensor, plan: LossPlan
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the parts of ``Sums`` for one map."""
    terms = plan.terms
    if plan.sigmoid:
        truth = target.view_as(logits).to(logits.dtype)
        p = torch.sigmoid(logits)
    else:
        truth = F.one_hot(target, plan.num_classes).movedim(-1, 1).to(logits.dtype)
        p = torch.softmax(logits, dim=1)
    weight = valid.to(logits.dtype)
    if terms.boundary_weight:
        weight = weight * boundary_weights(truth * weight, terms.boundary_weight)
    ce, judged = _pixel_losses(logits, p, truth, target, plan), weight
    if terms.top_k < 1:
        judged = _largest(ce, valid.expand_as(ce), terms.top_k)
    spread = p * p if terms.of_squares else p
    parts = [ce * judged, p * truth * weight, spread * weight, truth * weight, judged]
    ce, overlap, spread, counts, pixels = (_added_up(part, plan) for part in parts)
    if not terms.boundary_weight:
        ce, pixels = ce.sum(1, keepdim=True), pixels.sum(1, keepdim=True)
    return ce, overlap, spread, counts, pixels


def _pixel_losses(logits: Tensor, p: Tensor, truth: Tensor, target: Tensor, plan: LossPlan) -> Tensor:
    """Return the cross-entropy of each pixel (B, 1, *spatial), with a sigmoid of each channel (B, C, *spatial)."""
    terms = plan.terms
    weights = None if terms.class_weights is None else logits.new_tensor(terms.class_weights)
    if plan.sigmoid:
        weights = None if weights is None else weights.view(-1, *[1] * (logits.ndim - 2))
        aim = truth * (1 - terms.label_smoothing) + terms.label_smoothing / 2
        ce = F.binary_cross_entropy_with_logits(logits, aim, pos_weight=weights, reduction="none")
        p = torch.where(truth > 0, p, torch.sigmoid(-logits))
    else:
        ce = F.cross_entropy(logits, target, weights, reduction="none", label_smoothing=terms.label_smoothing)[:, None]
        p = p.gather(1, target[:, None])
    if not terms.focal_gamma:
        return ce
    return ce * (1 - p).clamp(min=torch.finfo(p.dtype).tiny) ** terms.focal_gamma


def _largest(ce: Tensor, valid: Tensor, share: float) -> Tensor:
    """Return with which share each cross-entropy counts: 1 for the largest, 0 for the others."""
    known = ce.detach().masked_fill(~valid, -1)
    least, of_ties = threshold(known.reshape(1, -1), number_of_largest(int(valid.sum()), share))
    return shares_of_largest(known, least, of_ties) * valid


def _added_up(each: Tensor, plan: LossPlan) -> Tensor:
    """Add up (B, k, *spatial) over pixels: of each image (B, k), or of the batch (1, k)."""
    return each.flatten(2).sum(2) if plan.terms.per_image else each.movedim(1, 0).flatten(1).sum(1)[None]
