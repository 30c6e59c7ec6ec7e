"""What a network gives under nnU-Net's deep supervision, asked without computing anything."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lomix_search.mixture.provenance import StageInfo


def number_of_outputs(network: nn.Module, channels: int, patch_size: Sequence[int]) -> int | None:
    """Count the outputs: the network runs on a tensor without values, so this takes neither time nor memory.

    Args:
        network: As it was built: not compiled, not wrapped. Its mode, weights and buffers stay as they are.
        channels: Of the input.
        patch_size: Of the input.

    Returns:
        Their number, 1 for a network that returns a tensor; None if it cannot run in this way.
    """
    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        network.eval()
        with contextlib.suppress(Exception), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            given: Any = network(torch.empty(1, channels, *patch_size, device=device))
            return len(given) if isinstance(given, list | tuple) else 1
        return None
    finally:
        for module, mode in modes.items():
            module.training = mode


def output_stages(network: nn.Module, scales: Sequence[Sequence[float]], channels: int) -> tuple[StageInfo, ...]:
    """Describe outputs, for the mixture's file.

    Args:
        network: As it was built.
        scales: Size of each output that is mixed divided by that of the input, fine to coarse.
        channels: Of each.

    Returns:
        The stages, coarse to fine. Those of nnU-Net's own networks have the names of their layers.
    """
    layers = len(getattr(getattr(network, "decoder", None), "seg_layers", ()))
    names = [f"decoder.seg_layers.{layers - 1 - i}" if i < layers else f"outputs.{i}" for i in range(len(scales))]
    stages = [
        StageInfo(name=name, channels=channels, stride=tuple(1 / part for part in scale))
        for name, scale in zip(names, scales, strict=True)
    ]
    return tuple(stages[::-1])
