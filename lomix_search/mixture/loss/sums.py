"""From sums over pixels to losses: all that the engines add up, and what is made of it."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.loss.terms import LossTerms
from lomix_search.utils.distributed import sum_over_processes


class Sums(NamedTuple):
    """What pass 1 adds up, over all pixels that count: of the whole batch, I = 1, or of each image, I = B.

    Args:
        ce: Σ of cross-entropies (I, m, K); K = C where each channel has its own, as with boundary weights, else 1.
        overlap: Σ p·y (I, m, C).
        spread: Σ p², or Σ p (I, m, C).
        counts: Σ y (I, C), which is Σ y² too.
        pixels: How many pixels count, or what they weigh (I, K); with ``top_k`` how many cross-entropies do.
    """

    ce: Tensor
    overlap: Tensor
    spread: Tensor
    counts: Tensor
    pixels: Tensor

    @classmethod
    def split(cls, rows: Tensor, plan: LossPlan) -> "Sums":
        """Cut the rows (I, size) that back ends return."""
        m, c, k = len(plan.maps), plan.num_classes, columns(plan)
        ce, overlap, spread, counts, pixels = torch.split(rows[:, : size_of(plan)], [m * k, m * c, m * c, c, k], 1)
        return cls(ce.view(-1, m, k), overlap.view(-1, m, c), spread.view(-1, m, c), counts, pixels)


def columns(plan: LossPlan) -> int:
    """Return K, the number of cross-entropies that are averaged by themselves."""
    return plan.num_classes if plan.terms.boundary_weight else 1


def size_of(plan: LossPlan) -> int:
    """Return the length of one row of sums."""
    m, c, k = len(plan.maps), plan.num_classes, columns(plan)
    return m * (k + 2 * c) + c + k


def map_losses(sums: Sums, plan: LossPlan) -> tuple[Tensor, Tensor]:
    """Make the losses of the maps.

    Args:
        sums: Of all processes of a distributed run if the plan is ``together``, but of this one's images if they are of
            each image.
        plan: What they are of.

    Returns:
        Cross-entropies (m,) and region losses (m,).
    """
    over_all = sum_over_processes if plan.together and plan.terms.per_image else _as_they_are
    regions = region_losses(sums.overlap, sums.spread, sums.counts[:, None], plan.terms)
    return _cross_entropies(sums, plan, over_all), _mean_of_images(regions, over_all)


def region_losses(overlap: Tensor, spread: Tensor, counts: Tensor, terms: LossTerms) -> Tensor:
    """Compute the region loss that ``LossTerms`` describes.

    Args:
        overlap: I (…, C).
        spread: P (…, C).
        counts: Y (…, C).
        terms: Which loss.

    Returns:
        Losses (…).
    """
    if not terms.background:
        overlap, spread, counts = overlap[..., 1:], spread[..., 1:], counts[..., 1:]
    if terms.region == "generalized_dice":
        return _generalized_dice(overlap, spread, counts, terms.smooth)
    top, below = overlap, spread + counts - overlap
    if terms.region == "dice":
        top, below = 2 * overlap, spread + counts
    elif terms.region == "tversky":
        below = overlap + terms.tversky_alpha * (spread - overlap) + terms.tversky_beta * (counts - overlap)
    return (1 - (top + terms.smooth) / (below + terms.smooth)).mean(-1)


def _generalized_dice(overlap: Tensor, spread: Tensor, counts: Tensor, smooth: float) -> Tensor:
    """A class without a pixel is weighted as the heaviest of the others, as MONAI does."""
    there = counts > 0
    weights = torch.where(there, 1 / counts.where(there, 1).square(), 0)
    weights = torch.where(there, weights, weights.amax(-1, keepdim=True))
    top = 2 * (weights * overlap).sum(-1) + smooth
    return 1 - top / ((weights * (spread + counts)).sum(-1) + smooth)


def _cross_entropies(sums: Sums, plan: LossPlan, over_all: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean cross-entropies (m,); 0 where nothing counts."""
    terms = plan.terms
    if terms.boundary_weight:
        means = sums.ce / _not_zero(sums.pixels)[:, None]
        return _mean_of_images(means.mean(2), over_all)
    added, pixels = over_all(sums.ce.sum(0)[:, 0]), over_all(sums.pixels.sum(0)[0])
    if terms.top_k < 1:
        return added / pixels.clamp(min=1)
    if plan.sigmoid:
        return added / (pixels.clamp(min=1) * plan.num_classes)
    if terms.class_weights is None:
        return added / pixels.clamp(min=1)
    weights = _on_device(terms.class_weights, added.dtype, added.device)
    return added / _not_zero((over_all(sums.counts.sum(0)) * weights).sum())


def _mean_of_images(each: Tensor, over_all: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of (I, …) over the images of all processes; 0 where there is none."""
    number = each.new_full((), float(each.shape[0]))  # new_tensor would wait for a GPU
    return over_all(each.sum(0)) / over_all(number).clamp(min=1)


@lru_cache(maxsize=64)
def _on_device(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return weights as a tensor; what brings them to a GPU waits for it, so it is done once."""
    return torch.tensor(weights, dtype=dtype, device=device)


def _not_zero(weight: Tensor) -> Tensor:
    return weight.where(weight > 0, 1)


def _as_they_are(sums: Tensor) -> Tensor:
    return sums
