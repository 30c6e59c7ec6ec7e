"""Where a model's own logits are in what it returns, and what its softmax or sigmoid means for reading them."""

import contextlib
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.ending import Ending, ending_of
from lomix_search.instrumentation.stages.layouts import layout_of, map_layout
from lomix_search.instrumentation.stages.main_output import main_output, rivals
from lomix_search.instrumentation.stages.read_logits import CLAMP
from lomix_search.instrumentation.stages.stage import ReturnedLogits
from lomix_search.instrumentation.stages.taps import Tap, tap_of
from lomix_search.instrumentation.trace import (
    BACKENDS,
    Inputs,
    Trace,
    ValuePath,
    fresh,
    inputs_of,
    on_twin,
    pick,
    trace,
    unwrap,
)

_UNDONE = {"softmax": "softmax", "sigmoid": "sigmoid", "log_sigmoid": "log_sigmoid", CLAMP: CLAMP}
"""Endings after which something must be undone; values of a log-softmax are logits already."""


def find_returned_logits(model: nn.Module, example: Any, num_classes: int | None = None) -> ReturnedLogits:
    """Find a model's logits in what it returns in eval mode, as ``instrument`` does, without looking for stages.

    Args:
        model: Any eager network.
        example: As for :func:`lomix_search.instrumentation.trace.trace`.
        num_classes: Channels that the logits must have; None for any.

    Returns:
        Where they are.

    Raises:
        TraceError: the model could not be read.
        StageError: it returns no map of logits.
    """
    network, found = unwrap(model), trace(model, example)
    read_layouts(found)
    place, logits = main_output(found, num_classes, type(network).__name__)
    return returned_logits(network, example, found, place, logits)


def returned_logits(
    network: nn.Module, example: Any, found: Trace, place: ValuePath, logits: fx.Node
) -> ReturnedLogits:
    """Say how a model's logits are read out of what it returns in eval mode.

    Args:
        network: The model, unwrapped.
        example: What it was traced with.
        found: A trace in eval mode.
        place: Where its main output is.
        logits: The map of logits in it.

    Returns:
        The place, and what is to be undone there or where the logits are tapped instead.

    Raises:
        StageError: the values are made of probabilities, and are neither these nor logits.
    """
    title, shape, ending = type(network).__name__, logits.meta["shape"], ending_of(found, place, logits)
    others = tuple(place for place, _ in rivals(found, shape[1], title))
    if place[-1:] == (("rows", 0),):
        return ReturnedLogits(place, shape[1], len(shape), "", tap_of(found, logits), others)
    if ending is None:
        return ReturnedLogits(place, shape[1], len(shape), rivals=others)
    tap, before = logits_tap(found, ending, logits)
    given = shape if ending.given is None else ending.given.meta["shape"]
    same = before != shape[1] or given[2 if len(given) == len(shape) else 1 :] == shape[2:]
    if tap is not None and ending.alone and (same or ending.scaled):
        return ReturnedLogits(place, shape[1], len(shape), CLAMP if ending.kind == CLAMP else "", tap, others)
    ends: str | None = _UNDONE.get(ending.kind, "")
    if ending.scaled or not ending.alone:
        ends = _ends_by_value(network, example, place, ending.kind)
    if before != shape[1] or ends is None:
        raise StageError(
            f"{title} ends in {ending.name}, and what it returns is neither logits nor all of the probabilities.",
            seen=f"output: {' × '.join(map(str, shape))}",
            hint="return the logits from forward(), and apply the activation outside",
        )
    return ReturnedLogits(place, shape[1], len(shape), ends, None, others)


def logits_tap(found: Trace, ending: Ending, output: fx.Node) -> tuple[Tap | None, int]:
    """Return where the input of a model's last activation is tapped, and how many channels it has.

    Args:
        found: A trace in eval mode.
        ending: The activation.
        output: The map of logits, from after it.

    Returns:
        No tap where no module sees that input, or where it is no such map; the channels are then those of the output.
    """
    classes = output.meta["shape"][1]
    if ending.given is None or not (ending.alone or ending.decided):
        return None, classes
    given = ending.given if len(ending.given.meta["shape"]) == len(output.meta["shape"]) else output
    if given is output and ending.kind == CLAMP and ending.given is not output:
        return None, classes
    tap = tap_of(found, given) if layout_of(given) and map_layout(given).form == "first" else None
    return (tap, given.meta["shape"][1]) if tap or given.meta["shape"][1] != classes else (None, classes)


def ending_in_train_mode(network: nn.Module, example: Any, training: Trace | None, found: Trace, own: ValuePath) -> str:
    """Say what must be undone in the main output of a model in train mode.

    Args:
        network: The model, unwrapped.
        example: What it was traced with.
        training: A trace in train mode; the one of eval mode where both return the same shapes.
        found: The trace in eval mode.
        own: Where the main output is in train mode.

    Returns:
        As ``Stage.ends``.
    """
    seen = _trained(network, example) if training is found else training
    node = None if seen is None else dict(seen.outputs).get(own) or dict(seen.outputs).get(own[:-1])
    if seen is None or node is None:
        seen, node = found, dict(found.outputs).get(own) or found.outputs[0][1]
    ending = ending_of(seen, own, node)
    return "" if ending is None else _UNDONE.get(ending.kind, "")


def _trained(network: nn.Module, example: Any) -> Trace | None:
    """Record a run in train mode; None if the model does not run there on its inputs alone."""
    given = inputs_of(example, network)

    def read(twin: nn.Module) -> Trace | None:
        twin.train()
        for inputs in _varied(given):
            with contextlib.suppress(Exception):  # whatever a user's forward may raise
                return BACKENDS["record"](twin, *fresh(inputs))
        return None

    return on_twin(network, given, read)


def _ends_by_value(network: nn.Module, example: Any, place: ValuePath, kind: str) -> str | None:
    """Say what is to be undone in values that are made of probabilities, by those for random inputs.

    Returns None if they are not probabilities any more; "softmax" if those of all classes add up to 1, however made.
    """
    given = inputs_of(example, network)

    def look(twin: nn.Module) -> Tensor:
        args, kwargs = fresh(_varied(given)[0])
        with torch.no_grad():
            values: Tensor = pick(twin.eval()(*args, **kwargs), place)
        return values.exp() if kind.startswith("log_") else values

    values = on_twin(network, given, look)
    if not bool((values >= -1e-4).all() and (values <= 1 + 1e-4).all()):
        return None
    whole = values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < 1e-3).all())
    return _UNDONE.get(kind, "") if not whole else "" if kind.startswith("log_") else "softmax"


def _varied(given: Inputs) -> tuple[Inputs, Inputs]:
    """Return the example with random values, and the same twice in a batch, which batch norms may ask for."""

    def varied(value: Tensor) -> Tensor:
        return torch.rand_like(value) if value.is_floating_point() and value.ndim > 2 else value

    once: Inputs = pytree.tree_map_only(Tensor, varied, given)
    twice: Inputs = pytree.tree_map_only(Tensor, lambda t: torch.cat([t, t]) if t.ndim else t, once)
    return once, twice
