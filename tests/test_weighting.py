"""Weightings turn m losses into one total; each is held against its formula."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.space import Map, SearchSpace
from lomix_search.weighting import WEIGHTINGS, Fixed, Softplus, Weighting, build_weighting, random, uniform, weighting

MAPS = tuple(SearchSpace.load("mutation").maps(3))  # 3 originals, 4 sums
BUILT = [Softplus(MAPS), uniform(MAPS), random(MAPS), Fixed(MAPS, [1, 0, 2.5, 0, 0, 3, 1])]


def names(built: Weighting) -> str:
    return type(built).__name__


@pytest.mark.parametrize("built", BUILT, ids=names)
def test_every_weighting_keeps_the_interface(built: Weighting) -> None:
    losses = torch.rand(len(MAPS), dtype=torch.float64, requires_grad=True)
    total = built(losses)
    assert total.shape == ()
    assert total.dtype == losses.dtype
    assert built.weights().shape == (len(MAPS),)
    assert (built.weights() >= 0).all()
    assert built.map_ids == tuple(m.id for m in MAPS)
    assert len(built.active()) == len(MAPS)
    torch.testing.assert_close(total, (built.weights().double() * losses).sum())
    total.backward()
    torch.testing.assert_close(losses.grad, built.weights().detach().double())
    for again in (copy.deepcopy(built), pickle.loads(pickle.dumps(built))):
        assert torch.equal(again.weights(), built.weights())
        assert again.active() == built.active()


def test_softplus_is_the_papers() -> None:
    built = Softplus(MAPS).double()
    assert torch.equal(built.theta, torch.zeros(7, dtype=torch.float64))
    torch.testing.assert_close(built.weights(), torch.full((7,), 2.0, dtype=torch.float64).log())
    with torch.no_grad():
        built.theta.copy_(torch.linspace(-3, 3, 7))
    losses = torch.rand(7, dtype=torch.float64)
    built(losses).backward()
    torch.testing.assert_close(built.theta.grad, torch.sigmoid(built.theta.detach()) * losses)


def test_random_draws_are_seeded_and_add_up_to_the_number_of_maps() -> None:
    before = torch.get_rng_state()
    assert torch.equal(random(MAPS, seed=1).weights(), random(MAPS, seed=1).weights())
    assert not torch.equal(random(MAPS, seed=1).weights(), random(MAPS, seed=2).weights())
    torch.testing.assert_close(random(MAPS).weights().sum(), torch.tensor(7.0))
    assert torch.equal(before, torch.get_rng_state())
    assert all(random(MAPS).active())


def test_fixed_skips_weights_of_zero_also_when_loaded() -> None:
    built = uniform(MAPS)
    built.load_state_dict(BUILT[3].state_dict())
    assert built.active() == BUILT[3].active() == (True, False, True, False, False, True, True)
    assert not list(built.parameters())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"Fixed has 1 weights; these are 7 maps.\n  Seen: P1, P2, P3, add\(1,2\), add\(1,3\), … \(7\)"),
        ([1, 1, 1, -1, 1, 1, float("nan")], r"Fixed has 2 .*\n  Seen: add\(1,2\): -1.0\n        add\(1,2,3\): nan"),
        ([0] * 7, "Fixed has only weights of 0; nothing would be trained."),
    ],
)
def test_fixed_refuses_weights_that_do_not_fit(weights: list[float], message: str) -> None:
    with pytest.raises(LossError, match=message):
        Fixed(MAPS, weights)


def test_by_name() -> None:
    assert isinstance(build_weighting("softplus", MAPS), Softplus)
    assert torch.equal(build_weighting("uniform", MAPS).weights(), torch.ones(7))
    assert build_weighting(BUILT[0], MAPS) is BUILT[0]
    with pytest.raises(LossError) as caught:
        build_weighting("softplsu", MAPS)
    assert str(caught.value) == (
        'weighting "softplsu": unknown. Nearest: "softplus". Known: fixed, random, softplus, uniform.'
    )
    with pytest.raises(LossError) as caught:
        build_weighting("fixed", MAPS)
    assert str(caught.value) == (
        'weighting "fixed" needs the 7 weights.\n'
        "  Try:  from lomix_search.weighting import Fixed\n"
        "        MixtureLoss(…, weighting=Fixed(maps, weights))"
    )


def test_a_weighting_for_other_maps_is_refused() -> None:
    with pytest.raises(LossError) as caught:
        build_weighting(BUILT[0], MAPS[:2])
    assert str(caught.value) == (
        "Softplus was built for 7 other maps; this loss has 2.\n"
        "  Seen: weighting: P1, P2, P3, add(1,2), add(1,3), … (7)\n"
        "        loss:      P1, P2\n"
        "  Try:  Softplus(tuple(space.maps(num_maps)), …)"
    )


def test_registering_one_of_your_own() -> None:
    with pytest.raises(LossError, match=r'weighting\("softplus"\) exists already.'):
        weighting("softplus")
    try:

        @weighting("finest")
        class Finest(Weighting):
            def weights(self) -> Tensor:
                return torch.tensor([float(m == Map("original", (3,))) for m in MAPS])

        assert build_weighting("finest", MAPS)(torch.arange(7.0)) == 2
    finally:
        WEIGHTINGS.pop("finest", None)
