"""``MixtureLoss`` in every shape it takes, its state, and each of its errors in full."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError, SpaceError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import OPERATORS, operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed

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


def gradients(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss(maps, labels).total, [*maps, *loss.parameters()]))


# -- what it computes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [(7,), (6, 5), (4, 3, 5)])
def test_any_rank_of_classes_and_sizes(size: tuple[int, ...], classes: int, engine: str) -> None:
    maps, labels = sample(size, classes)
    loss = build(num_classes=classes, engine=engine)
    step = loss(maps, labels)
    assert step.per_map.shape == step.weights.shape == (19,)
    assert not step.per_map.requires_grad
    assert not step.weights.requires_grad
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients(loss, maps, labels))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    resized = [F.interpolate(m, size, mode=mode, align_corners=False) for m in maps]
    torch.testing.assert_close(loss(resized, labels).total, step.total)
    torch.testing.assert_close(loss(torch.stack(resized), labels[:, None]).total, step.total)


def test_last_layer_is_plain_cross_entropy_plus_dice() -> None:
    maps, labels = sample()
    total = build(space="last_layer", weighting="uniform", ce=2.0, dice=0.5)(maps, labels).total
    p, y = maps[-1].softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    dice = 1 - (2 * (p * y).sum((0, 2, 3)) + 1e-5) / ((p * p).sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1e-5)
    torch.testing.assert_close(total, 2 * F.cross_entropy(maps[-1], labels) + 0.5 * dice.mean())


def test_binary_is_bce_plus_foreground_dice() -> None:
    maps, labels = sample(classes=1)
    total = build(space="last_layer", num_classes=1, weighting="uniform")(maps, labels).total
    p, y = maps[-1][:, 0].sigmoid(), labels.double()
    dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + y.sum() + 1e-5)
    torch.testing.assert_close(total, 0.3 * F.binary_cross_entropy(p, y) + 0.7 * dice)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_count_nowhere_whatever_they_hold(classes: int, engine: str) -> None:
    maps, labels = sample((4, 6), classes, num_maps=2)
    maps = [torch.randn(2, classes, 4, 6, dtype=torch.float64) for _ in range(2)]
    loss = build(num_maps=2, num_classes=classes, ignore_index=255, engine=engine)
    kept = loss([m[..., :4] for m in maps], labels[..., :4])
    labels[..., 4:] = 255
    for m in maps:
        m[..., 4:] = torch.nan
        m.requires_grad_()
    step = loss(maps, labels)
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
    assert torch.equal(loss(maps, labels).per_map, torch.zeros(19, dtype=torch.float64))
    assert all((g == 0).all() for g in gradients(loss, maps, labels))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_weights_of_zero_skip_their_maps(engine: str) -> None:
    maps, labels = sample()
    ids = build().map_ids
    chosen = [0.0 if name.startswith("mul") or name == "P1" else 0.5 + i for i, name in enumerate(ids)]
    full = build(engine="reference")(maps, labels)
    loss = build(weighting=Fixed(build().maps, chosen), engine=engine)
    step = loss(maps, labels)
    skipped = torch.tensor(chosen) == 0
    assert step.per_map[skipped].isnan().all()
    torch.testing.assert_close(step.per_map[~skipped], full.per_map[~skipped])
    expected = (torch.tensor(chosen, dtype=torch.float64) * full.per_map).sum()
    torch.testing.assert_close(step.total.detach(), expected)
    assert loss.culprits(step) == ()


def test_operators_are_keyed_as_the_maps_say_and_shared() -> None:
    loss = build()
    concat = ["concat(1,2)", "concat(1,3)", "concat(2,3)", "concat(1,2,3)"]
    assert list(loss.operators) == ["attention[2]", "attention[3]", *concat]
    assert {m.parameters for m in loss.maps} - {None} == set(loss.operators)


def test_any_other_loss_takes_the_reference_path() -> None:
    maps, labels = sample()
    loss = build(loss=lambda logits, truth: F.cross_entropy(logits, truth, label_smoothing=0.1))
    step = loss(maps, labels)
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
            torch.testing.assert_close(loss(maps, labels), expected(maps, labels))
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
        step = loss(half, labels)
    expected = build(engine="reference")([m.detach().double() for m in half], labels)
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
    torch.testing.assert_close(copied(maps, labels), loss(maps, labels), rtol=0, atol=0, equal_nan=True)
    ours = {p.data_ptr() for p in loss.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in copied.parameters())


def test_state_dict_holds_what_is_learned() -> None:
    maps, labels = sample()
    loss = build()
    with torch.no_grad():
        loss.weighting.theta.normal_()
    torch.manual_seed(5)
    other = MixtureLoss("lomix", 3, 3).double()
    assert not torch.equal(other(maps, labels).total, loss(maps, labels).total)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(maps, labels).total, loss(maps, labels).total)
    assert set(loss.state_dict()) == {name for name, _ in loss.named_parameters()} | {"weighting.kept"}


def test_it_says_what_it_is() -> None:
    assert 'space="lomix" of 19 maps, num_maps=3, num_classes=3, ce=0.3, dice=0.7, ignore_index=255' in repr(
        build(ignore_index=255)
    )


# -- bad input ---------------------------------------------------------------------------------------------------------


def fails(loss: MixtureLoss, maps: object, labels: Tensor) -> str:
    with pytest.raises(LossError) as caught:
        loss(maps, labels)
    return str(caught.value)


def test_wrong_number_of_maps() -> None:
    maps, labels = sample()
    assert fails(build(num_maps=4), maps, labels) == (
        "MixtureLoss got 3 maps; it was built for 4.\n"
        "  Seen: map 1: (2, 3, 1, 1)\n"
        "        map 2: (2, 3, 3, 2)\n"
        "        map 3: (2, 3, 6, 5)\n"
        "  Try:  net.train()  # in eval mode the network returns one map only\n"
        "        MixtureLoss(…, num_maps=3)  # if it has so many stages"
    )
    assert "Seen: no map" in fails(build(), [], labels)


def test_one_map_with_a_batch_of_just_that_many() -> None:
    maps, labels = sample(batch=3)
    whole = build()(maps, labels)
    assert torch.equal(build()(maps[-1], labels).total, whole.per_map[2])  # not three stacked maps


def test_wrong_shapes() -> None:
    maps, labels = sample()
    assert "Map 2 has 4 channels; the loss was built for 3 classes." in fails(
        build(), [maps[0], maps[1].repeat(1, 2, 1, 1)[:, :4], maps[2]], labels
    )
    assert "Map 1 has shape (2, 3); needed (B, 3, *spatial) with 1 to 3 spatial axes." in fails(
        build(), [m.flatten(2).sum(2) for m in maps], labels
    )
    assert "The maps have different batch sizes or ranks: map 3 differs." in fails(
        build(), [*maps[:2], maps[2][:1]], labels
    )
    assert (
        fails(build(), [m.detach().int() for m in maps], labels) == "Map 1 is torch.int32; logits are floating point."
    )
    assert "Labels have a batch of 1, the maps of 2." in fails(build(), maps, labels[:1])
    assert "Labels have shape (2, 30); maps of rank 4 need (B, *spatial) or (B, 1, *spatial)." in fails(
        build(), maps, labels.flatten(1)
    )
    assert "Try:  loss(maps, one_hot.argmax(1))" in fails(build(), maps, F.one_hot(labels, 3).movedim(-1, 1))
    assert "Labels are on meta, the maps on cpu." in fails(build(), maps, labels.to("meta"))


def test_float_labels() -> None:
    maps, labels = sample()
    assert fails(build(), maps, labels.float()) == (
        "Labels are torch.float32; classes are integers.\n  Try:  loss(maps, labels.long())"
    )
    loss = build()
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(loss(maps, labels.to(dtype)).total, loss(maps, labels).total)
    assert build(num_classes=1)(sample(classes=1)[0], labels > 1).total.isfinite()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_labels_out_of_range(engine: str) -> None:
    maps, labels = sample()
    labels.fill_(0)
    labels[0, 0, :2] = 3
    labels[1, 0, 0] = 255
    assert fails(build(engine=engine), maps, labels) == (
        "Labels hold 2 values outside the classes 0 … 2.\n"
        "  Seen: 3 (2 pixels), 255 (1 pixels)\n"
        "  Try:  MixtureLoss(…, num_classes=4, ignore_index=255)  # if the network has so many outputs, and 255 marks "
        "pixels without a label"
    )
    assert fails(build(ignore_index=255), maps, labels) == (
        "Labels hold 1 values outside the classes 0 … 2, 255 is ignored.\n"
        "  Seen: 3 (2 pixels)\n"
        "  Try:  MixtureLoss(…, num_classes=4)  # if the network has so many outputs"
    )
    labels.fill_(2)
    assert "outside the classes 0 … 1." in fails(build(num_classes=1), sample(classes=1)[0], labels)


def hint(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> str:
    return fails(loss, maps, labels).partition("  Try:  ")[2].partition("  #")[0]


def test_hints_for_labels_with_channels_lose_nothing() -> None:
    """What is advised gives the right classes; overlapping regions have none, and argmax would drop one of them."""
    maps, labels = sample()
    loss, named = build(), {"loss": build(), "maps": maps, "torch": torch}
    for one_hot in (F.one_hot(labels, 3).movedim(-1, 1), F.one_hot(labels, 3).movedim(-1, 1).float()):
        assert torch.equal(
            eval(hint(loss, maps, one_hot), named | {"one_hot": one_hot}).total, loss(maps, labels).total
        )
    last = F.one_hot(labels, 3)
    assert torch.equal(eval(hint(loss, maps, last), named | {"one_hot": last}).total, loss(maps, labels).total)
    for kind in (torch.int64, torch.uint8, torch.bool, torch.float32):
        foreground = F.one_hot(labels, 3).movedim(-1, 1)[:, 1:].to(kind)
        assert "background first: 3 classes" in fails(loss, maps, foreground)
        found = eval(hint(loss, maps, foreground), named | {"one_hot": foreground})
        assert torch.equal(found.total, loss(maps, labels).total)
    regions = torch.stack([labels > 0, labels > 1], 1).long()
    message = fails(loss, maps, regions)
    assert "argmax" not in message
    assert (
        f"the 2 regions overlap at {int((labels > 1).sum())} pixels: one region at a time, with num_classes=1"
        in message
    )
    one_map, binary = [m[:, :1] for m in maps], build(num_classes=1)
    assert torch.equal(
        eval(hint(loss, maps, regions), {"loss": binary, "maps": one_map, "regions": regions, "k": 1}).total,
        binary(one_map, labels > 1).total,
    )
    colours = torch.randint(256, (2, 3, 6, 5))
    assert "Try" not in fails(loss, maps, colours)


def test_hints_for_labels_of_other_types_lose_nothing() -> None:
    maps, labels = sample()
    soft = labels.double()
    soft[0, 0, 0] = 0.5
    assert fails(build(), maps, soft) == (
        "Labels are torch.float64; classes are integers.\n  Seen: 1 values that are no class, such as 0.5"
    )
    for wrong in (float("nan"), float("inf")):
        soft[0, 0, 0] = wrong
        assert "Try" not in fails(build(), maps, soft)
    assert "Try" not in fails(build(), maps, labels.to(torch.complex64))


@pytest.mark.parametrize(("values", "classes", "ignored", "expected"), [
    ([0, 255], 1, None, "loss(maps, labels == 255)"),
    ([0, 255], 2, None, "loss(maps, labels == 255)"),
    ([255], 1, None, "loss(maps, labels == 255)"),
    ([0, 2], 2, None, "loss(maps, labels == 2)"),
    ([0, 128], 1, 255, "loss(maps, labels == 128)"),
    ([0, 1, 255], 1, None, "MixtureLoss(…, ignore_index=255)"),
    ([0, 1, -1], 2, None, "MixtureLoss(…, ignore_index=-1)"),
    ([0, -100], 2, None, "MixtureLoss(…, ignore_index=-100)"),
    ([0, 255], 3, None, ""),  # the foreground of a mask, or no label at all
    ([0, 1, 2, 255], 3, None, "MixtureLoss(…, ignore_index=255)"),
    ([0, 1, 2], 2, None, "MixtureLoss(…, num_classes=3)"),  # a class, not to be ignored
    ([0, 1, 2], 1, None, "MixtureLoss(…, num_classes=3)"),
    ([1, 2, 3], 3, None, "MixtureLoss(…, num_classes=4)"),
    ([0, 1, 2, 3, 255], 3, None, "MixtureLoss(…, num_classes=4, ignore_index=255)"),
    ([0, 1, 255], 2, -1, ""),  # only one value can be ignored
    ([0, 1, -1, 255], 2, None, ""),
    ([0, 50, 100, 150], 2, None, ""),  # grey values
])  # fmt: skip
def test_hints_for_label_values_lose_nothing(
    values: list[int], classes: int, ignored: int | None, expected: str
) -> None:
    """255 beside 0 is a mask's foreground: to ignore it would leave nothing to learn."""
    maps, _ = sample(classes=classes)
    labels = torch.tensor(values)[torch.arange(60) % len(values)].view(2, 6, 5)
    loss = build(num_classes=classes, ignore_index=ignored)
    assert hint(loss, maps, labels) == expected
    if expected.startswith("loss"):
        found = eval(expected, {"loss": loss, "maps": maps, "labels": labels})
        assert torch.equal(found.total, loss(maps, (labels == max(values)).long()).total)
    elif expected:
        settings = eval(expected.replace("MixtureLoss(…, ", "dict("), {})
        mended = build(**({"num_classes": classes} | settings))
        assert mended(sample(classes=mended.num_classes)[0], labels).total.isfinite()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_culprits_are_the_maps_that_hold_the_bad_original(bad: float, engine: str) -> None:
    maps, labels = sample()
    with torch.no_grad():
        maps[1][0, 0] = bad
    loss = build(engine=engine)
    step = loss(maps, labels)
    step.total.backward()
    assert not step.total.isfinite()
    assert loss.culprits(step) == tuple(m.id for m in loss.maps if 2 in m.scales)


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
    torch.testing.assert_close(again(maps, labels).total, loss(maps, labels).total)
    pruned = MixtureLoss.from_mixture(mixture.prune(top=5))
    assert len(pruned.maps) == 5 and "P3" in pruned.map_ids
    assert pruned.mixture().weights == mixture.prune(top=5).weights


def test_the_maps_of_a_mixture_are_trained_with_any_weighting() -> None:
    found = MixtureLoss("lomix", 3, 4).mixture().prune(top=5)
    begun = MixtureLoss.from_mixture(found, weighting="anneal", settings={"until": 1.0})
    assert begun.map_ids == MixtureLoss.from_mixture(found).map_ids and len(begun.map_ids) == 5
    torch.testing.assert_close(begun.weighting.weights(), MixtureLoss.from_mixture(found).weighting.weights())
    anew = MixtureLoss.from_mixture(found, weighting="softplus")
    assert len(list(anew.weighting.parameters())) == 1 and anew.map_ids == begun.map_ids
