"""Mixtures, their losses, and what these are given.

``example_mixture``: a mixture with parameters of two operators. ``sample`` and ``build``: maps, labels and a loss, for
every engine of ``ENGINE_NAMES``. ``taken``: what a call of a loss gave. ``built``: a network with its loss, by default
one whose weighting looks ahead.
"""

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import StageInfo
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import build_weighting

ENGINE_NAMES = ["auto", "reference", "tiled"]  # auto is the C++ kernel wherever a compiler is
if os.environ.get("TRITON_INTERPRET") == "1":
    ENGINE_NAMES = ["triton"]


def sample(
    size: tuple[int, ...] = (6, 5), classes: int = 3, num_maps: int = 3, batch: int = 2
) -> tuple[list[Tensor], Tensor]:
    """Maps of ever smaller strides and labels of the finest size."""
    sizes = [tuple(max(1, s >> (num_maps - 1 - i)) for s in size) for i in range(num_maps)]
    maps = [torch.randn(batch, classes, *s, dtype=torch.float64, requires_grad=True) for s in sizes]
    return maps, torch.randint(max(classes, 2), (batch, *size))


def build(**settings: object) -> MixtureLoss:
    chosen = {"space": "lomix", "num_maps": 3, "num_classes": 3} | settings
    torch.manual_seed(1)
    return MixtureLoss(**chosen).double()  # type: ignore[arg-type]


class Taken(NamedTuple):
    """What one call of a loss gave: the total, and losses and weights of the maps."""

    total: Tensor
    per_map: Tensor
    weights: Tensor


def taken(loss: MixtureLoss, maps: Any, labels: Any) -> Taken:
    total = loss(maps, labels)
    return Taken(total, loss.per_map.losses, loss.per_map.weights)


def built(net: nn.Module, weighting: str = "lookahead", space: str = "lomix", **settings: Any) -> Any:
    """Return an instrumented network in train mode, and its loss."""
    torch.manual_seed(3)
    instrumented = lomix.instrument(net, torch.zeros(1, 1, 16, 16))
    instrumented.train()
    loaded = SearchSpace.load(space)
    maps = tuple(loaded.maps(len(instrumented.stages)))
    kind = build_weighting(weighting, maps, settings)
    return instrumented, lomix.MixtureLoss(loaded, len(instrumented.stages), 3, weighting=kind)


def example_mixture() -> Mixture:
    """Return maps of three stages, the later the heavier, with parameters of two of their operators."""
    space = SearchSpace.load("lomix")
    maps = tuple(MapWeight(id=m.id, weight=0.1 + 0.01 * i) for i, m in enumerate(space.maps(3)))
    stages = tuple(StageInfo(name=f"up{i}", channels=8, stride=(s, s)) for i, s in enumerate((4, 2, 1)))
    plain = Mixture(space=space, num_classes=4, num_maps=3, stages=stages, weighting="softplus", maps=maps)
    return plain.with_operators({"concat(1,2).weight": torch.randn(4, 8), "concat(1,3).bias": torch.randn(4)})
