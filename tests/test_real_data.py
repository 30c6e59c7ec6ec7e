"""Public data sets in their users' layouts, from files to scores: prepare or new, validate, run, evaluate.

Validation while training, ``evaluate`` on the validation cases, and a Dice counted here by hand from the files that
``evaluate`` wrote and the raw labels must agree.
"""

import os
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lomix_search.data.prepare import prepare
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.validate import validate_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.toml import to_toml

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

DATA = Path(os.environ.get("LOMIX_DATA", "nowhere"))
SMALL = {"spatial_dims": 2, "features": [8, 8, 16, 16, 32, 8]}
STEPS = {"steps": 30, "batch_size": 4, "validate_every": 15, "checkpoint_every": 30, "workers": 0}


def copied(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)


def own(images: str, masks: str, count: int) -> Callable[[Path], Recipe]:
    """Return what makes a recipe with ``lomix new``."""

    def make(home: Path) -> Recipe:
        files = [path for path in sorted((DATA / images).iterdir()) if (DATA / masks / path.name).exists()][:count]
        raw = home / "raw"
        copied(files, raw / "images")
        copied([DATA / masks / path.name for path in files], raw / "masks")
        return small(new_recipe(home / "own", raw / "images", raw / "masks", dims=2), home, {}, None)

    return make


def shipped(
    name: str, raw: Callable[[Path], None], size: int, split: dict[str, list[str]] | None
) -> Callable[[Path], Recipe]:
    """Return what makes a shipped recipe with a smaller network, on prepared raw files of which some are there."""

    def make(home: Path) -> Recipe:
        raw(home / "raw")
        prepare(name, home / "raw", home / "data", size=size)
        data = {"root": str(home / "data"), "size": size, **({} if split else {"split": "random"})}
        return small(shipped_files("recipes")[name], home, data, split)

    return make


def small(path: Path, home: Path, data: dict[str, Any], split: dict[str, list[str]] | None) -> Recipe:
    """Copy a recipe, and change what makes it run in seconds."""
    content, folder = tomllib.loads(path.read_text()), home / "recipe"
    content["data"] |= data
    given = content["network"]["args"]
    channels = given.get("in_channels", 1 if "acdc" in str(path) else 3)
    outputs = given.get("out_channels", len(content["data"]["classes"]) + 1)
    args = SMALL | {"in_channels": channels, "out_channels": outputs}
    content["network"] = {"build": "monai.networks.nets:BasicUNet", "args": args}
    content["search"] |= STEPS
    content["optimizer"] = {"lr": 0.003}
    content.pop("tune", None)
    folder.mkdir()
    (folder / "recipe.toml").write_text(to_toml(content))
    if split is not None:
        (folder / "split.toml").write_text(to_toml({"source": "the recipe's, of what is there", **split}))
    return load_recipe(folder / "recipe.toml")


def polyps(raw: Path) -> None:
    sets = {"TrainDataset": 60, "TestDataset/Kvasir": 10, "TestDataset/CVC-ClinicDB": 10}
    for name, count in sets.items():
        for kind in sorted(path for path in (DATA / "polyp" / name).iterdir() if path.is_dir()):
            files = sorted(kind.iterdir())
            copied(files[:: max(1, len(files) // count)][:count], raw / name / kind.name)


def lesions(raw: Path) -> None:
    for image in sorted((DATA / "isic2018").glob("*.jpg"))[:60]:
        copied([image, image.with_name(f"{image.stem}_segmentation.png")], raw)


HEARTS = {"train": [1, 4, 5, 6, 7], "val": [19, 21], "test": [2, 3]}  # by the recipe's split


def hearts(raw: Path) -> None:
    for numbers in HEARTS.values():
        copied([path for n in numbers for path in sorted((DATA / "acdc").glob(f"case_{n:03d}_*.npz"))], raw)


PATIENTS = {key: [f"patient{n:03d}" for n in numbers] for key, numbers in HEARTS.items()}
SETS: dict[str, Callable[[Path], Recipe]] = {
    "nuclei": own("nuclei/images", "nuclei/masks", 60),
    "hippocampus": own("hippocampus/images", "hippocampus/labels", 24),
    "polyp": shipped("polyp", polyps, 256, {"train": ["train/*"], "test": ["CVC-ClinicDB/*", "Kvasir/*"]}),
    "isic2018": shipped("isic2018", lesions, 176, None),
    "acdc": shipped("acdc", hearts, 128, PATIENTS),
}


def by_hand(folder: Path, recipe: Recipe, names: Sequence[str]) -> float:
    """Count the Dice of files that ``evaluate`` wrote against the prepared labels at native size.

    Returns:
        The mean over classes of the means over cases.
    """
    root, classes = Path(recipe.data.settings["root"]), len(recipe.data.settings["classes"])
    dice = np.full((len(names), classes), np.nan)
    for row, name in enumerate(names):
        label = np.load(root / "cases" / name / "label.npy")
        picture = folder / "predictions" / f"{name}.png"
        if picture.exists():
            predicted = np.asarray(Image.open(picture))[None]
        else:
            image = nib.as_closest_canonical(nib.load(folder / "predictions" / f"{name}.nii.gz"))
            predicted = np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]  # rows go back, columns left
        for number in range(classes):
            one, true = (values > 0 if classes == 1 else values == number + 1 for values in (predicted, label))
            if one.any() or true.any():
                dice[row, number] = 2 * (one & true).sum() / (one.sum() + true.sum())
    return float(np.nanmean(np.nanmean(dice, 0)))


@pytest.mark.parametrize("name", SETS)
def test_from_files_to_scores(name: str, tmp_path: Path) -> None:
    recipe = SETS[name](tmp_path)
    assert validate_recipe(recipe).faults == ()
    outcome = run_recipe(recipe, tmp_path / "run")
    validated = [line["val/dice"] for line in read_lines(tmp_path / "run/metrics.jsonl") if "val/dice" in line]
    recipe = recipe.override({"evaluate.protocol": "strict"})  # the others have ways of their own, by name
    splits, network = recipe.build_data(), recipe.build_network()
    network.load_state_dict(read_tensors(tmp_path / "run/final.pt"))
    found = recipe.score(network, splits, "val", save=tmp_path / "scored", progress=False)
    evaluated = np.nanmean([found.per_class("dice")[c] for c in found.classes])
    counted = by_hand(tmp_path / "scored", recipe, [case.name for case in splits.volumes["val"]])
    print(f"{name}: in training {validated[-1]:.5f}, evaluate {evaluated:.5f}, by hand {counted:.5f}")
    assert evaluated == pytest.approx(validated[-1], abs=1e-3)
    assert counted == pytest.approx(validated[-1], abs=1e-3)
    tested = recipe.score(network, splits, "test", progress=False).mean("dice")
    assert tested == pytest.approx(outcome.test["final"].mean, abs=1e-3)
