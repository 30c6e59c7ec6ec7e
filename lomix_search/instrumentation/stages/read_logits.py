"""Reading a model's own logits out of what it returns."""

from typing import Any

import torch
from torch import Tensor

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.stage import ReturnedLogits
from lomix_search.instrumentation.trace import ValuePath, bare_tensor, leaves, pick, shapes, spell

CLAMP = "clamp"
"""The ending of values that are cut to 0 … 1 and taken as probabilities."""


def read_logits(returned: ReturnedLogits, value: Any, title: str) -> Tensor:
    """Return the logits in what a model returned.

    Args:
        returned: Where they are, and what they were made into.
        value: What the model returned.
        title: The model's class name.

    Returns:
        Logits (B, C, *spatial).

    Raises:
        StageError: it returned something else than on the example.
    """
    return undo_ending(returned_map(value, returned.place, returned.rank, returned.classes, title), returned.ends)


def returned_map(value: Any, place: ValuePath, rank: int, classes: int, title: str, main: bool = True) -> Tensor:
    """Return the map of logits at a place in what a model returned.

    A model that was told to return its main output alone (nnU-Net's ``deep_supervision = False``) is followed.

    Args:
        value: What the model returned.
        place: Where the map was on the example.
        rank: Its axes there.
        classes: Its channels there.
        title: The model's class name.
        main: Whether it is the main one, which may be returned alone.

    Returns:
        The map.

    Raises:
        StageError: there is no such map.
    """
    within = place[:1] and place[0][0] in ("item", "attr", "stacked")
    alone = isinstance(value, Tensor) and value.ndim == rank and within
    try:
        found = pick(value, place) if not alone else value if main else None
    except (LookupError, TypeError, AttributeError, RuntimeError):
        found = None
    if isinstance(found, Tensor) and found.ndim == rank and found.shape[1] == classes:
        return found
    seen = [f"output{spell(path)}: {shapes(((leaf,), {}))}" for path, leaf in leaves(value) if isinstance(leaf, Tensor)]
    raise StageError(
        f"{title} returned no map of {classes} channels at output{spell(place)}, as it did on the example.",
        seen=seen or f"a {type(value).__name__}",
        hint="instrument again with an example like this input, with the model set as it is now",
    )


def undo_ending(values: Tensor, ends: str) -> Tensor:
    """Return the logits of probabilities: those that the activation would make these of; 0 for a probability of 0.5.

    Args:
        values: What the model returned.
        ends: As in :class:`ReturnedLogits`.

    Returns:
        Logits, plain tensors, float32 at least where something was undone.
    """
    values = bare_tensor(values)
    if not ends:
        return values
    wide = values if values.dtype == torch.float64 else values.float()
    info = torch.finfo(wide.dtype)
    if ends == CLAMP:
        return 4 * (wide - 0.5)  # the line that touches the logistic function at 0.5
    if ends == "log_sigmoid":
        return wide - torch.log(-torch.expm1(wide.clamp(max=-info.eps / 2)))
    above = wide.clamp(min=info.tiny).log()
    return above if ends == "softmax" else above - torch.log1p(-wide.clamp(0, 1 - info.eps / 2))
