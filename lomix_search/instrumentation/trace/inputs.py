"""The example: what a model is called with, on the model's device, written out, and varied."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.instrumentation.trace.graph import tensors

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword inputs of one call."""


def inputs_of(example: Any, model: nn.Module) -> Inputs:
    """Turn an example into ``(args, kwargs)`` on the model's device and in its floating type.

    Args:
        example: A tensor, a tuple or list of positional inputs, or a mapping of keyword inputs.
        model: Says which device and dtype.

    Returns:
        Positional and keyword inputs.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), None)

    def fitted(value: Any) -> Any:
        if isinstance(value, Tensor) and first is not None:
            return value.to(first.device, first.dtype if value.is_floating_point() else None)
        return value

    if isinstance(example, Mapping):
        return (), {key: fitted(value) for key, value in example.items()}
    if isinstance(example, (tuple, list)):
        return tuple(fitted(value) for value in example), {}
    return (fitted(example),), {}


def shapes(inputs: Inputs) -> str:
    """Write the inputs for an error message: ``float32 1 × 3 × 64 × 64``."""
    found = [f"{str(t.dtype).removeprefix('torch.')} {sizes(t.shape)}" for _, t in tensors(inputs)]
    return ", ".join(found) or "no tensor"


def sizes(shape: Any) -> str:
    """Write a shape: ``64 × 224 × 224``."""
    return " × ".join(map(str, shape)) or "scalar"


def varied(inputs: Inputs) -> Inputs:
    """Return inputs with random values where an image holds one value, such as zeros.

    On an image of one value, a graph that forgets something may be right too.
    """
    return _mapped(inputs, _varied)


def opposite(inputs: Inputs) -> Inputs:
    """Return inputs with random values of the other sign, so that a branch on the sign of a mean goes the other way."""
    return _mapped(inputs, _opposite)


def doubled(inputs: Inputs) -> Inputs:
    """Return inputs with twice the batch, which batch normalisation asks for where one value is left per channel."""
    return _mapped(inputs, lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor)


def _varied(tensor: Tensor) -> Tensor:
    known = tensor.ndim < 3 or not tensor.is_floating_point() or tensor.is_meta
    return tensor if known or tensor.min() != tensor.max() else torch.rand_like(tensor)


def _opposite(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return -torch.rand_like(tensor) if tensor.is_meta or tensor.mean() > 0 else torch.rand_like(tensor)


def _mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    mapped: Inputs = torch.utils._pytree.tree_map_only(Tensor, change, inputs)
    return mapped
