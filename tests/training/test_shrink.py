"""Progressive shrinking: the weakest maps leave on schedule, the finest stays, a resumed run agrees."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.mixture_losses import built
from support.shapes import CLASSES, Interrupting, Shapes
from support.zoo import SmallUNet

import lomix_search as lomix
from lomix_search.errors import RecipeError, RunError
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.sections import ShrinkSection
from lomix_search.training.shrink import budget, shrink
from lomix_search.training.trackers import read_lines


def test_the_budget_falls_geometrically() -> None:
    plan = ShrinkSection(to=3, start=0.25, until=0.75)
    assert [budget(plan, 48, p) for p in (0, 0.25, 0.375, 0.5, 0.75, 1)] == [48, 48, 24, 12, 3, 3]


def test_the_weakest_leave_and_the_finest_stays() -> None:
    _, loss = built(SmallUNet(width=4), "softplus")  # P1 P2 add mul attention concat
    with torch.no_grad():
        loss.weighting.theta.copy_(torch.tensor([3.0, -9.0, 2.0, 1.0, 5.0, 4.0]))
    assert shrink(ShrinkSection(to=3), loss, 0.1) == ()
    assert shrink(ShrinkSection(to=3), loss, 0.8) == ("P1", "add(1,2)", "mul(1,2)")
    assert loss.weighting.active() == (False, True, False, False, True, True)
    assert shrink(ShrinkSection(to=3), loss, 0.9) == ()
    assert shrink(ShrinkSection(to=1), loss, 0.9) == ("attention(1,2)", "concat(1,2)")


def test_by_effect_it_asks_the_held_out_slopes() -> None:
    _, loss = built(SmallUNet(width=4), rate=0.0, normalize="none")
    loss.weighting.learn(torch.tensor([0.1, -1.0, 0.5, 0.2, -0.3, 0.4]))
    shrink(ShrinkSection(to=3, by="effect"), loss, 1.0)
    assert loss.weighting.active() == (False, True, True, False, False, True)
    torch.testing.assert_close(loss.weighting.weights(), torch.tensor([0.0, 2.0, 2.0, 0.0, 0.0, 2.0]))


def run(folder: Path, train: Any = None, resume: bool = False) -> Any:
    torch.manual_seed(2)
    net, loss = built(SmallUNet(width=4), interval=3)
    return lomix.search(
        net, loss, train or Shapes(), folder=folder, classes=CLASSES, resume=resume, progress=False, steps=12,
        batch_size=4, lr=1e-2, checkpoint_every=3, seed=5, shrink={"to": 2, "start": 0.2, "until": 0.8},
    )  # fmt: skip


@pytest.mark.slow
def test_a_search_shrinks_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", train=Interrupting(2, after=35))
    run(tmp_path / "cut", resume=True)
    result = run(tmp_path / "whole")
    assert (tmp_path / "cut/mixture.json").read_bytes() == (tmp_path / "whole/mixture.json").read_bytes()
    lines = [line for line in read_lines(tmp_path / "whole/metrics.jsonl") if "train/loss" in line]
    computed = [sum(v is not None for v in line["mixture/per_map"]) for line in lines]
    assert computed[0] == 6 and computed[-1] == 2 and computed == sorted(computed, reverse=True)
    assert 2 < computed[6] < 6  # in between, in between
    left = {name for name, weight in result.mixture.weights.items() if weight > 0}
    assert len(left) == 2 and "P2" in left
    assert {m.id for m in lomix.MixtureLoss.from_mixture(result.mixture).maps} == left
    assert math.isclose(sum(result.mixture.weights.values()), 6, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("weighting", "settings", "plan", "message"),
    [
        ("softplus", {}, {"to": 7}, "search.shrink.to = 7: the space has 6 maps."),
        ("softplus", {}, {"to": 2, "by": "effect"}, 'by = "effect" needs held-out data; the weighting is "softplus"'),
        ("uniform", {}, {"to": 2}, 'the weights of "uniform" do not move, so none is the weakest'),
        ("lookahead", {"rate": 0}, {"to": 2}, 'the weights of "lookahead" do not move'),
        ("softplus", {}, {"to": 0}, "shrink.to = 0: at least 1 is needed."),
    ],
)
def test_budgets_that_make_no_sense(
    weighting: str, settings: dict[str, Any], plan: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net, loss = built(SmallUNet(width=4), weighting, **settings)
    with pytest.raises(RunError, match=message):
        lomix.search(net, loss, Shapes(), folder=tmp_path, progress=False, shrink=plan)


def test_in_a_recipe() -> None:
    recipe = load_recipe("chest_ct", ["search.shrink.to=8"])
    assert recipe.search.shrink == ShrinkSection(to=8)
    with pytest.raises(RecipeError, match=r"start = 0.9 must lie before until = 0.8"):
        load_recipe("chest_ct", ["search.shrink={to=8, start=0.9}"])
    with pytest.raises(RecipeError, match=r'search.shrink.too: unknown. Nearest: "to"'):
        load_recipe("chest_ct", ["search.shrink.too=8"])
