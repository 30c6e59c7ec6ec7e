"""The watch over collapsing weights: it speaks once, when it should, and never about constant weights."""

import pytest
import torch

from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import (
    Anneal,
    Monitor,
    Normalized,
    Softplus,
    Uncertainty,
    Weighting,
    random_weights,
    uniform_weights,
)

MAPS = tuple(SearchSpace.load("lomix").maps(4))


def watch(built: Weighting, steps: int = 320, drop: bool = False) -> list[tuple[int, str]]:
    """Train the weights alone, at losses between 0.1 and 1 that halve; return what was said, and when."""
    torch.manual_seed(0)
    losses = 0.1 + 0.9 * torch.rand(len(MAPS))
    parameters = list(built.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-3) if parameters else None
    monitor, said = Monitor(), []
    for step in range(steps):
        built.advance(step / steps)
        if drop and step == 100:
            built.keep({m.id for m in MAPS[:8]})
        total = built(losses * (1 - step / steps / 2))
        if optimizer is not None:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        _, warning = monitor.look(built.weights().detach().tolist())
        if warning:
            said.append((step, warning))
    return said


def test_the_papers_rule_is_told_of_once() -> None:
    said = watch(Softplus(MAPS))
    assert len(said) == 1 and 50 < said[0][0] < 300
    assert said[0][1].startswith("the weights shrink without selecting: 20% of their sum is gone, and they still count")
    assert " equal maps of 48." in said[0][1] and "weighting.name=lookahead" in said[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [uniform_weights, random_weights, Anneal, Normalized, Uncertainty])
def test_it_does_not_cry_wolf(kind: type[Weighting]) -> None:
    assert watch(kind(MAPS)) == []
    assert watch(kind(MAPS), drop=True) == []


def test_weights_that_shrink_and_select_are_fine() -> None:
    monitor = Monitor()
    assert monitor.look([1.0] * 8)[1] == ""
    assert monitor.look([1.0] * 2 + [0.05] * 6)[1] == ""


def test_what_was_said_is_not_said_again_after_a_resume() -> None:
    monitor, again = Monitor(), Monitor()
    monitor.look([1.0] * 8)
    again.load_state_dict(monitor.state_dict())
    assert again.look([0.5] * 8)[1] != ""
    monitor.load_state_dict(again.state_dict())
    assert monitor.look([0.4] * 8)[1] == "" and monitor.warning == again.warning
