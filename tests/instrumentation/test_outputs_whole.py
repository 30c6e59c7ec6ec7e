"""Whole published networks, and whole runs from a recipe to its scores, are read at the finest map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_recipe import PARTS, write_tiny
from torch import nn

from lomix_search.data.case import Case
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.predictions import PredictedSlices
from lomix_search.experiments.run import run_recipe
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

# -- published networks ------------------------------------------------------------------------------------------------


def basic_unet_plus_plus() -> nn.Module:
    from monai.networks.nets import BasicUNetPlusPlus

    return BasicUNetPlusPlus(2, 1, 3, deep_supervision=True, features=(4, 4, 8, 8, 16, 4))


def dynunet() -> nn.Module:
    from monai.networks.nets import DynUNet

    return DynUNet(
        2, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[4, 8, 8, 16], deep_supervision=True, deep_supr_num=2
    )


PUBLISHED = {
    "BasicUNetPlusPlus": (basic_unet_plus_plus, lambda n, x: n(x)[-1]),
    "DynUNet": (dynunet, lambda n, x: n(x)),
}


@pytest.mark.parametrize("name", [pytest.param("BasicUNetPlusPlus", marks=pytest.mark.slow), "DynUNet"])
def test_published_networks_are_read_at_their_own_finest_map(name: str) -> None:
    make, own = PUBLISHED[name]
    torch.manual_seed(0)
    network, images = make().eval(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        said = own(network, images).argmax(1)
    data = torch.utils.data.TensorDataset(images, said)
    cases = [Case(str(i), x[None].numpy(), y[None].numpy()) for i, (x, y) in enumerate(data)]
    names = ("background", "a", "b")
    for one in (network, instrument(network, images)):
        assert score_items(one, data, names).mean == 1.0
        assert evaluate(one, cases, names, progress=False).mean("dice") == 1.0
    assert isinstance(one, Instrumented) and torch.equal(one.eval().logits(images), own(network, images))
    three_d = "DynUNet" in name
    assert three_d or len(network(images)) == 4


# -- from a recipe to its scores ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("returns", ["[self.head(x), self.side(y)]", "{'p': self.head(x).softmax(1)}"])
def test_a_run_its_evaluation_and_its_pictures_agree(returns: str, tmp_path: Path) -> None:
    """With ignored pixels, and a network that does not return its logits alone."""
    folder = write_tiny(tmp_path / "recipe")
    text = PARTS.replace("return self.head(x)", f"return {returns}").replace("x = up(", "y, x = x, up(")
    text = text.replace("self.head = ", "self.side = nn.Conv2d(2 * width, 3, 1)\n        self.head = ")
    text = text.replace("labels[start:stop], cases, ", "labels[start:stop], cases, ignore_index=-1, ")
    text = text.replace("    def slowly", "    labels[:, :4, 3:] = -1\n\n    def slowly")
    text = text.replace('("background", "large", "small"), 1)', '("background", "large", "small"), 1, volumes=volumes)')
    text = text.replace(
        "    return Splits(", "    volumes = {'test': [case(i, images, labels) for i in (10, 11)]}\n    return Splits("
    )
    text += """

def case(i, images, labels):
    from lomix_search.data.case import Case

    return Case(f"case{i}", images[i][None], labels[i][None])
"""
    (folder / "parts.py").write_text(text)
    recipe = load_recipe(folder, ["loss.ignore_index=-1", "search.steps=30", "search.validate_every=15"])
    validate_recipe(recipe).check()
    outcome = run_recipe(recipe, tmp_path / "run")
    for name in ("best", "final"):
        whole = evaluate_run(tmp_path / "run", name)
        for label, dice in list(outcome.test[name].per_class.items())[1:]:
            assert whole.per_class("dice")[label] == pytest.approx(dice, abs=1e-9)
    assert 0 < outcome.test["final"].mean < 1
    seen = PredictedSlices.load(tmp_path / "run" / "seen.npz")
    assert (seen.truth[:, :4, 3:] == 255).all() and (seen.truth[:, 4:] < 3).all()
    kept = seen.truth != 255
    for number, label in ((1, "large"), (2, "small")):
        pairs = [((p == number) & k, t == number) for p, t, k in zip(seen.predictions, seen.truth, kept, strict=True)]
        dice = np.mean([2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in pairs])
        assert outcome.test["final"].per_class[label] == pytest.approx(dice, abs=1e-9)
