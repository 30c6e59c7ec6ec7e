"""An optimizer that lacks what is added to the network: said once, and never of one that has all of it."""

import warnings

import pytest
import torch
from support.zoo import SmallUNet
from torch import nn

import lomix_search as lomix

Groups = list[dict[str, object]]


def _said(groups: str, steps: int = 100, weighting: str = "softplus", freeze: str = "", **options: bool) -> list[str]:
    """Train with an optimizer of some of net, model and loss; return what was warned."""
    torch.manual_seed(0)
    model = SmallUNet()
    images = torch.rand(1, 1, 8, 8)
    net = lomix.instrument(model, images).train()
    loss = lomix.MixtureLoss.for_network(net, weighting=weighting)
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    if freeze:
        nn.Module.requires_grad_(getattr(loss, freeze), False)
    given: Groups = []
    for word in groups.split():
        given += (
            loss.parameter_groups() if word == "loss" else [{"params": {"net": net, "model": model}[word].parameters()}]
        )
    optimizer = torch.optim.AdamW(given, lr=1e-3, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net(images), labels).backward()
            optimizer.step()
    return [text for w in caught if "the optimizer lacks them" in (text := str(w.message))]


@pytest.mark.parametrize(
    ("groups", "parts"),
    [("net", "operators and weights"), ("model loss", "heads"), ("model", "heads and operators and weights")],
)
def test_what_the_optimizer_lacks_is_named_once(groups: str, parts: str) -> None:
    (said,) = _said(groups)
    assert said.startswith(f"MixtureLoss: the {parts} did not change in 60 steps in which the network did")
    assert ("*loss.parameter_groups()" in said) == ("operators" in parts)
    assert ("net.parameters()" in said) == ("heads" in parts)


@pytest.mark.parametrize("weighting", ["softplus", "anneal", "uncertainty", "lookahead"])
def test_nothing_is_said_of_an_optimizer_of_all(weighting: str) -> None:
    assert _said("net loss", weighting=weighting) == []


def test_nothing_is_said_of_a_fused_optimizer_nor_before_sixty_steps_nor_of_what_is_frozen() -> None:
    assert _said("net loss", fused=True) == []
    assert _said("net", steps=60) == []
    assert "operators" not in _said("net", freeze="operators")[0]


def test_the_network_must_move() -> None:
    assert _said("loss") == []  # a frozen network whose mixture alone is trained
