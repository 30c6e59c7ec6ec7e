"""Small heads with a tumour of nested parts, in four channels, as files of nnU-Net's layout; a recipe for them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lomix_search.data.case import Case
from lomix_search.data.prepare import prepare_layout
from lomix_search.recipe.recipe import Recipe, load_recipe
from support.own_layout import cases

LABELS = {1: "edema", 2: "necrosis", 3: "enhancing"}
REGIONS = {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
MODALITIES = ("T1", "T1c", "T2", "FLAIR")
_SHOWS = np.array([[0, 1, 1, 3], [0, 1, 1, 4], [0, 3, 2, 1], [0, 2, 2, 2]], np.float32)  # brightness by channel, label


def head(seed: int, slices: int = 6, size: int = 32, ignored: int | None = None) -> tuple[Any, Any]:
    """Return an image (4, slices, rows, columns) and labels 0 … 3, nested; in a corner ``ignored`` if given."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*map(np.arange, (slices, size, size)), indexing="ij")
    centre = (slices / 2, *rng.uniform(0.4 * size, 0.6 * size, 2))
    away = np.sqrt(((z - centre[0]) * size / slices / 1.5) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    radii = np.sort(rng.uniform(0.15, 0.4, 3))[::-1] * size
    label = sum((away < radius).astype(np.uint8) for radius in radii)
    image = _SHOWS[:, label] + rng.normal(0, 0.3, (4, *label.shape)).astype(np.float32)
    if ignored is not None:
        label[:, :4, :4] = ignored
    return image, label


def write_brain(folder: Path, number: int = 8, ignored: int | None = None, **shape: int) -> Path:
    """Write a raw folder in nnU-Net's layout, with regions in its dataset.json."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    for seed in range(number):
        image, label = head(seed, ignored=ignored, **shape)
        for channel, values in enumerate(image):
            path = folder / "imagesTr" / f"head_{seed:03}_{channel:04}.nii.gz"
            nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), affine), path)
        nib.save(nib.Nifti1Image(label.transpose(2, 1, 0), affine), folder / "labelsTr" / f"head_{seed:03}.nii.gz")
    labels: dict[str, Any] = {"background": 0, **{name: list(values) for name, values in REGIONS.items()}}
    content = {
        "channel_names": {str(i): name for i, name in enumerate(MODALITIES)},
        "labels": labels | ({} if ignored is None else {"ignore": ignored}),
        "regions_class_order": [1, 2, 3],
        "numTraining": number,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F


class Tiny(nn.Module):
    def __init__(self, channels, classes, dims, width):
        super().__init__()
        self.dims = dims
        self.down = nn.ModuleList([conv(dims, a, b) for a, b in ((channels, width), (width, width), (width, width))])
        self.up = nn.ModuleList([conv(dims, 2 * width, width) for _ in range(2)])
        self.head = (nn.Conv2d if dims == 2 else nn.Conv3d)(width, classes, 1)

    def forward(self, x):
        skips = []
        pool = F.max_pool2d if self.dims == 2 else F.max_pool3d
        for i, down in enumerate(self.down):
            x = down(pool(x, 2) if i else x)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.head(x)


def conv(dims, inside, outside):
    return nn.Sequential((nn.Conv2d if dims == 2 else nn.Conv3d)(inside, outside, 3, padding=1), nn.ReLU())


def build(channels=4, classes=3, dims=2, width=8):
    return Tiny(channels, classes, dims, width)
"""
RECIPE = """
[data]
kind = "prepared"
root = "{root}"
augment = "none"
val_fraction = 0.2
test_fraction = 0.2

[network]
build = "network.py:build"

[space]
name = "deep_supervision"

[optimizer]
lr = 0.03

[search]
steps = 4
batch_size = 4
validate_every = 2
checkpoint_every = 2
"""


def brain_recipe(folder: Path, root: Path, changes: Sequence[str] = ()) -> Recipe:
    """Write a recipe for prepared data and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.py").write_text(NETWORK)
    (folder / "recipe.toml").write_text(RECIPE.format(root=root))
    return load_recipe(folder, changes)


def prepared_brain(folder: Path, number: int = 8, ignored: int | None = None, **known: Any) -> Path:
    """Prepare the same heads, as slices of 32 × 32; ``known`` is what their layout says besides."""

    def one(seed: int) -> Case:
        image, label = head(seed, ignored=ignored)
        return Case(f"head_{seed:03}", image.swapaxes(0, 1), label, (2.0, 1.0, 1.0))

    folder.mkdir(exist_ok=True)
    layout = cases(**{f"head_{seed:03}": partial(one, seed) for seed in range(number)})
    options = {"regions": REGIONS, "modalities": MODALITIES, "ignore": ignored, "labels": LABELS} | known
    prepare_layout(replace(layout, **options), folder / "raw", folder / "out", progress=False, workers=2)
    return folder / "out"
