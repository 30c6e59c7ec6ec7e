"""The model itself, run on the example without a graph: the outputs that a graph must give again, or why it fails."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import TraceError
from lomix_search.instrumentation.trace.graph import tensors
from lomix_search.instrumentation.trace.inputs import Inputs, shapes, varied
from lomix_search.instrumentation.trace.twin import fresh

SEED = 0  # any: models that draw numbers in eval mode draw the same in every run that is compared


def run_example(twin: nn.Module, given: Inputs) -> tuple[Inputs, list[Tensor]]:
    """Run a model on the example.

    Args:
        twin: In eval mode.
        given: The example.

    Returns:
        The example, with random values where it was all zeros or all ones, if the model takes them; and the tensors
        that the model returned for it.

    Raises:
        TraceError: the model does not run, or returns nothing that could be logits.
    """
    try:
        inputs = varied(given)
        found = outputs_on(twin, inputs)
    except Exception:  # the user's model may accept only some values
        inputs, found = given, _run_on_example(twin, given)
    if not found:
        raise TraceError(
            f"{type(twin).__name__} returned no tensor; a segmentation network returns logits.",
            hint="instrument the module whose forward() returns the logits",
        )
    if not any(tensor.is_floating_point() for tensor in found):
        raise TraceError(
            f"{type(twin).__name__} returned whole numbers; a segmentation network returns logits.",
            seen=[f"output: {shapes(((tensor,), {}))}" for tensor in found],
            hint="return the logits from forward(), and take argmax(1) of them outside",
        )
    return inputs, found


def _run_on_example(twin: nn.Module, inputs: Inputs) -> list[Tensor]:
    try:
        return outputs_on(twin, inputs)
    except Exception as error:  # whatever a user's forward may raise
        name = type(twin).__name__
        raise TraceError(
            f"{name} did not run on the example in eval mode; it needs an example as it gets in training.",
            seen=[f"example: {shapes(inputs)}", f"{type(error).__name__}: {first_line(error)}"],
            hint=_hint(error, twin, inputs),
        ) from error


def _hint(error: Exception, twin: nn.Module, inputs: Inputs) -> str:
    """Say what to pass instead, in the words of the model's own forward()."""
    if inputs[0] and all(isinstance(value, int) for value in inputs[0]):
        return f"example=torch.zeros{inputs[0]}  # a tensor, not its shape"
    kinds = [type(value).__name__ for value in (*inputs[0], *inputs[1].values())]
    if "ndarray" in kinds:
        return "example=torch.from_numpy(array)  # a tensor, not an array"
    if isinstance(error, TypeError) and "forward() " in str(error) and (names := _required(twin)):
        several = len(names) > 1
        both = f"example=({', '.join(names)}) or example={{{', '.join(f'{name!r}: {name}' for name in names)}}}"
        return (
            f"{both}  # all that forward() takes" if several else f"example=({names[0]},)  # all that forward() takes"
        )
    return "example=torch.zeros(batch, channels, *size) with the channels and size of the training images"


def _required(twin: nn.Module) -> list[str]:
    """Return the names of the inputs that forward() cannot do without."""
    parameters = inspect.signature(twin.forward).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def outputs_on(twin: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Run a model from the same random state as ever, and return copies of the tensors that it returned."""
    torch.manual_seed(SEED)
    return [leaf.clone() for _, leaf in tensors(called(twin, inputs))]


def runs_on(twin: nn.Module, inputs: Inputs) -> bool:
    """Whether a model runs on these inputs."""
    try:
        outputs_on(twin, inputs)
    except Exception:  # the user's model may accept only some values
        return False
    return True


def called(twin: nn.Module, inputs: Inputs) -> Any:
    """Call a model on copies of the inputs, without gradients, and return what it returned."""
    args, kwargs = fresh(inputs)
    with torch.no_grad():
        return twin(*args, **kwargs)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, cut where it is very long."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
