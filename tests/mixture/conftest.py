"""What the tests of mixtures share."""

import pytest
import torch

from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import StageInfo
from lomix_search.mixture.space import SearchSpace


@pytest.fixture
def mixture() -> Mixture:
    """Maps of three stages, the later the heavier, with parameters of two of their operators."""
    space = SearchSpace.load("lomix")
    maps = tuple(MapWeight(id=m.id, weight=0.1 + 0.01 * i) for i, m in enumerate(space.maps(3)))
    stages = tuple(StageInfo(name=f"up{i}", channels=8, stride=(s, s)) for i, s in enumerate((4, 2, 1)))
    plain = Mixture(space=space, num_classes=4, num_maps=3, stages=stages, weighting="softplus", maps=maps)
    return plain.with_operators({"concat(1,2).weight": torch.randn(4, 8), "concat(1,3).bias": torch.randn(4)})
