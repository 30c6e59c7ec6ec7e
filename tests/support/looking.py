"""A loss that looks ahead."""

from typing import Any

import torch
from torch import nn

import lomix_search as lomix
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import build_weighting


def built(net: nn.Module, weighting: str = "lookahead", space: str = "lomix", **settings: Any) -> Any:
    torch.manual_seed(3)
    instrumented = lomix.instrument(net, torch.zeros(1, 1, 16, 16))
    instrumented.train()
    loaded = SearchSpace.load(space)
    maps = tuple(loaded.maps(len(instrumented.stages)))
    kind = build_weighting(weighting, maps, settings)
    return instrumented, lomix.MixtureLoss(loaded, len(instrumented.stages), 3, weighting=kind)
