"""What a held-out batch says about every map: one gradient on it, one derivative along that on a training batch.

    ∂L_held(φ − η·Σ wₖ·gₖ)/∂wₖ = −η·⟨v, gₖ⟩,   v = ∇L_held,   gₖ = ∇ℓₖ

How ⟨v, gₖ⟩ comes for all maps at once, ``map_slopes`` says. First-order DARTS, which differentiates the held-out loss
itself, gives 0, because no weight enters that loss. In a distributed run every process takes its share of both batches,
and all see the same slopes: those of the whole.
"""

import fnmatch
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import collate
from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Lookahead, uniform_weights
from lomix_search.training.map_slopes import METHODS, Autocast, Direction, first_that_works, length_of, logits_with
from lomix_search.utils.distributed import mean_over_processes, share
from lomix_search.utils.random import same_random_state, seeds_from

_Items = Dataset[tuple[Tensor, Tensor]]
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
        with same_random_state():
            held = self._batch(step // self.weighting.interval, images.device)
            v = held_out_gradient(self.net, self.finest, *held, self.names, self.autocast)
            length = float(length_of(v)) / _SCALE
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
            self.method, slopes = first_that_works(self.net, self.loss, images, labels, v, self.autocast)
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
        total = finest(logits_with(net, {}, images), labels)
    found = torch.autograd.grad(total * _SCALE, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {name: mean_over_processes(torch.zeros_like(p) if g is None else g) for (name, p), g in pairs}


def finest_loss(loss: MixtureLoss) -> MixtureLoss:
    """Build the loss of the finest original alone, by the settings of a mixture loss."""
    space = SearchSpace(name="finest", originals="finest")
    maps = tuple(space.maps(loss.plan.num_maps))
    built = MixtureLoss(space, loss.plan.num_maps, loss.num_classes, uniform_weights(maps), **loss.settings)
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


def _random_direction(like: Direction, seed: int, step: int) -> Direction:
    device = next(iter(like.values())).device
    generator = torch.Generator(device).manual_seed(*seeds_from((seed, step), 1))
    return {name: torch.empty_like(t).normal_(generator=generator) for name, t in like.items()}


def _unit(direction: Direction) -> Direction:
    length = length_of(direction).clamp(min=1e-30)
    return {name: part / length for name, part in direction.items()}
