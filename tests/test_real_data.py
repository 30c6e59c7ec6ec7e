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

from lomix_search.checkpoint import read_tensors
from lomix_search.data.prepare import prepare
from lomix_search.new import new_recipe
from lomix_search.recipe import Recipe, load_recipe
from lomix_search.run import run_recipe
from lomix_search.shelf import shelved
from lomix_search.track import read_lines
from lomix_search.typed import to_toml
from lomix_search.validate import validate_recipe

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
        for name in (images, masks):
            copied(sorted((DATA / name).iterdir())[:count], home / "raw" / Path(name).name)
        path = new_recipe(home / "own", home / "raw" / Path(images).name, home / "raw" / Path(masks).name)
        return small(path, home, {})

    return make


def shipped(name: str, raw: Callable[[Path], None], size: int, data: dict[str, Any]) -> Callable[[Path], Recipe]:
    """Return what makes a shipped recipe with a smaller network, on prepared raw files."""

    def make(home: Path) -> Recipe:
        raw(home / "raw")
        prepare(name, home / "raw", home / "data", size=size)
        return small(shelved("recipes")[name], home, {"root": str(home / "data"), "size": size, **data})

    return make


def small(path: Path, home: Path, data: dict[str, Any]) -> Recipe:
    content = tomllib.loads(path.read_text())
    content["data"] |= data
    classes = len(content["data"]["classes"])
    channels = content["network"]["args"].get("out_channels", classes + 1)
    inputs = load_recipe(
        path, [f'data.root="{content["data"]["root"]}"', f"data.size={content['data']['size']}"]
    ).build_data()
    content["network"] = {
        "build": "monai.networks.nets:BasicUNet",
        "args": SMALL | {"in_channels": inputs.channels, "out_channels": channels},
    }
    content["search"] |= STEPS
    content["optimizer"] = {"lr": 0.003}
    content["evaluate"] = {"protocol": content["evaluate"]["protocol"]}
    content.pop("tune", None)
    folder = home / "recipe"
    shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns("data"))
    (folder / "recipe.toml").write_text(to_toml(content))
    return load_recipe(folder / "recipe.toml")


def polyps(raw: Path) -> None:
    sets = {"TrainDataset": 60, "TestDataset/Kvasir": 10, "TestDataset/CVC-ClinicDB": 10}
    for name, count in sets.items():
        kinds = sorted(path for path in (DATA / "polyp" / name).iterdir() if path.is_dir())
        for kind in kinds:
            files = sorted(kind.iterdir())
            copied(files[:: max(1, len(files) // count)][:count], raw / name / kind.name)


def lesions(raw: Path) -> None:
    for image in sorted((DATA / "isic2018").glob("*.jpg"))[:60]:
        copied([image, image.with_name(f"{image.stem}_segmentation.png")], raw)


def hearts(raw: Path) -> None:
    patients = [1, 2, 3, 4, 5, 6, 7, 8, 19, 21]  # by the recipe's split: train, test and validation
    copied([p for n in patients for p in sorted((DATA / "acdc").glob(f"case_{n:03d}_*.npz"))], raw)


SETS: dict[str, Callable[[Path], Recipe]] = {
    "nuclei": own("nuclei/images", "nuclei/masks", 60),
    "hippocampus": own("hippocampus/images", "hippocampus/labels", 24),
    "polyp": shipped("polyp", polyps, 256, {}),
    "isic2018": shipped("isic2018", lesions, 176, {"split": "random"}),
    "acdc": shipped("acdc", hearts, 128, {}),
}


def by_hand(folder: Path, recipe: Recipe, names: Sequence[str]) -> float:
    """Return the mean Dice over classes of means over cases, of files and the prepared labels at native size."""
    root, dice = Path(recipe.data.settings["root"]), []
    for name in names:
        label = np.load(root / "cases" / name / "label.npy")
        picture = folder / "predictions" / f"{name}.png"
        if picture.exists():
            predicted = np.asarray(Image.open(picture))[None]
        else:
            image = nib.as_closest_canonical(nib.load(folder / "predictions" / f"{name}.nii.gz"))
            predicted = np.asarray(image.dataobj).transpose(2, 1, 0)
        assert predicted.shape == label.shape
        values = [v for v in np.unique(label) if v] or [1]
        values = range(1, len(recipe.data.settings["classes"]) + 1) if len(values) < 2 else values
        scores = []
        for value in range(1, len(recipe.data.settings["classes"]) + 1):
            one, true = predicted == (255 if predicted.max() == 255 else value), label == value
            scores.append(2 * (one & true).sum() / (one.sum() + true.sum()) if one.any() or true.any() else np.nan)
        dice.append(scores)
    return float(np.nanmean(np.nanmean(np.array(dice), 0)))


@pytest.mark.parametrize("name", SETS)
def test_from_files_to_scores(name: str, tmp_path: Path) -> None:
    recipe = SETS[name](tmp_path)
    assert validate_recipe(recipe).faults == ()
    outcome = run_recipe(recipe, tmp_path / "run")
    validated = [line["val/dice"] for line in read_lines(tmp_path / "run/metrics.jsonl") if "val/dice" in line]
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
