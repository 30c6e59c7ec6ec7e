"""From a newcomer's folder of each layout to scores and predictions: new, validate, run, evaluate, predict."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from support import own_folders as own

from lomix_search.data.folders.new_images import find_new_images
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.predict.predict_images import predict_images
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.new import plan_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

IGNORED = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}}
REGIONS = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}
BLOCK = {"size": (16, 32, 32)}
LAYOUTS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "nnU-Net with an ignored label": (lambda root: own.nnunet(root, IGNORED, values=(1, 2, 3), ct=True), BLOCK),
    "nnU-Net with regions": (lambda root: own.nnunet(root, REGIONS, values=(1, 2, 3), channels=2), BLOCK),
    "nnU-Net with regions in 2D": (lambda root: own.nnunet(root, REGIONS, values=(1, 2, 3), channels=2), {"dims": 2}),
    "Decathlon": (own.decathlon, BLOCK),
    "NRRD": (own.nrrd_folder, BLOCK),
    "MetaImage in 2D": (own.metaimage_folder, {"dims": 2}),
    "TIFF": (own.tiff_folder, BLOCK | {"spacing": (1.5, 1, 1)}),
    "DICOM with segments": (lambda root: own.dicom_folder(root, "SEG", 3), BLOCK),
    "a folder a patient": (own.patients, BLOCK),
    "nnU-Net preprocessed": (own.preprocessed, BLOCK),
}
SMALL = ["search.steps=2", "search.batch_size=1", "search.validate_every=2", "space.operators=['add']"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_becomes_scores_and_predictions(name: str, tmp_path: Path) -> None:
    make, options = LAYOUTS[name]
    plan = plan_recipe(tmp_path / "recipe", make(tmp_path / "d"), progress=False, **options)
    path = plan.write(progress=False)
    key = "filters" if plan.decided.dims == 3 else "features"
    widths = [2] * len(load_recipe(path).network.args[key])
    recipe = load_recipe(path, [*SMALL, f"network.args.{key}={widths}"])
    validate_recipe(recipe).check()
    run_recipe(recipe, tmp_path / "run", console=Console(quiet=True))
    found = evaluate_run(tmp_path / "run")
    wanted = tuple(plan.decided.regions) or tuple(plan.decided.names.values())
    assert found.classes == wanted
    assert np.isfinite(found.matrix("dice")).any() and set(found.cases) <= set(plan.look.pairs)
    if name == "nnU-Net preprocessed":  # what nnU-Net did to the images of training is not done to others
        raw = own.nrrd_folder(tmp_path / "raw")
        faults = predict_images(tmp_path / "run", raw, tmp_path / "out").faults
        assert len(faults) == 6 and all("files that nnU-Net had cropped" in one for one in faults.values())
        shutil.rmtree(tmp_path / "out")
    images = next(
        (folder for key in ("imagesTr", "images") if (folder := tmp_path / "d" / key).is_dir()), tmp_path / "d"
    )
    made = predict_images(tmp_path / "run", images, tmp_path / "out")
    assert not made.faults and set(made.done) == set(find_new_images(images)) and len(made.done) == len(plan.look.pairs)
    affine = nib.load(next((tmp_path / "out").rglob("*.nii.gz"))).affine
    assert name == "TIFF" or np.allclose(affine, own.AFFINE)
