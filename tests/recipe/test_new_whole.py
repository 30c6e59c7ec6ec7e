"""From somebody's masks to prepared data and back: predictions carry the values of the user's own files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.mask_files import Write, blocks, data, make, objects, save8, save16
from support.picture_files import tiff

from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.prediction_files import save_prediction
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

VALUES: dict[str, tuple[list[int], Write, str]] = {
    "0/1": ([1], save8, "png"),
    "0/100": ([100], save8, "png"),
    "0/255": ([255], save8, "png"),
    "1/7": ([7], lambda path, mask: save8(path, np.maximum(mask, 1)), "png"),
    "0/100000": ([100_000], lambda path, mask: tiff(path, mask.astype(np.int32)), "tif"),
    "sparse and above 255": ([41, 42, 300], save16, "png"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_perfect_prediction_is_the_users_mask(name: str, tmp_path: Path) -> None:
    values, write, ending = VALUES[name]
    images, masks = data(tmp_path, [blocks(values, seed) for seed in range(4)], write, ending)
    new_recipe(tmp_path / "r", images, masks, progress=False)
    recipe = load_recipe(tmp_path / "r" / "recipe.toml")
    validate_recipe(recipe, network=False).check()
    splits = recipe.build_data()
    for case in (*splits.volumes["val"], *splits.volumes["test"]):
        path = save_prediction(tmp_path / "p", case, Prediction(case.label), len(splits.classes))
        with Image.open(path) as written, Image.open(masks / f"{case.name}.{ending}") as own:
            np.testing.assert_array_equal(np.asarray(written), np.asarray(own))


def test_another_reading_prepares_anew(tmp_path: Path) -> None:
    """What an earlier decision about the masks left in the folder is not taken for this one's."""
    found: Any = data(tmp_path, [objects(12), objects(5), objects(3)], save8)
    make(tmp_path, *found, classes=[f"object {i}" for i in range(12)])
    (tmp_path / "r" / "recipe.toml").unlink()
    labels = make(tmp_path, *found, binary=True)
    np.testing.assert_array_equal(labels["c0"], objects(12) > 0)


def test_a_perfect_prediction_of_coloured_masks_has_their_colours(tmp_path: Path) -> None:
    table = np.array([(0, 0, 0), (200, 30, 0), (0, 90, 255)], np.uint8)
    images, masks = data(tmp_path, [blocks([1, 2], seed) for seed in range(4)], lambda p, m: save8(p, table[m]))
    new_recipe(tmp_path / "r", images, masks, progress=False)
    splits = load_recipe(tmp_path / "r" / "recipe.toml").build_data()
    for case in (*splits.volumes["val"], *splits.volumes["test"]):
        path = save_prediction(tmp_path / "p", case, Prediction(case.label), len(splits.classes))
        with Image.open(path) as written, Image.open(masks / f"{case.name}.png") as own:
            assert written.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(written), np.asarray(own))
