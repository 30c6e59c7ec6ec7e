"""Somebody's raw images and masks in two folders, whose masks can be guessed from the images, and runs on them."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from PIL import Image

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import picture_source
from lomix_search.data.prepare import prepare_layout
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.utils.toml import to_toml
from support.brain import NETWORK
from support.undrawn import undrawn

AFFINE = np.array([[0, -0.9, 0, 11.0], [0.8, 0, 0, -7.0], [0, 0, -4.0, 3.0], [0, 0, 0, 1]])  # axes swapped and flipped
SMALL = ["search.steps=30", "search.batch_size=4", "optimizer.lr=0.03", "search.validate_every=30",
         "space.name=deep_supervision"]  # fmt: skip


def nifti_folders(root: Path, count: int = 6, slices: int = 3) -> tuple[Path, Path]:
    """MR volumes of several sizes, int16, on a turned grid; masks of values 2 and 7."""
    images, masks = root / "images", root / "masks"
    images.mkdir(parents=True), masks.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        label = np.zeros((28 + 4 * number, 36, slices), np.uint8)
        label[6:16, 5:20] = 2
        label[17:24, 22:30] = 7
        values = label * 60 + rng.normal(200, 10, label.shape)
        for folder, array in ((images, values.astype(np.int16)), (masks, label)):
            file = nib.Nifti1Image(array, AFFINE)
            file.header.set_xyzt_units("mm")
            nib.save(file, folder / f"p{number}.nii.gz")
    return images, masks


def picture_folders(root: Path, count: int = 6) -> tuple[Path, Path]:
    """Colour pictures of several sizes; masks of 0 and 255."""
    images, masks = root / "images", root / "masks"
    images.mkdir(parents=True), masks.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        mask = np.zeros((30 + 3 * number, 44), np.uint8)
        mask[5:20, 8 : 20 + 2 * number] = 255
        colours = rng.integers(40, 90, (*mask.shape, 3)) + (mask[..., None] > 0) * 120
        Image.fromarray(colours.astype(np.uint8)).save(images / f"c {number}.png")
        Image.fromarray(mask).save(masks / f"c {number}.png")
    return images, masks


def run_on(root: Path, images: Path, masks: Path, *changes: str, dims: Literal[2, 3] = 2) -> Path:
    """Prepare the data, run a small recipe on them, and return the run's folder ``root/run``."""
    volumes = next(images.iterdir()).suffix == ".gz"

    def find(_: Path) -> list[Source]:
        pairs = {path.name.partition(".")[0]: (path, masks / path.name) for path in sorted(images.iterdir())}
        if not volumes:
            return [picture_source(name, "", image, (mask,)) for name, (image, mask) in pairs.items()]
        return [Source(name, name, "", pair, partial(read_nifti_pair, name, *pair)) for name, pair in pairs.items()]

    labels = {2: "two", 7: "seven"} if volumes else {1: "object"}
    layout = DatasetLayout("blobs", find, labels, "mr" if volumes else "picture", 32, dims=dims)
    network = {"channels": 1 if volumes else 3, "classes": 1 + len(labels), "dims": dims}
    data = {"classes": list(labels.values())} | ({"size": [8, 16, 16]} if dims == 3 else {})
    return run_layout(root, layout, data, network, *changes)


def run_layout(root: Path, layout: DatasetLayout, data: dict[str, Any], network: dict[str, int], *changes: str) -> Path:
    """Prepare what a layout finds, run a small recipe on it, and return the run's folder ``root/run``."""
    prepare_layout(layout, root, root / "data", progress=False, workers=1)
    content = {
        "data": {"kind": "prepared", "root": str(root / "data"), "test_fraction": 0.3, **data},
        "network": {"build": "network.py:build", "args": network},
    }
    (root / "network.py").write_text(NETWORK)
    (root / "recipe.toml").write_text(to_toml(content))
    with undrawn():
        run_recipe(load_recipe(root / "recipe.toml", [*SMALL, *changes]), root / "run")
    return root / "run"
