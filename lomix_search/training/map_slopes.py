"""How the loss of every map answers when the network's parameters move along one direction v: ⟨v, gₖ⟩ for all at once.

⟨v, gₖ⟩ is the derivative of ℓₖ along v. One forward-mode pass through the network gives it for all maps, and so do two
forwards a little to either side. Nothing of the network changes: parameters, buffers and random states stay.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.utils.distributed import largest_over_processes
from lomix_search.utils.random import same_random_state

Direction = dict[str, Tensor]
"""One tensor for each parameter, by its name in ``net.named_parameters()``."""

Autocast = Callable[[], Any]
"""Makes the context that training runs its forward in."""


def slopes_by_forward_mode(
    net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor, v: Direction, autocast: Autocast
) -> Tensor:
    """Return ⟨v, gₖ⟩ (m,): forward-mode differentiation through the network, a difference of two through the loss.

    The losses are smooth in the logits and their sums are kept in double precision, so that the difference is exact to
    about 1e-4 in float32 and 1e-8 in float64; the network, where a difference would be coarse, is differentiated.

    Args:
        net: The instrumented network, in train mode.
        loss: The mixture loss; dropped maps give NaN.
        images: A training batch.
        labels: Its labels.
        v: A direction by parameter name.
        autocast: Makes the context of the forward.

    Returns:
        The slopes.
    """
    logits, tangents = _logits_and_tangents(net, images, v, autocast)
    largest = largest_over_processes(torch.stack([t.abs().max() for t in tangents]).max())
    step = (1e-4 if logits[0].dtype == torch.float64 else 1e-2) / largest.clamp(min=1e-30)
    sides = []
    with torch.no_grad():
        for sign in (1, -1):
            moved = [one + sign * step * t for one, t in zip(logits, tangents, strict=True)]
            loss(moved, labels)
            sides.append(loss.per_map.losses)
    return _slope(sides[0], sides[1], step)


def slopes_by_difference(
    net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor, v: Direction, autocast: Autocast
) -> Tensor:
    """Return ⟨v, gₖ⟩ (m,) as (ℓₖ(φ + ε·v) − ℓₖ(φ − ε·v)) / 2ε, in full precision whatever autocast says.

    Args:
        net: The instrumented network, in train mode.
        loss: The mixture loss; dropped maps give NaN.
        images: A training batch.
        labels: Its labels.
        v: A direction by parameter name; ε is 0.01 / ‖v‖, in float64 1e-4 / ‖v‖.
        autocast: Not used.

    Returns:
        The slopes.
    """
    parameters = dict(net.named_parameters())
    double = next(iter(v.values())).dtype == torch.float64
    step = (1e-4 if double else 1e-2) / length_of(v).clamp(min=1e-30)
    sides = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for sign in (1, -1):
            moved = {name: parameters[name].detach() + sign * step * v[name] for name in v}
            with same_random_state():  # dropout draws the same on both sides
                loss(logits_with(net, moved, images), labels)
            sides.append(loss.per_map.losses)
    return _slope(sides[0], sides[1], step)


METHODS = {"forward": slopes_by_forward_mode, "difference": slopes_by_difference}
"""By the name of the method in the settings of the weighting."""


def first_that_works(
    net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor, v: Direction, autocast: Autocast
) -> tuple[str, Tensor]:
    """Return the method that a network can do, and what it gave.

    A layer without a forward-mode derivative fails as its author left it: NotImplementedError from PyTorch's own, other
    types from custom functions and compiled code. Nothing is hidden by it: what is wrong for another reason is raised
    again by differences, which run the same network and loss; and a lack of memory is no property of the network.

    Args:
        net: As for :func:`slopes_by_forward_mode`, like all the others.
        loss: The mixture loss.
        images: A training batch.
        labels: Its labels.
        v: A direction.
        autocast: Makes the context of the forward.

    Returns:
        The method's name and the slopes.
    """
    try:
        return "forward", slopes_by_forward_mode(net, loss, images, labels, v, autocast)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return "difference", slopes_by_difference(net, loss, images, labels, v, autocast)


def logits_with(net: nn.Module, parameters: Mapping[str, Tensor], images: Tensor) -> Sequence[Tensor]:
    """Run the network with other parameters, and with buffers of its own that are thrown away.

    Args:
        net: The instrumented network; stays as it is.
        parameters: Those to exchange, by name.
        images: A batch.

    Returns:
        The logits of every stage.
    """
    with _lent(net, parameters):
        logits: Sequence[Tensor] = net(images)
    return logits


@contextmanager
def _lent(net: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other tensors in the places of parameters, and copies in those of buffers; put all back afterwards.

    ``torch.func.functional_call`` would do, but where a module is registered under two names, as in MONAI's DynUNet, it
    leaves the tensors there that it was lent (torch 2.13).
    """
    others = {id(p): parameters[name] for name, p in net.named_parameters() if name in parameters}
    others |= {id(b): b.detach().clone() for b in net.buffers()}
    places = [(place, key) for m in net.modules() for place in (m._parameters, m._buffers) for key in place]
    own = [place[key] for place, key in places]
    try:
        for (place, key), tensor in zip(places, own, strict=True):
            place[key] = others.get(id(tensor), tensor)  # type: ignore[assignment]
        yield
    finally:
        for (place, key), tensor in zip(places, own, strict=True):
            place[key] = tensor  # type: ignore[assignment]


def length_of(direction: Direction) -> Tensor:
    """Return ‖v‖ over all parameters together."""
    norm: Tensor = torch.stack([part.norm() for part in direction.values()]).norm()
    return norm


def _logits_and_tangents(
    net: nn.Module, images: Tensor, v: Direction, autocast: Autocast
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the logits of every stage and their derivatives along v."""
    parameters = dict(net.named_parameters())
    with torch.no_grad(), forward_ad.dual_level(), autocast():
        duals = {
            name: forward_ad.make_dual(parameters[name].detach(), v[name])  # type: ignore[no-untyped-call]
            for name in v
        }
        parts = [
            forward_ad.unpack_dual(one)  # type: ignore[no-untyped-call]
            for one in logits_with(net, duals, images)
        ]
    logits = [_wide(part.primal) for part in parts]
    pairs = zip(logits, parts, strict=True)
    return logits, [torch.zeros_like(one) if p.tangent is None else _wide(p.tangent) for one, p in pairs]


def _slope(ahead: Tensor, behind: Tensor, step: Tensor) -> Tensor:
    return (ahead - behind) / (2 * step)


def _wide(one: Tensor) -> Tensor:
    return one if one.dtype == torch.float64 else one.float()
