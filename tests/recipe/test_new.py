"""Recipes for somebody's own data: what is seen in it, what is written, and that it runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support import twins

from lomix_search.data.manifest import read_manifest
from lomix_search.data.masks.pairing import find_pairs
from lomix_search.errors import DataError
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.own_data import look_at
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe


def scans(root: Path, count: int = 12, size: int = 70) -> tuple[Path, Path]:
    """CTs ``ann_1_0000.nii.gz`` … with masks of the values 2 and 7, two scans a patient."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label = twins.organs(rng, (size, size - 6, 4), 2)
        values = np.array([0, 2, 7], np.uint8)[label]
        hounsfield = np.where(label > 0, 100.0 * label, -900) + rng.normal(0, 5, label.shape)
        for folder, name, v in (
            ("i", f"p{i // 2}_{i % 2}_0000", hounsfield.astype(np.int16)),
            ("m", f"p{i // 2}_{i % 2}", values),
        ):
            twins.save_nifti(root / folder / f"{name}.nii.gz", v, np.diag([-1.0, -1.0, 4.0, 1.0]))
    return root / "i", root / "m"


def pictures(root: Path, count: int = 10, values: tuple[int, ...] = (255,)) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    (root / "all").mkdir(parents=True)
    for i in range(count):
        label = twins.organs(rng, (90, 100), len(values))
        Image.fromarray(twins.photo(rng, (label > 0).astype(np.uint8))).save(root / "all" / f"cell{i}.png")
        Image.fromarray(np.array([0, *values], np.uint8)[label]).save(root / "all" / f"cell{i}_mask.png")
    return root / "all", root / "all"


def quiet(*args: Any, **options: Any) -> Path:
    return new_recipe(*args, progress=False, **options)


def test_volumes(tmp_path: Path) -> None:
    images, masks = scans(tmp_path)
    look = look_at(images, masks)
    assert (look.volumes, look.scaling.intensity, look.labels, look.size) == (True, "ct", (2, 7), 70)
    assert look.scaling.window == pytest.approx((90, 210), abs=10)
    path = quiet(tmp_path / "mine", images, masks, classes=["liver", "tumour"], patient=r"(p\d+)_")
    recipe = load_recipe(path)
    assert recipe.name == "mine" and recipe.data.settings["size"] == 64 and recipe.network.args["out_channels"] == 3
    found = validate_recipe(recipe)
    found.check()
    assert [row.patients for row in found.sets] == [4, 1, 1] and [row.cases for row in found.sets] == [8, 2, 2]
    assert [c.name for c in found.classes] == ["background", "liver", "tumour"]
    head = path.read_text().splitlines()
    assert head[0].startswith("# mine: written by lomix new from 12 cases (CT, window ")
    image, label = recipe.build_data().val[0]
    assert image.shape == (1, 64, 64) and image.min() >= 0 and image.max() <= 1 and label.max() <= 2


def test_pictures_in_one_folder(tmp_path: Path) -> None:
    path = quiet(tmp_path / "cells", *pictures(tmp_path))
    recipe = load_recipe(path)
    assert recipe.data.settings["classes"] == ["foreground"] and recipe.network.args["in_channels"] == 3
    assert recipe.data.settings["size"] == 96
    validate_recipe(recipe).check()


def test_pictures_with_class_numbers(tmp_path: Path) -> None:
    path = quiet(tmp_path / "cells", *pictures(tmp_path, values=(3, 9, 4)))
    recipe = load_recipe(path)
    assert recipe.data.settings["classes"] == ["class 3", "class 4", "class 9"]
    assert read_manifest(tmp_path / "cells" / "data").labels == {3: "class 3", 4: "class 4", 9: "class 9"}
    splits = recipe.build_data()
    assert {int(v) for i in range(len(splits.train)) for v in splits.train[i][1].unique()} == {0, 1, 2, 3}


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    path = quiet(tmp_path / "mine", *scans(tmp_path))
    recipe = load_recipe(
        path, ["search.steps=2", "search.validate_every=2", "network.args.features=[4, 4, 4, 4, 4, 4]"]
    )
    outcome = run_recipe(recipe, tmp_path / "run", console=Console(quiet=True))
    assert outcome.result.mixture.num_maps >= 2


def test_nothing_is_written_over(tmp_path: Path) -> None:
    images, masks = pictures(tmp_path)
    quiet(tmp_path / "mine", images, masks)
    with pytest.raises(DataError) as error:
        quiet(tmp_path / "mine", images, masks)
    assert str(error.value) == (
        f"{tmp_path}/mine/recipe.toml exists already; nothing was written.\n  Try:  lomix new ANOTHER_FOLDER …"
    )


def test_files_without_a_partner(tmp_path: Path) -> None:
    images, masks = scans(tmp_path, count=2)
    (masks / "p0_1.nii.gz").rename(masks / "q.nii.gz")
    with pytest.raises(DataError) as error:
        find_pairs(images, masks)
    assert str(error.value) == (
        "images and masks do not pair up: 2 images, 2 masks.\n"
        f"  Seen: {images}/p0_1_0000.nii.gz has no mask\n"
        f"        {masks}/q.nii.gz has no image\n"
        "  Try:  name each mask like its image: scan7.nii.gz with scan7.nii.gz, or scan7.png with scan7_mask.png"
    )
    with pytest.raises(DataError, match="is not a folder"):
        find_pairs(tmp_path / "nowhere", masks)


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    images, masks = scans(tmp_path, count=2)
    with pytest.raises(DataError) as error:
        quiet(tmp_path / "mine", images, masks, classes=["liver"])
    assert str(error.value).startswith(
        "1 class names for 2 label values.\n  Seen: values 2, 7; names liver\n  Try:  --clas"
    )
    with pytest.raises(DataError, match="does not match the case"):
        quiet(tmp_path / "mine", images, masks, patient=r"(x\d)")


def test_empty_masks(tmp_path: Path) -> None:
    images, masks = scans(tmp_path, count=2)
    for path in masks.iterdir():
        twins.save_nifti(path, np.zeros((70, 64, 4), np.uint8), np.diag([-1.0, -1.0, 4.0, 1.0]))
    with pytest.raises(DataError, match="all masks are empty"):
        quiet(tmp_path / "mine", images, masks)
