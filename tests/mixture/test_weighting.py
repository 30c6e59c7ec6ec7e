"""Weightings turn m losses into one total; each is held against its formula."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.maps import Map
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import (
    RECOMMENDED,
    WEIGHTINGS,
    Anneal,
    Fixed,
    Normalized,
    Softplus,
    Uncertainty,
    Weighting,
    build_weighting,
    random_weights,
    uniform_weights,
    weighting,
    weighting_faults,
)

MAPS = tuple(SearchSpace.load("mutation").maps(3))  # 3 originals, 4 sums
BUILT = [
    Softplus(MAPS),
    uniform_weights(MAPS),
    random_weights(MAPS),
    Fixed(MAPS, [1, 0, 2.5, 0, 0, 3, 1]),
    Anneal(MAPS),
]


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
    assert torch.equal(random_weights(MAPS, seed=1).weights(), random_weights(MAPS, seed=1).weights())
    assert not torch.equal(random_weights(MAPS, seed=1).weights(), random_weights(MAPS, seed=2).weights())
    torch.testing.assert_close(random_weights(MAPS).weights().sum(), torch.tensor(7.0))
    assert torch.equal(before, torch.get_rng_state())
    assert all(random_weights(MAPS).active())


def test_fixed_skips_weights_of_zero_also_when_loaded() -> None:
    built = uniform_weights(MAPS)
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
        'weighting "softplsu": unknown. Nearest: "softplus". Known: anneal, auto, fixed, halving, lookahead, '
        "normalized, random, softplus, torchjd:…, uncertainty, uniform.\n"
        '  Try:  weighting="softplus"'
    )
    with pytest.raises(LossError) as caught:
        build_weighting("fixed", MAPS)
    assert str(caught.value) == (
        'weighting "fixed" needs the 7 weights.\n'
        "  Try:  from lomix_search.mixture.weighting import Fixed\n"
        "        MixtureLoss(…, weighting=Fixed(maps, weights))"
    )


def test_auto_is_the_recommended_one_under_its_own_name() -> None:
    built = build_weighting("auto", MAPS)
    assert built.name == RECOMMENDED and type(built) is WEIGHTINGS[RECOMMENDED]
    assert weighting_faults("auto", {"until": 0.3}) == ["until: unknown; auto has no settings."]


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


# -- learned -----------------------------------------------------------------------------------------------------------

LOSSES = torch.tensor([0.9, 0.5, 0.2, 0.7, 0.4, 0.3, 0.6], dtype=torch.float64)


def settled(built: Weighting) -> Tensor:
    """Minimise the total over the weighting's own parameters at constant losses."""
    optimizer = torch.optim.LBFGS(
        built.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = built(LOSSES)
        total.backward()
        return total

    optimizer.step(closure)
    return built.weights().detach()


@pytest.mark.parametrize("form", ["exp", "softplus"])
def test_uncertainty_settles_at_one_over_the_loss(form: str) -> None:
    built = Uncertainty(MAPS, form).double()
    start = {"exp": 1.0, "softplus": 0.6931471805599453}[form]
    torch.testing.assert_close(built.weights(), torch.full((7,), start, dtype=torch.float64))
    torch.testing.assert_close(settled(built), 1 / LOSSES, rtol=1e-6, atol=0)
    expected = (built.weights() * LOSSES - built.weights().log()).sum()
    torch.testing.assert_close(built(LOSSES), expected)


def test_normalized_is_its_formula_with_its_gradient() -> None:
    built = Normalized(MAPS, entropy=0.3).double()
    torch.testing.assert_close(built.weights(), Softplus(MAPS).double().weights())  # it starts where the paper does
    with torch.no_grad():
        built.theta.copy_(torch.linspace(-2, 2, 7))
    total = 7 * torch.tensor(2.0, dtype=torch.float64).log()
    positive = torch.nn.functional.softplus(built.theta.detach())
    p = positive / positive.sum()
    value = built(LOSSES)
    torch.testing.assert_close(value, total * ((p * LOSSES).sum() + 0.3 * (p * p.log()).sum()))
    value.backward()
    a = LOSSES + 0.3 * p.log()
    slope = total * torch.sigmoid(built.theta.detach()) / positive.sum() * (a - (p * a).sum())
    torch.testing.assert_close(built.theta.grad, slope)


@pytest.mark.parametrize("total", [None, 1.0])
def test_normalized_settles_at_the_softmax_of_the_losses_and_keeps_its_sum(total: float | None) -> None:
    built = Normalized(MAPS, entropy=0.3, total=total).double()
    wanted = total or 7 * 0.6931471805599453
    torch.testing.assert_close(settled(built), wanted * torch.softmax(-LOSSES / 0.3, 0), rtol=1e-6, atol=0)
    assert float(built.weights().detach().sum()) == pytest.approx(wanted, abs=1e-9)


def test_without_entropy_normalized_ends_on_the_easiest_map() -> None:
    weights = settled(Normalized(MAPS, entropy=0.0, total=1.0).double())
    assert weights.argmax() == LOSSES.argmin() and weights.max() > 0.95


@pytest.mark.parametrize("kind", [Normalized, Uncertainty])
def test_the_terms_of_a_weighting_do_not_touch_the_network(kind: type[Weighting]) -> None:
    built = kind(MAPS).double()
    losses = LOSSES.clone().requires_grad_()
    built(losses).backward()
    torch.testing.assert_close(losses.grad, built.weights().detach())


# -- dropping maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [*BUILT, Normalized(MAPS), Uncertainty(MAPS)], ids=names)
def test_dropped_maps_weigh_nothing_and_stay_dropped(built: Weighting) -> None:
    built = copy.deepcopy(built)
    before = built.weights().sum()
    built.keep({"P1", "P3", "add(1,2)"})
    built.keep({"P1", "P3", "add(1,2)", "add(1,3)"})  # what is gone stays gone
    assert not any(built.active()[i] for i in (1, 4, 5, 6)) and built.active()[2]
    assert built.weights()[[1, 4, 5, 6]].abs().sum() == 0
    if isinstance(built, Normalized):
        torch.testing.assert_close(built.weights().sum(), before)
    losses = torch.rand(7).where(torch.tensor(built.active()), 0.0)
    assert torch.isfinite(built(losses))
    again = copy.deepcopy(built)
    again.keep({"P3"})
    again.load_state_dict(built.state_dict())
    assert again.active() == built.active()
    with pytest.raises(LossError, match="no map would be left"):
        built.keep({"add(1,3)"})


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_by_name() -> None:
    built = build_weighting("anneal", MAPS, {"until": 1, "shape": "cosine"})
    assert isinstance(built, Anneal) and (built.until, built.shape, built.start) == (1.0, "cosine", 0.0)
    assert torch.equal(build_weighting("random", MAPS, {"seed": 3}).weights(), random_weights(MAPS, seed=3).weights())


def test_every_fault_of_the_settings_at_once() -> None:
    with pytest.raises(LossError) as caught:
        build_weighting("normalized", MAPS, {"entropi": 1, "total": -1})
    assert str(caught.value) == (
        'weighting "normalized" has 2 faults.\n'
        "  total = -1: more than 0 is needed.\n"
        '  entropi: unknown. Nearest: "entropy". Known: entropy, lr, total.\n'
        "  Try:  normalized: entropy=0.5, lr=0.02   # its own"
    )
    assert weighting_faults("softplus", {"lr": 1}) == ["lr: unknown; softplus has no settings."]


# -- TorchJD -----------------------------------------------------------------------------------------------------------


def test_an_unknown_scalarizer_is_named() -> None:
    assert weighting_faults("torchjd:Means", {})[0].startswith(
        "name = 'torchjd:Means': unknown scalarizer. Nearest: \"Mean\""
    )


@pytest.mark.parametrize("member", ["DWA", "GeometricMean", "IMTLL", "Mean", "Random", "Sum", "UW"])
def test_torchjd_scalarizers_are_weightings(member: str) -> None:
    scalarization = pytest.importorskip("torchjd.scalarization")
    built = build_weighting(f"torchjd:{member}", MAPS)
    kind = getattr(scalarization, member)
    losses = torch.rand(7, requires_grad=True)
    plain = kind(7) if member in ("UW", "IMTLL") else kind()
    torch.manual_seed(1)
    total = built(losses)
    torch.manual_seed(1)
    torch.testing.assert_close(total, plain(losses))
    total.backward()
    torch.testing.assert_close(built.weights(), losses.grad)
    assert built.name == f"torchjd:{member}"


def test_a_scalarizer_with_memory_resumes_as_it_was() -> None:
    pytest.importorskip("torchjd")
    torch.manual_seed(0)
    seen = torch.rand(12, 7)
    whole, cut = (
        build_weighting("torchjd:DWA", MAPS, {"epochs": 6}),
        build_weighting("torchjd:DWA", MAPS, {"epochs": 6}),
    )
    for i, losses in enumerate(seen):
        if i == 7:
            state = copy.deepcopy(cut.state_dict())
            cut = build_weighting("torchjd:DWA", MAPS, {"epochs": 6})
            cut.load_state_dict(state)
        for built in (whole, cut):
            built.advance(i / 12)
            built(losses.requires_grad_())
    assert torch.equal(whole.weights(), cut.weights())
    assert whole.weights().std() > 1e-3  # it has begun to weigh


# -- nothing is not everything -----------------------------------------------------------------------------------------


def test_weights_given_as_nothing_are_not_taken_for_equal_ones() -> None:
    for nothing in ((), []):
        with pytest.raises(LossError, match="Anneal has 0 weights; these are"):
            Anneal(MAPS, given=nothing)  # type: ignore[arg-type]
    assert torch.equal(Anneal(MAPS, given=torch.arange(1.0, 1 + len(MAPS))).weights(), torch.arange(1.0, 1 + len(MAPS)))


def test_weights_that_float32_cannot_hold_are_refused() -> None:
    for wrong, message in ((1e39, "negative or not finite"), (float("nan"), "negative or not finite"),
                           (1e-60, "only weights of 0")):  # fmt: skip
        with pytest.raises(LossError, match=message):
            Fixed(MAPS, [wrong] * len(MAPS))
    held = Fixed(MAPS, [1.0, *[1e-60] * (len(MAPS) - 1)])
    assert held.active() == (True, *[False] * (len(MAPS) - 1))  # what is 0 there is not computed either


def test_keeping_maps_that_are_not_there_is_refused() -> None:
    built = build_weighting("uniform", MAPS)
    with pytest.raises(LossError, match='weighting "uniform" has no such maps'):
        built.keep({MAPS[0].id, "P99"})
    with pytest.raises(LossError, match="no map would be left"):
        built.keep([])
    built.keep(MAPS[0].id)  # a name is one name, not its letters
    assert built.active() == (True, *[False] * (len(MAPS) - 1))


@pytest.mark.parametrize("wrong", [None, 3, Fixed, {"name": "softplus"}])
def test_what_is_no_weighting_is_refused(wrong: object) -> None:
    with pytest.raises(LossError, match="needed: a name or a Weighting built for the maps"):
        build_weighting(wrong, MAPS)  # type: ignore[arg-type]
