"""A recipe on prepared cases that are at hand, with the network of some hundred parameters of ``tiny_recipe``."""

from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Case
from support.own_layout import case, written
from support.tiny_recipe import PARTS

RECIPE = """
[data]
kind = "prepared"
root = "{root}"
classes = ["one", "two"]
size = 32
test_fraction = 0.2

[network]
build = "parts.py:build"
args = {{ width = 4 }}

[space]
name = "deep_supervision"

[optimizer]
lr = 0.1

[search]
steps = 12
batch_size = 4
"""


def visible(seed: int) -> Case:
    """A case whose label can be seen in its image."""
    label, rng = case(seed).label, np.random.default_rng(seed)
    return case(seed, image=label[:, None] * 40 + rng.normal(50, 5, (3, 1, 32, 32)))


def prepared_recipe(folder: Path, count: int = 8, **made: Any) -> Path:
    """Prepare cases (by default ``count`` patients of three slices) and write a recipe on them; return its file."""
    root = written(folder, **(made or {f"c{i}": visible(i) for i in range(count)}))
    (folder / "parts.py").write_text(PARTS)
    (folder / "recipe.toml").write_text(RECIPE.format(root=root))
    return folder / "recipe.toml"
