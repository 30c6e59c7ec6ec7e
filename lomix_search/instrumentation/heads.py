"""The heads: a small 1×1 convolution from each stage's features to logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lomix_search.instrumentation.stages import Stages

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def make_heads(stages: Stages, num_classes: int, tensors: Sequence[dict[str, Any]]) -> nn.ModuleDict:
    """Make a 1×1 convolution for each stage that has no logits of its own.

    Weights are small and biases zero, so that every head starts near equal probabilities whatever the features' scale.
    The random generators are left alone; the draw follows ``torch.initial_seed()``.

    Args:
        stages: Coarse to fine.
        num_classes: Output channels.
        tensors: ``dtype`` and ``device`` of each stage's features.

    Returns:
        Heads by the stage's number.
    """
    generator = torch.Generator().manual_seed(torch.initial_seed())
    heads = nn.ModuleDict()
    for i, (stage, tensor) in enumerate(zip(stages, tensors, strict=True)):
        if stage.own is None:
            outputs = num_classes // stage.parts
            with torch.random.fork_rng(devices=[]):  # nn.utils.skip_init imports sympy, a third of a second
                head = _CONVOLUTION[len(stage.size)](stage.channels, outputs, 1, device="cpu")
            nn.init.normal_(head.weight, std=0.1 * stage.channels**-0.5, generator=generator)
            head.bias = nn.Parameter(torch.zeros(outputs, device="cpu"))
            heads[str(i)] = head.to(tensor["device"], tensor["dtype"])
    return heads
