"""Weights that neither die nor explode under any optimizer, and one that is told when they do."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.weight_watch import EVERY

SGD = {"lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}  # as nnU-Net trains


class Logits(nn.Module):
    """Three maps that are parameters: what a network would learn, without one."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = nn.ParameterList(torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3))


def train(
    weighting: str, make: Callable[[Logits, MixtureLoss], torch.optim.Optimizer], steps: int = 500
) -> tuple[MixtureLoss, list[float], list[str]]:
    """Return the loss, what the finest map's loss was, and what was warned of."""
    torch.manual_seed(0)
    net, loss = Logits(), MixtureLoss("deep_supervision", 3, 3, weighting=weighting)
    optimizer, labels = make(net, loss), torch.randint(0, 3, (2, 4, 4))
    finest = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            loss(list(net.maps), labels).backward()
            nn.utils.clip_grad_norm_([*net.parameters(), *loss.parameters()], 12.0)
            optimizer.step()
            finest.append(float(loss.per_map.losses[2]))
    return loss, finest, [str(one.message) for one in caught if "MixtureLoss" in str(one.message)]


@pytest.mark.slow
def test_sgd_with_momentum_kills_softplus_weights_and_that_is_said_once() -> None:
    together = lambda net, loss: torch.optim.SGD([*net.parameters(), *loss.parameters()], **SGD)  # noqa: E731
    loss, _, said = train("softplus", together, steps=120)
    assert float(loss.weighting.weights().detach().max()) < 0.05
    assert len(said) == 1 and said[0].startswith("MixtureLoss: the weights die. By call ")
    assert int(said[0].split("By call ")[1].split()[0]) <= 6 * EVERY
    assert "*loss.parameter_groups()" in said[0] and 'weighting="normalized"' in said[0]


MAKE: dict[str, Callable[[Logits, MixtureLoss], torch.optim.Optimizer]] = {
    "SGD": lambda net, loss: torch.optim.SGD([{"params": net.parameters()}, *loss.parameter_groups()], **SGD),
    "AdamW": lambda net, loss: torch.optim.AdamW([{"params": net.parameters()}, *loss.parameter_groups()], lr=1e-2),
    "RMSprop": lambda net, loss: torch.optim.RMSprop(
        [{"params": net.parameters()}, *loss.parameter_groups()], lr=1e-3, momentum=0.9
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "weighting", "steps"),
    [
        ("SGD", "softplus", 150),
        pytest.param("SGD", "softplus", 500, marks=pytest.mark.slow),
        pytest.param("SGD", "normalized", 500, marks=pytest.mark.slow),
        pytest.param("SGD", "uncertainty", 500, marks=pytest.mark.slow),
        pytest.param("AdamW", "softplus", 500, marks=pytest.mark.slow),
        pytest.param("RMSprop", "normalized", 500, marks=pytest.mark.slow),
    ],
)
def test_in_their_own_group_weights_neither_die_nor_explode(optimizer: str, weighting: str, steps: int) -> None:
    loss, finest, said = train(weighting, MAKE[optimizer], steps)
    weights = loss.weighting.weights().detach()
    assert said == [] and bool(weights.isfinite().all())
    assert float(weights.max()) > 0.3 * 0.69 and finest[-1] < (0.2 if steps == 500 else 0.7) * finest[0]
    if weighting != "uncertainty":  # whose weights are 1 / ℓ, as they should
        assert float(weights.max()) < 7


def test_groups_are_operators_as_the_network_and_weights_apart() -> None:
    loss = MixtureLoss("lomix", 3, 3)
    operators, weights = loss.parameter_groups()
    assert [id(p) for p in operators["params"]] == [id(p) for p in loss.operators.parameters()]
    assert operators.keys() == {"params"} and weights["params"] == [loss.weighting.theta]
    assert (weights["lr"], weights["weight_decay"], weights["momentum"]) == (1e-3, 0, 0)
    operators, weights = MixtureLoss("lomix", 3, 3, weighting="normalized").parameter_groups(lr=0.1)
    assert operators["lr"] == 0.1 and weights["lr"] == 0.02  # its own
    assert loss.parameter_groups(weights_lr=0.5)[1]["lr"] == 0.5
    assert MixtureLoss("mutation", 3, 3, weighting="uniform").parameter_groups() == []
    assert len(MixtureLoss("mutation", 3, 3).parameter_groups()) == 1
    loss.operators.requires_grad_(False)
    assert len(loss.parameter_groups()) == 1


@pytest.mark.parametrize("given", [{"lr": 0.0}, {"lr": -1.0}, {"weights_lr": torch.nan}, {"weights_lr": torch.inf}])
def test_learning_rates_that_are_none_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(LossError, match=f"parameter_groups\\({next(iter(given))}=.*above 0 and finite"):
        MixtureLoss("lomix", 3, 3).parameter_groups(**given)


def falling(weighting: str = "softplus") -> tuple[MixtureLoss, Callable[[], Any]]:
    """Return a loss and a step in which its weights fall fast."""
    loss = MixtureLoss("deep_supervision", 3, 3, weighting=weighting)
    maps, labels = [torch.randn(1, 3, 2) for _ in range(3)], torch.zeros(1, 2).long()

    def step() -> Any:
        with torch.no_grad():
            for theta in loss.weighting.parameters():
                theta.sub_(0.1)
        return loss(maps, labels)

    return loss, step


@pytest.mark.slow
def test_it_does_not_cry_wolf(recwarn: pytest.WarningsRecorder) -> None:
    for weighting in ("normalized", "uncertainty", "uniform", "anneal"):
        loss, step = falling(weighting)
        for _ in range(3 * EVERY):
            loss.weighting.advance(0.0)  # one epoch of many, in a loop that tells epochs
            step()
    loss, step = falling()
    loss.weighting.requires_grad_(False)
    for _ in range(3 * EVERY):
        step()
    _, step = falling()
    with torch.no_grad():  # as in validation
        for _ in range(3 * EVERY):
            step()
    assert not [one for one in recwarn if "MixtureLoss" in str(one.message)]


def test_copies_watch_for_themselves_and_search_watches_instead() -> None:
    loss, step = falling()
    with loss.watch.paused():
        for _ in range(3 * EVERY):
            step()
    with pytest.warns(UserWarning, match="the weights die") as caught:
        loss.weighting.theta.data.zero_()
        for _ in range(3 * EVERY):
            step()
    assert caught[0].filename == __file__  # where the loss is called
    assert not loss.watch.on and copy.deepcopy(loss).watch.on and pickle.loads(pickle.dumps(loss)).watch.on


@pytest.mark.parametrize(("weighting", "call"), [("auto", "loss.weighting.advance("), ("lookahead", "lomix.search(")])
def test_weights_that_wait_in_vain_are_said_once(weighting: str, call: str) -> None:
    loss, step = falling(weighting)
    for _ in range(EVERY):
        step()
    name = loss.weighting.name
    with pytest.warns(UserWarning, match=f'the weights of "{name}" are still those of the start after 20') as caught:
        step()
    assert call in str(caught[0].message) and caught[0].filename == __file__
    for _ in range(2 * EVERY):
        step()  # a second warning would be an error
