"""``check_weighting``: what we ship passes, and each thing that can be wrong with a weighting is said."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.maps import Map
from lomix_search.mixture.testing import WeightingFault, check_weighting
from lomix_search.mixture.weighting import WEIGHTINGS, Weighting, weighting


@pytest.fixture
def table() -> Iterator[None]:
    """Forget what a test registers."""
    before = dict(WEIGHTINGS)
    yield
    WEIGHTINGS.clear()
    WEIGHTINGS.update(before)


@pytest.mark.parametrize("name", sorted({*WEIGHTINGS} - {"fixed"}))  # "fixed" has its weights from a mixture
def test_shipped_weightings_conform(name: str) -> None:
    check_weighting(name)


@pytest.mark.parametrize("member", ["DWA", "GeometricMean", "UW"])
def test_scalarizers_conform(member: str) -> None:
    pytest.importorskip("torchjd")
    check_weighting(f"torchjd:{member}")


def test_settings_are_given_by_keyword() -> None:
    check_weighting("anneal", until=1.0, shape="cosine")
    with pytest.raises(LossError, match="unknown"):
        check_weighting("softplus", lr=1.0)


class _Good(Weighting):
    name = "mine"

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__(maps)
        self.theta = nn.Parameter(torch.zeros(len(self.map_ids)))

    def weights(self) -> Tensor:
        return torch.exp(self.theta) * self.kept


def _with(**methods: Callable[..., object]) -> type[Weighting]:
    return type("_Bad", (_Good,), methods)


BAD = [
    (_with(forward=lambda self, losses: self.weights() * losses), "its total is not one finite number"),
    (_with(forward=lambda self, losses: (self.weights() * losses).sum() / 0), "its total is not one finite number"),
    (_with(forward=lambda self, losses: losses.sum().detach()), "lets no gradient through"),
    (_with(forward=lambda self, losses: losses.sum()), "lets no finite gradient through to theta"),
    (_with(weights=lambda self: self.theta[:3].exp(), forward=lambda self, losses: (self.theta.exp() * losses).sum()),
     "its weights are not one finite number ≥ 0 a map"),
    (_with(weights=lambda self: -torch.exp(self.theta)), "its weights are not one finite number ≥ 0 a map"),
    (_with(active=lambda self: (True, *[False] * 6)), "active\\(\\) skips maps that have weight"),
    (_with(state_dict=lambda self: _Good.state_dict(self) | {"theta": torch.ones(7)}), "differs after its state_dict"),
    (_with(weights=lambda self: torch.exp(self.theta)), "maps that were dropped still weigh"),
]  # fmt: skip


def test_a_good_one_passes(table: None) -> None:
    weighting("mine")(_Good)
    check_weighting("mine")


@pytest.mark.parametrize(("kind", "fault"), BAD)
def test_a_bad_one_is_told_what_is_wrong(kind: type[Weighting], fault: str, table: None) -> None:
    weighting("mine")(kind)
    with pytest.raises(WeightingFault, match=f'weighting "mine":? {fault}'):
        check_weighting("mine")
