"""``MixtureLoss`` in every shape it takes, its state, its settings, and mixtures that are trained again."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.mixture_losses import ENGINE_NAMES, build, sample, taken
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError, SpaceError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import OPERATORS, operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed


def gradients(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss(maps, labels), [*maps, *loss.parameters()]))


# -- what it computes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [(7,), (6, 5), (4, 3, 5)])
def test_any_rank_of_classes_and_sizes(size: tuple[int, ...], classes: int, engine: str) -> None:
    maps, labels = sample(size, classes)
    loss = build(num_classes=classes, engine=engine)
    step = taken(loss, maps, labels)
    assert step.per_map.shape == step.weights.shape == (19,)
    assert not step.per_map.requires_grad
    assert not step.weights.requires_grad
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients(loss, maps, labels))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    resized = [F.interpolate(m, size, mode=mode, align_corners=False) for m in maps]
    torch.testing.assert_close(loss(resized, labels), step.total)
    torch.testing.assert_close(loss(torch.stack(resized), labels[:, None]), step.total)


def test_last_layer_is_plain_cross_entropy_plus_dice() -> None:
    maps, labels = sample()
    total = build(space="last_layer", weighting="uniform", ce=2.0, dice=0.5)(maps, labels)
    p, y = maps[-1].softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    dice = 1 - (2 * (p * y).sum((0, 2, 3)) + 1e-5) / ((p * p).sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1e-5)
    torch.testing.assert_close(total, 2 * F.cross_entropy(maps[-1], labels) + 0.5 * dice.mean())


def test_binary_is_bce_plus_foreground_dice() -> None:
    maps, labels = sample(classes=1)
    total = build(space="last_layer", num_classes=1, weighting="uniform")(maps, labels)
    p, y = maps[-1][:, 0].sigmoid(), labels.double()
    dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + y.sum() + 1e-5)
    torch.testing.assert_close(total, 0.3 * F.binary_cross_entropy(p, y) + 0.7 * dice)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_count_nowhere_whatever_they_hold(classes: int, engine: str) -> None:
    maps, labels = sample((4, 6), classes, num_maps=2)
    maps = [torch.randn(2, classes, 4, 6, dtype=torch.float64) for _ in range(2)]
    loss = build(num_maps=2, num_classes=classes, ignore_index=255, engine=engine)
    kept = taken(loss, [m[..., :4] for m in maps], labels[..., :4])
    labels[..., 4:] = 255
    for m in maps:
        m[..., 4:] = torch.nan
        m.requires_grad_()
    step = taken(loss, maps, labels)
    torch.testing.assert_close(step.total, kept.total)
    torch.testing.assert_close(step.per_map, kept.per_map)
    for g in gradients(loss, maps, labels)[:2]:
        assert g.isfinite().all()
        assert (g[..., 4:] == 0).all()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_all_pixels_ignored(classes: int, engine: str) -> None:
    maps, labels = sample(classes=classes)
    loss = build(num_classes=classes, ignore_index=-100, engine=engine)
    labels.fill_(-100)
    assert torch.equal(taken(loss, maps, labels).per_map, torch.zeros(19, dtype=torch.float64))
    assert all((g == 0).all() for g in gradients(loss, maps, labels))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_weights_of_zero_skip_their_maps(engine: str) -> None:
    maps, labels = sample()
    ids = build().map_ids
    chosen = [0.0 if name.startswith("mul") or name == "P1" else 0.5 + i for i, name in enumerate(ids)]
    full = taken(build(engine="reference"), maps, labels)
    loss = build(weighting=Fixed(build().maps, chosen), engine=engine)
    step = taken(loss, maps, labels)
    skipped = torch.tensor(chosen) == 0
    assert step.per_map[skipped].isnan().all()
    torch.testing.assert_close(step.per_map[~skipped], full.per_map[~skipped])
    expected = (torch.tensor(chosen, dtype=torch.float64) * full.per_map).sum()
    torch.testing.assert_close(step.total.detach(), expected)
    assert loss.culprits() == ()


@pytest.mark.parametrize("bad", [0.0, float("nan")])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_original_that_no_map_has_gets_a_gradient_of_nothing(engine: str, bad: float) -> None:
    """DistributedDataParallel waits for one of every head."""
    maps, labels = sample()
    maps = [one.detach().clone().requires_grad_() for one in maps]
    with torch.no_grad():
        maps[0].view(-1)[0] = bad
    total = MixtureLoss("last_layer", 3, 3, engine=engine)(maps, labels)
    total.backward()
    assert total.isfinite() and maps[2].grad is not None and maps[2].grad.any()
    assert all(one.grad is not None and not one.grad.any() for one in maps[:2])


def test_operators_are_keyed_as_the_maps_say_and_shared() -> None:
    loss = build()
    concat = ["concat(1,2)", "concat(1,3)", "concat(2,3)", "concat(1,2,3)"]
    assert list(loss.operators) == ["attention[2]", "attention[3]", *concat]
    assert {m.parameters for m in loss.maps} - {None} == set(loss.operators)


def test_any_other_loss_takes_the_reference_path() -> None:
    maps, labels = sample()
    loss = build(loss=lambda logits, truth: F.cross_entropy(logits, truth, label_smoothing=0.1))
    step = taken(loss, maps, labels)
    resized = F.interpolate(maps[0], (6, 5), mode="bilinear")
    torch.testing.assert_close(step.per_map[0], F.cross_entropy(resized, labels, label_smoothing=0.1).detach())
    assert all(g is not None for g in gradients(loss, maps, labels))


def test_an_operator_of_the_user_works_in_every_engine() -> None:
    try:

        @operator("geometric", symmetric=True)
        def geometric(*maps: Tensor) -> Tensor:
            return torch.stack(maps).mean(0).tanh()

        space = SearchSpace(operator=({"name": "geometric"}, {"name": "add"}, {"name": "concat"}))  # type: ignore[arg-type]
        maps, labels = sample()
        expected = build(space=space, engine="reference")
        for engine in ENGINE_NAMES:
            loss = build(space=space, engine=engine)
            torch.testing.assert_close(taken(loss, maps, labels), taken(expected, maps, labels))
            torch.testing.assert_close(gradients(loss, maps, labels), gradients(expected, maps, labels))
    finally:
        OPERATORS.pop("geometric", None)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_half_precision_maps_are_summed_in_float32(dtype: torch.dtype, engine: str) -> None:
    maps, labels = sample()
    half = [(m.detach() * 30).to(dtype).requires_grad_() for m in maps]
    loss = build(engine=engine).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = taken(loss, half, labels)
    expected = taken(build(engine="reference"), [m.detach().double() for m in half], labels)
    torch.testing.assert_close(step.per_map.double(), expected.per_map, rtol=1e-4, atol=1e-5)
    assert all(g.dtype == dtype and g.isfinite().all() for g in torch.autograd.grad(step.total, half))


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["copy", "pickle"]
)
def test_copies_compute_the_same_on_parameters_of_their_own(again: Callable[[MixtureLoss], MixtureLoss]) -> None:
    maps, labels = sample()
    loss = build(weighting=Fixed(build().maps, [0.0, *range(1, 19)]))
    copied = again(loss)
    torch.testing.assert_close(taken(copied, maps, labels), taken(loss, maps, labels), rtol=0, atol=0, equal_nan=True)
    ours = {p.data_ptr() for p in loss.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in copied.parameters())


def test_state_dict_holds_what_is_learned() -> None:
    maps, labels = sample()
    loss = build()
    with torch.no_grad():
        loss.weighting.theta.normal_()
    torch.manual_seed(5)
    other = MixtureLoss("lomix", 3, 3).double()
    assert not torch.equal(other(maps, labels), loss(maps, labels))
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(maps, labels), loss(maps, labels))
    assert set(loss.state_dict()) == {name for name, _ in loss.named_parameters()} | {"weighting.kept"}


def test_it_says_what_it_is() -> None:
    assert 'space="lomix" of 19 maps, num_maps=3, num_classes=3, ce=0.3, dice=0.7, ignore_index=255' in repr(
        build(ignore_index=255)
    )


# -- bad settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_culprits_are_the_maps_that_hold_the_bad_original(bad: float, engine: str) -> None:
    maps, labels = sample()
    with torch.no_grad():
        maps[1][0, 0] = bad
    loss = build(engine=engine)
    step = taken(loss, maps, labels)
    step.total.backward()
    assert not step.total.isfinite()
    assert loss.culprits() == tuple(m.id for m in loss.maps if 2 in m.scales)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; at least 1 is needed (1 means binary)."),
        ({"ce": -1.0}, "ce is -1.0 and dice is 0.7; both must be ≥ 0 and finite, and one of them > 0."),
        ({"ce": 0, "dice": 0}, "ce is 0 and dice is 0; both must be ≥ 0 and finite, and one of them > 0."),
        ({"engine": "refrence"}, 'engine "refrence": unknown. Nearest: "reference". Known: auto, '),
        ({"weighting": "equal"}, 'weighting "equal": unknown. Known: '),
        ({"space": SearchSpace(include=("x",))}, 'Space "custom" has no map for 3 stages.'),
    ],
)
def test_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(LossError) as caught:
        build(**settings)
    assert str(caught.value).startswith(message)


def test_a_space_that_does_not_fit() -> None:
    with pytest.raises(SpaceError, match=r"operator\[0\].sizes = \[4\]: this network has 3 stages."):
        build(space=SearchSpace(operator=({"name": "add", "sizes": (4,)},)))  # type: ignore[arg-type]


def test_a_mixture_holds_weights_and_operators_and_trains_again(tmp_path: Path) -> None:
    loss = MixtureLoss("lomix", 3, 4)
    with torch.no_grad():
        loss.weighting.theta.copy_(torch.linspace(-2, 2, 19))
    loss.mixture().save(tmp_path / "mixture.json")
    mixture = Mixture.load(tmp_path / "mixture.json")
    assert mixture.weighting == "softplus" and list(mixture.weights) == list(loss.map_ids)
    maps, labels = [torch.randn(2, 4, 8, 8) for _ in range(3)], torch.randint(0, 4, (2, 8, 8))
    again = MixtureLoss.from_mixture(mixture, trained_operators=True)
    torch.testing.assert_close(again(maps, labels), loss(maps, labels))
    pruned = MixtureLoss.from_mixture(mixture.prune(top=5))
    assert len(pruned.maps) == 5 and "P3" in pruned.map_ids
    assert pruned.mixture().weights == mixture.prune(top=5).weights


def test_the_maps_of_a_mixture_are_trained_with_any_weighting() -> None:
    found = MixtureLoss("lomix", 3, 4).mixture().prune(top=5)
    begun = MixtureLoss.from_mixture(found, weighting="anneal", settings={"until": 1.0})
    auto = MixtureLoss.from_mixture(found, weighting="auto")
    assert auto.mixture().weighting == "anneal" and auto.mixture().weights == begun.mixture().weights
    assert begun.map_ids == MixtureLoss.from_mixture(found).map_ids and len(begun.map_ids) == 5
    torch.testing.assert_close(begun.weighting.weights(), MixtureLoss.from_mixture(found).weighting.weights())
    anew = MixtureLoss.from_mixture(found, weighting="softplus")
    assert len(list(anew.weighting.parameters())) == 1 and anew.map_ids == begun.map_ids


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_products_that_explode_do_not_in_the_bounded_space(engine: str) -> None:
    """Every engine takes the operator; logits of 1e4 make losses of that size instead of 1e12."""
    maps, labels = sample(num_maps=3)
    large = [(1e4 * one.detach()).requires_grad_() for one in maps]
    bounded, plain = (build(space=name, engine=engine) for name in ("bounded", "lomix"))
    step = taken(bounded, large, labels)
    found = dict(zip(bounded.map_ids, step.per_map.tolist(), strict=True))
    before = dict(zip(plain.map_ids, taken(plain, large, labels).per_map.tolist(), strict=True))
    assert found["bounded_product(1,2,3)"] < 1e5 < 1e9 < before["mul(1,2,3)"]
    expected = taken(build(space="bounded", engine="reference"), large, labels)
    torch.testing.assert_close(step.per_map, expected.per_map, rtol=1e-9, atol=1e-9)
    assert all(g.isfinite().all() for g in gradients(bounded, large, labels))
