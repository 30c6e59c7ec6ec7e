"""Parameter groups of a loss: operators as the network, weights with a learning rate of their own."""

import math
from typing import Any

from torch import nn

from lomix_search.errors import LossError
from lomix_search.mixture.weighting import Weighting

WEIGHTS_LR = 1e-3
"""For weightings that name no learning rate of their own."""


def parameter_groups(
    operators: nn.Module, weighting: Weighting, lr: float | None, weights_lr: float | None
) -> list[dict[str, Any]]:
    """Group what a loss trains, for any optimizer of torch.

    Args:
        operators: Those that learn.
        weighting: The weighting.
        lr: Of the operators; None: the optimizer's.
        weights_lr: Of the weights; None: the weighting's own, or ``WEIGHTS_LR``.

    Returns:
        At most two groups; what has no parameters has none.

    Raises:
        LossError: a learning rate that is not above 0.
    """
    for name, value in (("lr", lr), ("weights_lr", weights_lr)):
        if value is not None and not 0 < value < math.inf:
            raise LossError(
                f"parameter_groups({name}={value}): a learning rate is above 0 and finite.",
                hint=f"loss.parameter_groups({name}=0.001)",
            )
    groups: list[dict[str, Any]] = []
    if learned := [p for p in operators.parameters() if p.requires_grad]:
        groups.append({"params": learned} | ({} if lr is None else {"lr": lr}))
    if theta := [p for p in weighting.parameters() if p.requires_grad]:
        groups.append(weights_group(theta, weights_lr or weighting.lr or WEIGHTS_LR))
    return groups


def weights_group(theta: list[nn.Parameter], lr: float) -> dict[str, Any]:
    """Return the group of a weighting's parameters: no decay, and no momentum where the optimizer has one.

    A weight's gradient is its map's loss times a slope of at most 1: of the same size at every step, and above 0 where
    nothing holds the weight up. Momentum μ sums such gradients up to 1 / (1 − μ) of them, 100 where μ = 0.99.

    Args:
        theta: The parameters.
        lr: Their learning rate.
    """
    return {"params": theta, "lr": lr, "weight_decay": 0.0, "momentum": 0.0}
