"""Cross-entropies of pixels with class weights, focal factor, smoothed labels: the loss of each, and its slope.

With t what a pixel is to be, weights included, the plain loss is −Σ t·log p over classes (with a sigmoid over a channel
and its opposite), whose derivative by the logits is (Σ t)·p − t. All else is a factor: of a focal loss
u^γ·(1 − γ·p·(log p)/u) with u = 1 − p, p that of what is true.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.mixture.loss.plan import LossPlan


class PixelLosses(NamedTuple):
    """Of k maps of a tile of T pixels; K is C with a sigmoid, else 1.

    Args:
        each: Losses (k, K, T).
        factor: Of the slope (k, K, T), or the number 1.
        whole: Σ t (K, T).
        aim: t (C, T).
    """

    each: Tensor
    factor: Tensor | float
    whole: Tensor
    aim: Tensor

    def slope(self, p: Tensor, gain: Tensor) -> Tensor:
        """Return the gradient by the logits (k, C, T).

        Args:
            p: Probabilities (k, C, T).
            gain: How much each loss counts in the total, broadcast to (k, K, T).
        """
        return gain * self.factor * (self.whole * p - self.aim)


def pixel_losses(logits: Tensor, truth: Tensor, plan: LossPlan) -> PixelLosses:
    """Compute the losses of pixels.

    Args:
        logits: Maps (k, C, T).
        truth: 0 and 1 (C, T); of a pixel that does not count nothing is true.
        plan: What to compute.

    Returns:
        The losses; of pixels that do not count they may be anything.
    """
    return _of_channels(logits, truth, plan) if plan.sigmoid else _of_classes(logits, truth, plan)


def _of_classes(logits: Tensor, truth: Tensor, plan: LossPlan) -> PixelLosses:
    terms = plan.terms
    weights = logits.new_tensor(terms.class_weights or [1.0] * plan.num_classes)[:, None]
    own = (truth * weights).sum(0, keepdim=True)  # of the class of each pixel
    aim = own * truth * (1 - terms.label_smoothing) + weights * (terms.label_smoothing / plan.num_classes)
    logs = F.log_softmax(logits, 1)
    each = -torch.where(aim > 0, aim * logs, 0).sum(1, keepdim=True)  # a product of 0 and −inf would be NaN
    whole = aim.sum(0, keepdim=True)
    if not terms.focal_gamma:
        return PixelLosses(each, 1.0, whole, aim)
    log = torch.where(truth > 0, logs, 0).sum(1, keepdim=True)
    power, factor = _focal(log, terms.focal_gamma)
    return PixelLosses(each * power, factor, whole, aim)


def _of_channels(logits: Tensor, truth: Tensor, plan: LossPlan) -> PixelLosses:
    terms = plan.terms
    weights = logits.new_tensor(terms.class_weights or [1.0] * plan.num_classes)[:, None]
    smoothed = truth * (1 - terms.label_smoothing) + terms.label_smoothing / 2
    aim, other = weights * smoothed, 1 - smoothed
    whole = aim + other
    each = torch.where(aim > 0, aim * F.softplus(-logits), 0) + torch.where(other > 0, other * F.softplus(logits), 0)
    if not terms.focal_gamma:
        return PixelLosses(each, 1.0, whole, aim)
    power, factor = _focal(F.logsigmoid(torch.where(truth > 0, logits, -logits)), terms.focal_gamma)
    return PixelLosses(each * power, factor, whole, aim)


def _focal(log: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return u^γ and the factor of the slope, for log p of what is true."""
    u = -torch.expm1(log)
    power = u**gamma
    p = log.exp()
    pull = torch.where(p > 0, -p * log / u, 0)
    return power, power * (1 + gamma * torch.where(u > 0, pull, 1))
