"""The weighting lookahead alone: what it makes of the slopes that it is told."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Lookahead

MAPS = tuple(SearchSpace.load("mutation").maps(3))


@pytest.mark.parametrize("normalize", ["norm", "spread", "none"])
def test_weights_follow_the_slopes_and_keep_their_sum(normalize: Any) -> None:
    weighting = Lookahead(MAPS, rate=10, normalize=normalize, until=1)
    torch.testing.assert_close(weighting.weights(), torch.ones(7))
    slopes = torch.tensor([-1.0, 0.0, 0.5, 1.0, -0.5, 0.2, 0.1])
    for i in range(20):
        weighting.advance(i / 20)
        weighting.learn(slopes, torch.full((7,), 1.0 if i % 2 else -1.0))
    weights = weighting.weights()
    assert weights.sum() == pytest.approx(7) and weights.argmax() == 3 and weights.argmin() == 0
    assert torch.equal(weights.argsort(), slopes.argsort())
    assert not list(weighting.parameters())
    again = Lookahead(MAPS, rate=10, normalize=normalize)
    again.load_state_dict(weighting.state_dict())
    for one in (again, weighting):
        one.advance(1)
        one.learn(slopes, slopes)
    assert torch.equal(again.weights(), weighting.weights())


def trained(looks: int, slopes: Tensor, **settings: Any) -> Lookahead:
    """A weighting at the end of a training in which every look saw the same."""
    weighting = Lookahead(MAPS, normalize="none", **settings)
    for i in range(looks + 1):
        weighting.advance(i / looks)
        weighting.learn(slopes)
    return weighting


def test_the_weights_at_the_end_depend_on_the_slopes_alone() -> None:
    """Not on how long training was, nor on how often it looked."""
    slopes = torch.tensor([0.0, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0])
    few, many = trained(5, slopes, rate=12.0), trained(500, slopes, rate=12.0)
    torch.testing.assert_close(few.weights(), many.weights())
    torch.testing.assert_close(few.weights(), 7 * torch.softmax(12 * slopes, 0))


def test_a_resumed_run_that_got_longer_goes_on_from_its_weights() -> None:
    weighting = trained(5, torch.tensor([0.0, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0]), rate=12.0)
    before = weighting.weights()
    for progress in (0.5, 0.5):  # half of a training twice as long
        weighting.advance(progress)
        weighting.learn(torch.zeros(7))
        assert torch.equal(weighting.weights(), before)


def test_norms_make_large_gradients_count_like_small_ones() -> None:
    weighting = Lookahead(MAPS, normalize="norm")
    cosines = torch.tensor([0.1, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7])
    norms = torch.tensor([1.0, 30.0, 0.1, 5.0, 2.0, 1.0, 10.0])
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        weighting.smoothing = 0.99
        weighting.learn(cosines * norms, norms * torch.randn(7, generator=generator))
    assert torch.equal(weighting.scores().argsort(), cosines.argsort())
    torch.testing.assert_close(weighting.scores(), cosines, rtol=0.25, atol=0)


def test_the_finest_may_hold_a_weight_of_its_own() -> None:
    weighting = trained(30, torch.tensor([0.0, 0.0, 9.0, 1.0, 0.0, 0.0, -1.0]), rate=20.0, finest=0.4)
    weights = weighting.weights() / 7
    assert weights[2] == pytest.approx(0.4) and weights[3] == pytest.approx(0.6, abs=1e-3)
    weighting.keep({"P3"})
    torch.testing.assert_close(weighting.weights(), torch.tensor([0, 0, 7.0, 0, 0, 0, 0]))


def test_decay_bounds_the_weights_and_rate_0_only_measures() -> None:
    slopes = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    weighting = trained(2000, slopes, rate=20.0, decay=20.0)
    torch.testing.assert_close(weighting.weights(), 7 * torch.softmax(slopes, 0), rtol=0.01, atol=0)
    still = trained(5, slopes, rate=0.0)
    torch.testing.assert_close(still.weights(), torch.ones(7))
    torch.testing.assert_close(still.scores(), slopes)


def test_slopes_that_are_not_finite_count_for_nothing() -> None:
    weighting = trained(1, torch.tensor([float("nan"), float("inf"), 0.1, 0.0, 0.0, 0.0, 0.0]))
    assert torch.isfinite(weighting.weights()).all() and weighting.weights().argmax() == 2


def test_lookahead_needs_the_finest_original() -> None:
    with pytest.raises(LossError, match='weighting "lookahead" needs the finest original, P3'):
        Lookahead(MAPS[:2] + MAPS[4:])
