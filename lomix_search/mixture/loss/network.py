"""What a loss reads of a network: how many stages and channels it has, and what its stages are."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from lomix_search.errors import LossError


class NetworkLike(Protocol):
    """What ``for_network`` reads of an instrumented network."""

    @property
    def stages(self) -> Sequence[Any]:
        """Its decoder stages, coarse to fine."""

    @property
    def num_classes(self) -> int:
        """Channels of its logits."""


class StageLike(Protocol):
    """What a mixture notes of a stage."""

    @property
    def name(self) -> str:
        """Module path."""

    @property
    def channels(self) -> int:
        """Channels of the feature map."""

    @property
    def stride(self) -> Sequence[float]:
        """Input size divided by the stage's size."""


def unwrapped(net: Any) -> Any:
    """Return the instrumented network inside DistributedDataParallel or DataParallel, or what was given."""
    inner = net
    while not hasattr(inner, "stages") and isinstance(getattr(inner, "module", None), nn.Module):
        inner = inner.module
    return inner


def network_counts(net: Any) -> tuple[int, int]:
    """Count the stages and channels of an instrumented network.

    Args:
        net: The network; may be wrapped, as for training on several devices, or compiled.

    Returns:
        L and C.

    Raises:
        LossError: it is not instrumented.
    """
    inner = unwrapped(net)
    stages, classes = getattr(inner, "stages", None), getattr(inner, "num_classes", None)
    if not hasattr(inner, "strip") or not isinstance(stages, Sequence) or not isinstance(classes, int):
        raise LossError(
            f"for_network needs an instrumented network, not a {type(net).__name__}.",
            hint=["net = lomix.instrument(net, example=images)", "loss = lomix.MixtureLoss.for_network(net)"],
        )
    return len(stages), classes
