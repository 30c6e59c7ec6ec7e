"""Every option of the loss in every engine that takes it: as the reference, which test_loss_terms.py judges."""

import pytest
from support.agreement import able, agree, outcome, plain
from support.loss_terms import CASES, ON_INTERPRETER, built, given


def pairs() -> list[tuple[str, str]]:
    """Engines and the cases; Triton's interpreter has time for few, in which each option stands once at least."""
    return [(e, n) for e in able() for n in CASES if e != "triton" or n in ON_INTERPRETER]


@pytest.mark.parametrize(("engine", "name"), pairs())
def test_float64_agrees_to_1e_10(engine: str, name: str) -> None:
    loss, (maps, labels) = built(*CASES[name]), given(CASES[name][0])
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name"), pairs())
def test_float32_agrees_to_1e_5(engine: str, name: str) -> None:
    loss, (maps, labels) = built(*CASES[name]).float(), given(CASES[name][0])
    found = outcome(loss, [one.float() for one in maps], labels, engine)
    expected = outcome(loss.double(), maps, labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, plain)


SHAPES = ({"focal_gamma": 2.0}, {"focal_gamma": 0.5}, {"label_smoothing": 0.1})


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["classes", "regions", "binary"])
@pytest.mark.parametrize("engine", able())
def test_certain_pixels_right_or_wrong_agree_in_float32(engine: str, kind: str, options: dict[str, float]) -> None:
    """Logits up to ±60: p of what is true rounds to 1, and to 1e-26."""
    loss, (maps, labels) = built(kind, options, operators=("add", "sub")).float(), given(kind)
    maps = [12 * one for one in maps]
    found = outcome(loss, [one.float() for one in maps], labels, engine)
    expected = outcome(loss.double(), maps, labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, plain | {"scale": 12.0})
