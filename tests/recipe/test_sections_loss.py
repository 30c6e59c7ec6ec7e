"""``[loss]``: the options of ``LossTerms``, their faults, and that they reach the loss that is trained."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from support.loss_terms import STRUCTURE
from support.places import ROOT
from support.recipe_files import MINIMAL, message, write

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.terms import LossTerms
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.sections import LossSection
from lomix_search.recipe.validate import validate_recipe


def with_loss(folder: Path, keys: str) -> Path:
    return write(folder, f"{MINIMAL}[loss]\n{keys}\n")


def test_the_section_has_the_options_of_the_loss_and_their_defaults() -> None:
    own = {"ce", "dice", "ignore_index"}
    shared: dict[str, FieldInfo] = {k: f for k, f in LossSection.model_fields.items() if k not in own}
    assert list(shared) == [field.name for field in fields(LossTerms)]
    assert {k: f.default for k, f in shared.items()} == {k: getattr(LossTerms(), k) for k in shared}
    assert LossSection().terms == LossTerms()


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = with_loss(tmp_path, 'top_k = 10\nclass_weights = [1, -1]\nregion = "dise"\nfocal = 2\nsmooth = 0')
    assert message(path).splitlines()[1:] == [
        "  loss.class_weights[1] = -1: at least 0 is needed.",
        "  loss.top_k = 10: at most 1 is needed.",
        "  loss.region = 'dise': unknown. Nearest: \"dice\". Known: dice, generalized_dice, iou, tversky.",
        "  loss.smooth = 0: more than 0 is needed.",
        message(path).splitlines()[-1],
    ]
    assert message(path).splitlines()[-1].startswith('  loss.focal: unknown. Nearest: "focal_gamma".')


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    said = message(with_loss(tmp_path, "focal_gamma = 2\nlabel_smoothing = 0.1\nboundary_weight = 5\ntop_k = 0.1"))
    assert "focal_gamma and label_smoothing exclude each other: of a smoothed truth there is no one p; " in said
    assert "boundary_weight and top_k exclude each other" in said
    assert "class_weights are all 0" in message(with_loss(tmp_path, "class_weights = [0.0, 0]"))


def test_options_reach_the_loss_and_survive_the_saved_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(with_loss(tmp_path, 'class_weights = [1, 2, 0.5]\nregion = "tversky"\ntop_k = 0.1'))
    again = load_recipe(write(tmp_path, recipe.to_toml(), "again.toml"))
    assert again.loss == recipe.loss
    loss = MixtureLoss("lomix", 3, 3, **again.loss.model_dump())  # as a run builds it
    assert loss.plan.terms == LossTerms(class_weights=(1, 2, 0.5), region="tversky", top_k=0.1)


@pytest.mark.slow
def test_validate_names_options_that_do_not_fit_the_classes(tmp_path: Path) -> None:
    recipe = load_recipe("chest_ct").override({"loss.class_weights": [1, 2], "loss.boundary_weight": 5.0})
    faults = validate_recipe(recipe).faults
    assert faults[-4:] == (
        "loss: 2 options of the loss do not fit.",
        "loss:   Seen: class_weights has 2 weights; 6 are needed, one a class, background first",
        "loss:         boundary_weight=5 is of binary and multi-label maps; these have 6 classes of which one is true",
        "loss:   Try:  MixtureLoss(…, class_weights=None, boundary_weight=0.0)  # as in the paper",
    )


@pytest.mark.parametrize("name", ["polyp", "isic2018", "busi"])
def test_the_papers_loss_of_binary_sets_is_what_their_recipes_say(name: str) -> None:
    """The keys in the comment of ``[loss]``, read as a user would uncomment them."""
    text = (ROOT / "recipes" / name / "recipe.toml").read_text(encoding="utf-8")
    told = ", ".join(re.findall(r"# ((?:\w+ = \S+, )*\w+ = \S+?),?$", text[text.index("[loss]") :], re.M)[:2])
    recipe = load_recipe(name).override({f"loss.{k}": v for k, v in tomllib.loads(told.replace(", ", "\n")).items()})
    assert recipe.loss.terms == LossTerms(**STRUCTURE)
    assert (recipe.loss.ce, recipe.loss.dice) == (1, 1)
    recipe.loss.terms.check_classes(1, sigmoid=True)
