"""What an error about maps, labels, weights or spaces says to type is code, and that code runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.mixture_losses import build, sample
from torch import Tensor, nn

from lomix_search.errors import LomixError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.map_checks import check_maps
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import OPERATORS, operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Anneal, Fixed, build_weighting, weighting_settings
from lomix_search.mixture.weighting.given import check_weights

SPACE = SearchSpace.load("lomix")
MAPS = tuple(SPACE.maps(3))


def told(act: Callable[..., object], *given: Any, **named: Any) -> list[str]:
    """Return the lines that an error says to try."""
    with pytest.raises(LomixError) as caught:
        act(*given, **named)
    _, _, advice = str(caught.value).partition("  Try:  ")
    return [line.strip() for line in advice.splitlines()]


def bad_maps(maps: list[Tensor]) -> dict[str, Any]:
    return {
        "integers": [maps[0].detach().int(), *maps[1:]],
        "with None": [*maps, None],
        "dicts": [{"out": one} for one in maps],
        "lists": [[one] for one in maps],
        "arrays": [one.detach().numpy() for one in maps],
    }


@pytest.mark.parametrize("name", bad_maps(sample()[0]))
def test_of_maps(name: str) -> None:
    whole, labels = sample()
    maps, loss = bad_maps(whole)[name], build()
    (line,) = told(loss, maps, labels)
    assert eval(line).isfinite()


def test_of_maps_that_are_none_or_on_another_device_or_without_pixels() -> None:
    maps, labels = sample()
    plan, named = build().plan, {str(i): one for i, one in enumerate(maps)}
    assert told(check_maps, None, plan) == ["loss(net(images), labels)  # all maps of one forward pass"]
    assert told(check_maps, named, plan) == ["loss(list(maps.values()), labels)"]
    assert told(check_maps, iter(maps), plan) == ["loss(list(maps), labels)"]
    assert told(build(), [maps[0][:1], *maps[1:]], labels) == [
        "loss(net(images), labels)  # all maps of one forward pass"
    ]
    apart = [maps[0], maps[1].to("meta"), maps[2]]
    assert told(build(), apart, labels) == ["loss([one.to(labels.device) for one in maps], labels)"]
    assert "scale_factor=2" in told(build(), [maps[0][..., :0], *maps[1:]], labels)[0]


def test_of_labels() -> None:
    maps, finest = sample()
    loss = build()
    labels: Any = [finest, finest[:, ::2, ::2][:1]]
    (line,) = told(loss, maps, labels)
    assert line.startswith("loss(maps, labels[0])") and eval(line).isfinite()
    assert told(loss, maps, []) == ["loss(maps, labels)  # a tensor (B, *spatial) of class numbers"]
    assert told(loss, maps, finest[:1]) == ["loss(net(images), labels)  # images and labels of one batch"]
    assert told(loss, maps, finest[:, :0])[0].startswith("assert label.numel(), index")
    loss = MixtureLoss("lomix", 3, 3, ignore_index=255, multilabel=True)
    labels = torch.zeros(2, 3, 6, 5, dtype=torch.long)
    labels[0, 0, 0, 0] = 255
    (line,) = told(loss, maps, labels)
    assert loss(maps, eval(line)).isfinite()


def test_of_a_second_derivative_and_of_learning_rates() -> None:
    maps, labels = sample()
    loss = MixtureLoss("mutation", 3, 3, loss=nn.CrossEntropyLoss())
    wanted = [one.detach().requires_grad_() for one in maps]
    (line,) = told(torch.autograd.grad, loss(wanted, labels), wanted, create_graph=True)
    maps = wanted
    eval(line.partition("  #")[0])
    assert all(one.grad is not None for one in wanted)
    assert eval(*told(loss.parameter_groups, lr=-1.0))
    assert eval(*told(loss.parameter_groups, weights_lr=0.0))


def test_of_numbers_that_make_no_loss() -> None:
    assert told(MixtureLoss, "lomix", 3, 0) == ["MixtureLoss(…, num_classes=maps[0].shape[1])"]
    assert told(MixtureLoss, "lomix", 3, 2, ce=0, dice=0) == ["MixtureLoss(…, ce=0.3, dice=0.7)"]
    empty = SPACE.model_copy(update={"include": ("none(1,2)",)})
    (line,) = told(MixtureLoss, empty, 3, 2)
    assert line.startswith('originals = "all"')


def test_of_weights() -> None:
    maps = MAPS
    weights = [1.0] * (len(maps) - 1) + [-1.0]
    for given in (weights, [0.0] * len(maps), weights[:-1], [*weights[:-1], float("nan")]):
        weights = given
        assert isinstance(eval(*told(Fixed, maps, given)), Fixed)
        assert isinstance(eval(*told(Anneal, maps, given=tuple(given))), Anneal)
    with pytest.raises(LomixError, match="only weights of 0"):
        check_weights([0.0], ("P1",))


def test_of_weightings() -> None:
    loss = MixtureLoss("mutation", 3, 2)
    assert eval(*told(loss.weighting.keep, ["add(7,8)"])) == loss.weighting.map_ids
    eval(*told(loss.weighting.keep, []))
    assert sum(loss.weighting.active()) == 1
    (line,) = told(build_weighting, "anneal", MAPS, {"start": 2.0})
    name, _, settings = line.partition("   #")[0].partition(": ")
    weighting_settings(name, eval(f"dict({settings})"))
    assert told(build_weighting, "softplus", MAPS, {"lr": 1}) == ['weighting="softplus"   # with no setting']
    (line,) = told(Anneal, MAPS, start=0.6, until=0.2)
    Anneal(MAPS, **eval(f"dict({line.partition('   #')[0]})"))


def test_of_spaces() -> None:
    space = SPACE
    assert "add(1,2)" in eval(*told(space.keep, []))
    assert "add(1,2)" in eval(*told(space.keep, ["add(1,2,nothing)"]))
    wide = SearchSpace.model_validate(
        {"originals": [1, 5], "operator": [{"name": "add", "sizes": [2, 5]}, {"name": "mul", "sizes": [6]}]}
    )
    assert told(wide.check, 3) == ["originals = [1]", "operator[0]: sizes = [2]", "leave operator[1] (mul) out"]
    assert told(wide.check, 65)[0].startswith("lomix.instrument(net, example, stages=[…])")
    assert told(space.check, 0)[0].startswith("space.check(4)")


def test_of_operators() -> None:
    (line,) = told(operator, "a b")
    assert line == '@operator("my_a_b")'
    try:
        operator("my_a_b")(lambda *maps: sum(maps))
    finally:
        OPERATORS.pop("my_a_b", None)


def test_of_mixtures() -> None:
    loss = MixtureLoss("mutation", 3, 2)
    mixture = loss.mixture()
    none = mixture.model_copy(update={"maps": tuple(m.model_copy(update={"weight": 0.0}) for m in mixture.maps)})
    (line,) = told(none.prune, mass=0.5, keep_finest=False)
    assert isinstance(eval(line, {"mixture": none}), Mixture)
    other = MixtureLoss(SPACE.keep(["P3"]), 3, 2).mixture()
    assert told(mixture.compare, other)[0].startswith("MixtureLoss(mixture.space, …)")
