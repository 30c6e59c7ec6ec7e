"""Every option of the loss in every engine that takes it: as the reference, which test_loss_terms.py judges."""

import pytest
from support.agreement import able, agree, outcome, plain
from support.loss_terms import CASES, built, given

from lomix_search.errors import LossError
from lomix_search.mixture.loss.dispatch import choose_engine


def pairs() -> list[tuple[str, str]]:
    """Engines and the cases that they take; Triton's interpreter has time for few."""
    found = [(e, n) for e in able() for n, (_, options) in CASES.items() if not LACKING[e] & set(options)]
    return [(e, n) for e, n in found if e != "triton" or any(part in n for part in FEW)]


BY_PIXEL = {"focal_gamma", "label_smoothing", "top_k", "boundary_weight"}
LACKING = {"tiled": set(), "native": set(), "triton": BY_PIXEL}
FEW = ("classes: weights plain per image", "regions: weights", "binary: per image")


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
@pytest.mark.parametrize("engine", [e for e in able() if e != "triton"])
def test_certain_pixels_right_or_wrong_agree_in_float32(engine: str, kind: str, options: dict[str, float]) -> None:
    """Logits up to ±60: p of what is true rounds to 1, and to 1e-26."""
    loss, (maps, labels) = built(kind, options, operators=("add", "sub")).float(), given(kind)
    maps = [12 * one for one in maps]
    found = outcome(loss, [one.float() for one in maps], labels, engine)
    expected = outcome(loss.double(), maps, labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, plain | {"scale": 12.0})


def test_an_engine_asked_for_by_name_says_what_it_cannot_do() -> None:
    with pytest.raises(LossError) as caught:
        choose_engine("triton", "cuda", special="top_k")
    assert str(caught.value) == (
        'engine "triton" cannot run on cuda: it does not compute top_k.\n  Try:  MixtureLoss(…, engine="auto")'
    )
    for special in BY_PIXEL:
        assert choose_engine("auto", "cpu", special=special) == choose_engine("auto", "cpu")
        assert choose_engine("auto", "cuda", special=special) == "reference"
