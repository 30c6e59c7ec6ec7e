"""What a held-out batch says about every map: one gradient on it, one derivative along that on a training batch.

    ∂L_held(φ − η·Σ wₖ·gₖ)/∂wₖ = −η·⟨v, gₖ⟩,   v = ∇L_held,   gₖ = ∇ℓₖ

⟨v, gₖ⟩ is the derivative of ℓₖ along v, so that one forward-mode pass, or two forwards a little to either side, give it
for all maps at once. (First-order DARTS, which differentiates the held-out loss itself, gives 0: no weight enters it.)
Nothing of this changes the network: parameters, buffers such as those of batch norms, and random states stay.
In a distributed run every process takes its share of both batches, and all see the same slopes: those of the whole.
"""

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.data import Dataset

from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import collate
from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Lookahead, uniform_weights
from lomix_search.utils.distributed import largest_over_processes, mean_over_processes, share

_Items = Dataset[tuple[Tensor, Tensor]]
Direction = dict[str, Tensor]
Autocast = Callable[[], Any]

_APART = 1_000_003  # added to the seed: held-out batches and augmentations are other draws than those of training
_SCALE = 1024.0  # so that half precision does not lose small gradients; directions have length 1 in the end


class Looker:
    """Looks at held-out data for a ``Lookahead`` weighting.

    Its batches are a function of the seed and the step; all that it remembers is in the weighting's state.

    Args:
        net: The instrumented network, in train mode whenever ``look`` is called.
        loss: The mixture loss, weighted by a ``Lookahead``.
        held_out: Items that training does not see.
        batch_size: Items a look.
        seed: The run's.
        autocast: Makes the context that training runs its forward in.

    Raises:
        RunError: no parameter of the network matches the weighting's ``covers``.
    """

    def __init__(
        self, net: nn.Module, loss: MixtureLoss, held_out: _Items, batch_size: int, seed: int, autocast: Autocast
    ) -> None:
        assert isinstance(loss.weighting, Lookahead)
        self.net, self.loss, self.weighting, self.autocast = net, loss, loss.weighting, autocast
        self.items, self.seed = Seeded(held_out, seed + _APART), seed
        self.order = Order(len(held_out), batch_size, seed + _APART)  # type: ignore[arg-type]
        self.finest = finest_loss(loss)
        self.names = covered(net, self.weighting.covers)
        self.method: str = self.weighting.method

    def look(self, step: int, images: Tensor, labels: Tensor) -> dict[str, float | str | list[float]]:
        """Tell the weighting how the held-out loss would answer to each map's weight in the step to come.

        Args:
            step: Steps taken so far.
            images: The training batch of the step to come.
            labels: Its labels.

        Returns:
            What to log: slopes ⟨v/‖v‖, gₖ⟩ (NaN for dropped maps), normalised slopes, ‖v‖, and the method.
        """
        with _as_it_was(images.device):
            held = self._batch(step // self.weighting.interval, images.device)
            v = held_out_gradient(self.net, self.finest, *held, self.names, self.autocast)
            length = float(_length(v)) / _SCALE
            v = _unit(v)
            slopes = self._slopes(images, labels, v)
            probes = None
            if self.weighting.normalize == "norm":
                probes = self._slopes(images, labels, _random_direction(v, self.seed, step))
        scores = self.weighting.learn(slopes, probes)
        return {
            "lookahead/slopes": slopes.tolist(),
            "lookahead/scores": scores.tolist(),
            "lookahead/length": length,
            "lookahead/method": self.method,
        }

    def _batch(self, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
        keys = self.order.batch(number)
        mine = share(keys) if self.loss.together else keys
        images, labels = collate([self.items[key] for key in mine])
        return images.to(device), labels.to(device)

    def _slopes(self, images: Tensor, labels: Tensor, v: Direction) -> Tensor:
        if self.method == "auto":
            self.method, slopes = _first_that_works(self.net, self.loss, images, labels, v, self.autocast)
        else:
            slopes = METHODS[self.method](self.net, self.loss, images, labels, v, self.autocast)
        return mean_over_processes(slopes)


def held_out_gradient(
    net: nn.Module, finest: MixtureLoss, images: Tensor, labels: Tensor, names: Sequence[str], autocast: Autocast
) -> Direction:
    """Differentiate the finest map's loss on a held-out batch.

    Args:
        net: The instrumented network.
        finest: What ``finest_loss`` returned.
        images: Held-out images (B, C, *spatial).
        labels: Their labels.
        names: Parameters to differentiate by.
        autocast: Makes the context of the forward.

    Returns:
        v by parameter name, the mean over processes where there are several. Its length means nothing.
    """
    parameters = {name: p for name, p in net.named_parameters() if name in set(names)}
    with autocast():
        total = finest(_logits(net, {}, images), labels).total
    found = torch.autograd.grad(total * _SCALE, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {name: mean_over_processes(torch.zeros_like(p) if g is None else g) for (name, p), g in pairs}


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
    parameters = dict(net.named_parameters())
    with torch.no_grad(), forward_ad.dual_level(), autocast():
        duals = {
            name: forward_ad.make_dual(parameters[name].detach(), v[name])  # type: ignore[no-untyped-call]
            for name in v
        }
        parts = [
            forward_ad.unpack_dual(one)  # type: ignore[no-untyped-call]
            for one in _logits(net, duals, images)
        ]
    logits = [_wide(p.primal) for p in parts]
    tangents = [
        torch.zeros_like(one) if p.tangent is None else _wide(p.tangent) for one, p in zip(logits, parts, strict=True)
    ]
    largest = largest_over_processes(torch.stack([t.abs().max() for t in tangents]).max())
    step = (1e-4 if logits[0].dtype == torch.float64 else 1e-2) / largest.clamp(min=1e-30)
    sides = []
    with torch.no_grad():
        for sign in (1, -1):
            moved = [one + sign * step * t for one, t in zip(logits, tangents, strict=True)]
            sides.append(loss(moved, labels).per_map)
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
    step = (1e-4 if double else 1e-2) / _length(v).clamp(min=1e-30)
    sides = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for sign in (1, -1):
            moved = {name: parameters[name].detach() + sign * step * v[name] for name in v}
            with _as_it_was(images.device):  # dropout draws the same on both sides
                sides.append(loss(_logits(net, moved, images), labels).per_map)
    return _slope(sides[0], sides[1], step)


METHODS = {"forward": slopes_by_forward_mode, "difference": slopes_by_difference}


def finest_loss(loss: MixtureLoss) -> MixtureLoss:
    """Build the loss of the finest original alone, by the settings of a mixture loss."""
    space = SearchSpace(name="finest", originals="finest")
    maps = tuple(space.maps(loss.plan.num_maps))
    built = MixtureLoss(
        space,
        loss.plan.num_maps,
        loss.num_classes,
        uniform_weights(maps),
        loss.ce,
        loss.dice,
        loss.ignore_index,
        loss.engine,
        loss.loss,
        loss.together,
    )
    return built.to(next((b.device for b in loss.buffers()), torch.device("cpu")))


def covered(net: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Name the trained parameters that patterns cover.

    Args:
        net: The instrumented network.
        patterns: As in the user's own network (``"upcat_*"``) or in the instrumented one (``"heads.*"``).

    Returns:
        Names of ``net.named_parameters()``.

    Raises:
        RunError: there are none.
    """
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    found = tuple(
        name
        for name in trained
        if any(fnmatch.fnmatchcase(own, p) for p in patterns for own in (name, name.removeprefix("model.")))
    )
    if not found:
        raise RunError(
            f"weighting.covers = {list(patterns)}: no trained parameter of the network is covered.",
            seen=", ".join(trained[:6]) + (", …" if len(trained) > 6 else ""),
            hint='weighting.covers=["*"]',
        )
    return found


# -- small parts -------------------------------------------------------------------------------------------------------


def _first_that_works(
    net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor, v: Direction, autocast: Autocast
) -> tuple[str, Tensor]:
    """Return the method that a network can do, and what it gave.

    A layer without a forward-mode derivative fails as its author left it: NotImplementedError from PyTorch's own, other
    types from custom functions and compiled code. Nothing is hidden by it: what is wrong for another reason is raised
    again by differences, which run the same network and loss; and a lack of memory is no property of the network.
    """
    try:
        return "forward", slopes_by_forward_mode(net, loss, images, labels, v, autocast)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return "difference", slopes_by_difference(net, loss, images, labels, v, autocast)


def _logits(net: nn.Module, parameters: Mapping[str, Tensor], images: Tensor) -> Sequence[Tensor]:
    """Run the network with other parameters, and with buffers of its own that are thrown away."""
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


@contextmanager
def _as_it_was(device: torch.device) -> Iterator[None]:
    """Leave torch's random states as they are."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _random_direction(like: Direction, seed: int, step: int) -> Direction:
    device = next(iter(like.values())).device
    generator = torch.Generator(device).manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
    return {name: torch.empty_like(t).normal_(generator=generator) for name, t in like.items()}


def _unit(direction: Direction) -> Direction:
    length = _length(direction).clamp(min=1e-30)
    return {name: part / length for name, part in direction.items()}


def _length(direction: Direction) -> Tensor:
    length: Tensor = torch.stack([part.norm() for part in direction.values()]).norm()
    return length


def _slope(ahead: Tensor, behind: Tensor, step: Tensor) -> Tensor:
    return (ahead - behind) / (2 * step)


def _wide(one: Tensor) -> Tensor:
    return one if one.dtype == torch.float64 else one.float()
