"""What trains: parameter groups, optimizer, learning rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.groups import WEIGHTS_LR, weights_group
from lomix_search.recipe.sections import OptimizerSection


def trained_groups(net: nn.Module, loss: MixtureLoss, weights_apart: bool = False) -> list[dict[str, Any]]:
    """Group what is trained: one group as in the paper, and a second for a weighting with its own learning rate.

    Args:
        net: The instrumented network.
        loss: The mixture loss.
        weights_apart: Any weighting has the second group, as ``MixtureLoss.parameter_groups`` makes it: without
            momentum. Optimizers other than Adam and its kin need it.

    Returns:
        Parameter groups for an optimizer.
    """
    own = loss.weighting.lr
    theta = [p for p in loss.weighting.parameters() if p.requires_grad] if weights_apart or own is not None else []
    alone = {id(p) for p in theta}
    together = [p for p in (*net.parameters(), *loss.parameters()) if p.requires_grad and id(p) not in alone]
    groups: list[dict[str, Any]] = [{"params": together}]
    if not theta:
        return groups
    if weights_apart:
        return [*groups, weights_group(theta, own or WEIGHTS_LR)]
    return [*groups, {"params": theta, "lr": own, "weight_decay": 0.0}]


def build_optimizer(plan: OptimizerSection, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe.

    Args:
        plan: The section of the recipe.
        groups: What is trained.

    Returns:
        The optimizer.
    """
    shared: dict[str, Any] = {"lr": plan.lr, "weight_decay": plan.weight_decay}
    if all(p.is_cuda for group in groups for p in group["params"]):
        shared["fused"] = True  # one kernel, which can leave a step out without telling the CPU
    if plan.name == "SGD":
        return torch.optim.SGD(groups, momentum=plan.momentum, nesterov=plan.momentum > 0, **shared)
    return torch.optim.AdamW(groups, **shared)


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimizer leaves out a step that a tensor on the device forbids, so that nobody waits to decide.

    Args:
        optimizer: Any. Those of ``torch.optim`` that are ``fused`` can.
    """
    able = getattr(optimizer, "_step_supports_amp_scaling", False)
    return bool(able) and all(group.get("fused") for group in optimizer.param_groups)


def learning_rate(plan: OptimizerSection, steps: int) -> Callable[[int], float]:
    """Return the schedule of a recipe: step → factor of the learning rate.

    Args:
        plan: The section of the recipe.
        steps: Steps in all.

    Returns:
        The schedule.
    """
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "poly": lambda done: (1 - done) ** plan.power,
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    }
    shape = shapes[plan.schedule]
    return lambda step: shape(min(1.0, step / steps))
