"""Every option of the loss in every engine that takes it: as the reference, which test_loss_terms.py judges."""

import pytest
from support.agreement import able, agree, outcome, plain
from support.loss_terms import CASES, built, given

from lomix_search.mixture.loss import MixtureLoss


def takes(engine: str, loss: MixtureLoss) -> bool:
    return engine == "tiled" or not loss.plan.terms.by_pixel


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("engine", able())
def test_float64_agrees_to_1e_10(engine: str, name: str) -> None:
    loss, (maps, labels) = built(*CASES[name]), given(CASES[name][0])
    if takes(engine, loss):
        agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * ("binary" in n)) for n in CASES])
@pytest.mark.parametrize("engine", able())
def test_float32_agrees_to_1e_5(engine: str, name: str) -> None:
    loss, (maps, labels) = built(*CASES[name]).float(), given(CASES[name][0])
    if takes(engine, loss):
        found = outcome(loss, [one.float() for one in maps], labels, engine)
        expected = outcome(loss.double(), maps, labels, "reference")
        agree([one.double() for one in found], expected, 1e-5, plain)
