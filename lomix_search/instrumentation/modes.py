"""Train and eval mode, module by module: parts that a user froze stay frozen, and modes come back after a look."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lomix_search.utils.random import same_random_state


def frozen(net: nn.Module) -> list[nn.Module]:
    """Find the parts of a network that its user put into eval mode for good, such as batch norms that are not to move.

    They are the modules in eval mode in a network in train mode. In a network that was left in eval mode as a whole, by
    an evaluation say, they are those of which no parameter is trained.

    Args:
        net: The network, instrumented or not.

    Returns:
        The modules; of a frozen part, all that it holds.
    """
    root = getattr(net, "model", net)
    if root.training:
        return [module for module in root.modules() if not module.training]
    parts = [part for part in root.modules() if part is not root and _is_fixed(part)]
    return list(dict.fromkeys(module for part in parts for module in part.modules()))


def train_mode(net: nn.Module) -> list[nn.Module]:
    """Put a network into train mode, except its frozen parts.

    Args:
        net: The network, instrumented or not.

    Returns:
        The frozen parts.
    """
    kept = frozen(net)
    net.train()
    for module in kept:
        module.training = False
    return kept


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and every module of it back into its own mode at the end.

    Args:
        net: The network, instrumented or not.

    Yields:
        Nothing.
    """
    with modes_kept(net):
        net.eval()
        yield


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Put every module of a network back into its own mode at the end, whatever is done to it meanwhile.

    Args:
        net: The network, instrumented or not.

    Yields:
        Nothing.
    """
    before = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        net.train(before[0][1])  # which some networks follow with more than a flag
        for module, mode in before:
            module.training = mode


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Put everything back at the end that training continues with: the network's modes and buffers, random states.

    Args:
        net: The network, instrumented or not.

    Yields:
        Nothing.
    """
    places = [(module, name, one) for module in net.modules() for name, one in module._buffers.items()]
    before = [None if one is None else one.clone() for _, _, one in places]
    try:
        with modes_kept(net), same_random_state():
            yield
    finally:
        for (module, name, one), value in zip(places, before, strict=True):
            if one is not None and value is not None:
                module._buffers[name] = one
                one.copy_(value)


def _is_fixed(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
