"""A recipe that runs in a fraction of a second: 16 × 16 pictures of shapes, a network of some hundred parameters."""

from collections.abc import Sequence
from pathlib import Path

from lomix_search.recipe.recipe import Recipe, load_recipe

PARTS = """
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lomix_search.data.dataset import Slices, Splits


def data(wait=0.0):
    draw = np.random.default_rng(0)
    labels = np.zeros((12, 16, 16), np.int64)
    for label in labels:
        y, x = draw.integers(0, 10, 2)
        label[y : y + 6, x : x + 6] = 1
        y, x = draw.integers(0, 12, 2)
        label[y : y + 3, x : x + 3] = 2
    images = (labels + draw.normal(0, 0.1, labels.shape)).astype(np.float32)[:, None]

    def slowly(image, label):
        if wait:
            time.sleep(wait)
        return image, label

    def part(start, stop, augment=None):
        cases = [f"case{i}" for i in range(start, stop)]
        return Slices(images[start:stop], labels[start:stop], cases, num_classes=3, augment=augment)

    return Splits(part(0, 8, slowly), part(8, 10), part(10, 12), ("background", "large", "small"), 1)


class Tiny(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down = nn.ModuleList([conv(1, width), conv(width, 2 * width), conv(2 * width, 2 * width)])
        self.up = nn.ModuleList([conv(4 * width, 2 * width), conv(3 * width, width)])
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.head(x)


def conv(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())


def build(width=8):
    if width == 13:
        raise ZeroDivisionError("thirteen")
    return Tiny(width)
"""
RECIPE = """
[data]
kind = "parts.py:data"
wait = 0.0

[network]
build = "parts.py:build"

[network.args]
width = 8

[space]
name = "deep_supervision"

[loss]
ce = 0.5

[optimizer]
lr = 0.03

[search]
steps = 4
batch_size = 4
validate_every = 2
checkpoint_every = 100

[tune.ranges."optimizer.lr"]
low = 1e-4
high = 1e-1
log = true

[tune.ranges."loss.dice"]
low = 0.1
high = 0.9
"""


def write_tiny(folder: Path) -> Path:
    """Write the recipe's folder; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts.py").write_text(PARTS)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def tiny(folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load the recipe from a folder that it is first written to."""
    return load_recipe(write_tiny(folder), overrides)
