"""A network is run and its own logits come out, wherever in its forward pass they are made."""

from typing import Any

from torch import Tensor, nn

from lomix_search.errors import StageError
from lomix_search.instrumentation.hooks import run_tapped
from lomix_search.instrumentation.stages.read_logits import CLAMP, read_logits, undo_ending
from lomix_search.instrumentation.stages.stage import ReturnedLogits
from lomix_search.instrumentation.trace import unwrap

LOGITS = -1
"""The number under which hooks keep the logits of a model that returns probabilities."""


def logits_in(model: nn.Module, returned: ReturnedLogits, args: Any, kwargs: Any) -> Tensor:
    """Run a model in eval mode and return its own logits.

    Args:
        model: The user's network.
        returned: Where they are.
        args: What the model takes.
        kwargs: What the model takes by name.

    Returns:
        Logits (B, C, *spatial), for probabilities those that they were made of.

    Raises:
        StageError: the model returned something else than on the example.
    """
    title = type(unwrap(model)).__name__
    if returned.tap is None:
        return read_logits(returned, model(*args, **kwargs), title)
    _, kept = run_tapped(model, {LOGITS: returned.tap}, args, kwargs)
    if LOGITS not in kept:
        raise StageError(
            f"the logits of {title} were not reached in this forward pass.",
            seen=f"tapped at the {returned.tap}",
            hint="instrument again with an example like this input, with the model set as it is now",
        )
    return undo_ending(kept[LOGITS], returned.ends if returned.ends == CLAMP else "")
