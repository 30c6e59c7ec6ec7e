"""Pixels that are ignored, from the user's files to every score."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lomix_search.errors import DataError
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.validate import validate_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines
from lomix_search.utils.toml import to_toml

IGNORED = 255


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe of pictures whose masks hold 0, 1 and, in a quarter of each, 255 for "do not count"."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = np.zeros((32, 32), np.uint8)
        mask[8 : 16 + i, 8:24] = 1
        mask[16:, 16:] = IGNORED
        image = np.where(mask == 1, 200, 40) + rng.integers(0, 30, mask.shape)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    path = new_recipe(tmp_path / "mine", tmp_path / "images", tmp_path / "masks", classes=["cell", "unclear"])
    content = tomllib.loads(path.read_text())
    content["data"]["classes"] = ["cell"]
    content["loss"] = {"ignore_index": IGNORED}
    content["network"]["args"] |= {"features": [4, 4, 4, 8, 8, 4], "out_channels": 2}
    content["search"] |= {"steps": 2, "validate_every": 2, "batch_size": 2}
    path.write_text(to_toml(content))
    return load_recipe(path)


@pytest.mark.slow
def test_ignored_pixels_count_nowhere(recipe: Recipe, tmp_path: Path) -> None:
    splits = recipe.build_data()
    labels = [label.numpy() for _, label in splits.test]
    assert sorted(np.unique(labels)) == [0, 1, IGNORED]  # not background
    assert np.unique(splits.volumes["test"][0].label).tolist() == [0, 1, IGNORED]
    train = recipe.build_data().train
    pixels = np.array([[(label == value).sum() for value in (0, 1)] for label in map(np.asarray, train.labels)])
    row = validate_recipe(recipe).classes[1]
    assert row.pixels == pytest.approx(pixels[:, 1].sum() / pixels.sum())
    outcome = run_recipe(recipe, tmp_path / "run")
    network = recipe.build_network()
    network.load_state_dict(read_tensors(tmp_path / "run/final.pt"))
    found = recipe.score(network, splits, "test", save=tmp_path / "scored", progress=False)
    dice = []
    for case in splits.volumes["test"]:
        stored = np.asarray(Image.open(tmp_path / f"masks/{case.name}.png"))
        predicted = np.asarray(Image.open(tmp_path / f"scored/predictions/{case.name}.png"))
        one, true = (predicted == 1) & (stored != IGNORED), stored == 1
        dice.append(2 * (one & true).sum() / (one.sum() + true.sum()))
    assert found.mean("dice") == pytest.approx(np.mean(dice), abs=1e-9)
    assert outcome.test["final"].mean == pytest.approx(np.mean(dice), abs=1e-9)
    assert any("val/dice" in line for line in read_lines(tmp_path / "run/metrics.jsonl"))


def test_a_label_that_is_a_class_and_ignored(recipe: Recipe, tmp_path: Path) -> None:
    changed = load_recipe(tmp_path / "mine/recipe.toml", ['data.classes=["cell", "unclear"]'])
    with pytest.raises(DataError, match=r"label 255 is 'unclear' in data.classes; loss.ignore_index leaves it out"):
        changed.build_data()


def test_a_class_number_may_be_ignored(recipe: Recipe, tmp_path: Path) -> None:
    """Below the number of classes, ignore_index is a class as the network counts them."""
    changed = load_recipe(tmp_path / "mine/recipe.toml", ["loss.ignore_index=0"]).build_data()
    assert sorted(np.unique([label.numpy() for _, label in changed.test])) == [0, 1]
    assert changed.test.ignore_index == 0
