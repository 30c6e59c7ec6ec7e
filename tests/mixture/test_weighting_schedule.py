"""Weightings on a schedule: what they weigh at each point of a training, against their formulas."""

import pytest
import torch

from lomix_search.errors import LossError
from lomix_search.mixture.maps import Map
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Anneal, build_weighting

MAPS = tuple(SearchSpace.load("mutation").maps(3))  # 3 originals, 4 sums


def test_anneal_goes_from_uniform_to_the_finest_and_keeps_its_sum() -> None:
    built = Anneal(MAPS, start=0.2, until=0.6)
    for progress, moved in [(0.0, 0.0), (0.2, 0.0), (0.3, 0.25), (0.5, 0.75), (0.6, 1.0), (1.0, 1.0)]:
        built.advance(progress)
        expected = torch.full((7,), 1 - moved)
        expected[2] += 7 * moved
        torch.testing.assert_close(built.weights(), expected)
        assert built.active() == ((False, False, True, False, False, False, False) if moved == 1 else (True,) * 7)
    again = Anneal(MAPS, start=0.2, until=0.6)
    again.load_state_dict(built.state_dict())
    assert again.active() == built.active() and torch.equal(again.weights(), built.weights())
    cosine = Anneal(MAPS, until=1.0, shape="cosine")
    cosine.advance(0.25)
    assert float(cosine.weights()[0]) == pytest.approx(1 - (1 - 0.5**0.5) / 2)


def test_anneal_may_go_over_at_once() -> None:
    built = Anneal(MAPS, start=0.5, until=0.5)
    for progress, over in [(0.0, False), (0.2, False), (0.5, True), (1.0, True)]:
        built.advance(progress)
        assert sum(built.active()) == (1 if over else 7)
        assert float(built.weights()[2]) == (7.0 if over else 1.0)


def test_anneal_starts_from_given_weights_and_keeps_their_sum() -> None:
    given = (0.0, 1.0, 2.0, 0.5, 0.0, 0.0, 0.5)
    built = Anneal(MAPS, given=given, until=1.0)
    torch.testing.assert_close(built.weights(), torch.tensor(given))
    built.advance(0.5)
    torch.testing.assert_close(built.weights(), torch.tensor([0.0, 0.5, 1.0 + 2.0, 0.25, 0.0, 0.0, 0.25]))
    with pytest.raises(LossError, match=r"Anneal has 2 weights; these are 7 maps."):
        Anneal(MAPS, given=(1.0, 1.0))


def test_anneal_may_start_from_maps_that_are_drawn() -> None:
    maps = tuple(SearchSpace.load("lomix").maps(4))
    drawn = build_weighting("anneal", maps, {"draw": 8, "seed": 3})
    again, other = (build_weighting("anneal", maps, {"draw": 8, "seed": seed}).weights() for seed in (3, 4))
    assert drawn.weights().sum() == 8 and drawn.weights()[maps.index(Map("original", (4,)))] == 1
    assert torch.equal(drawn.weights(), again) and not torch.equal(again, other)
    assert sum(drawn.active()) == 8  # the other forty cost nothing
    drawn.advance(1.0)
    assert sum(drawn.active()) == 1
    with pytest.raises(LossError, match="draw = 49 of 48 maps"):
        build_weighting("anneal", maps, {"draw": 49})
    with pytest.raises(LossError, match="not both"):
        build_weighting("anneal", maps, {"draw": 8, "given": [1.0] * 48})


def test_halving_is_what_nnunet_does() -> None:
    maps = tuple(SearchSpace.load("deep_supervision").maps(4))
    by_scale = {m.scales[0]: w for m, w in zip(maps, build_weighting("halving", maps).weights().tolist(), strict=True)}
    assert by_scale == pytest.approx({1: 0, 2: 4 / 7, 3: 8 / 7, 4: 16 / 7})
    alone = tuple(SearchSpace.load("last_layer").maps(4))
    assert build_weighting("halving", alone).weights().tolist() == [1]


def test_anneal_needs_the_finest_original() -> None:
    with pytest.raises(LossError, match=r"needs the finest original, P3, among the maps\.\n  Seen: P1, P2, add\(1,3\)"):
        Anneal((MAPS[0], MAPS[1], MAPS[4]))
    with pytest.raises(LossError, match=r"until = 0.1 lies before start = 0.5"):
        Anneal(MAPS, start=0.5, until=0.1)
