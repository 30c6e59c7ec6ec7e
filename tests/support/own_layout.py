"""A data set of cases that are at hand, prepared, damaged and validated."""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.prepare import prepare_layout
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

CUBE = np.zeros((3, 1, 32, 32), np.float32)


def cases(**made: Case | Callable[[], Case]) -> DatasetLayout:
    """A layout of cases that are at hand; their files are empty of meaning."""

    def find(raw: Path) -> list[Source]:
        raw.mkdir(exist_ok=True)
        for name in made:
            (raw / f"{name.replace('/', '_')}.raw").write_text(name)
        return [
            Source(
                name, name, "", (raw / f"{name.replace('/', '_')}.raw",), case if callable(case) else lambda c=case: c
            )
            for name, case in made.items()
        ]

    return DatasetLayout("own", find, {1: "one", 2: "two"}, "mr", 32)


def case(seed: int, boxes: tuple[int, ...] = (1, 2), image: Any = None) -> Case:
    rng, label = np.random.default_rng(seed), np.zeros((3, 32, 32), np.uint8)
    for value in boxes:
        y, x = rng.integers(2, 20, 2)
        label[:, y : y + 4 + value, x : x + 7] = value
    noise = rng.normal(50, 9, (3, 1, 32, 32)) if image is None else image
    return Case(f"case{seed}", noise.astype(np.float32), label, (2.0, 1.0, 1.0))


def written(tmp_path: Path, **made: Any) -> Path:
    prepare_layout(cases(**made), tmp_path / "raw", tmp_path / "out", progress=False, workers=2)
    return tmp_path / "out"


def flip(path: Path, place: int = -1) -> None:
    """Turn one bit of a file, and leave its times as they were."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


TEN = {f"c{i}": case(i) for i in range(10)}


def written_ten(tmp_path: Path) -> Path:
    """Return what ``written(tmp_path, **TEN)`` does: a copy of what is prepared once."""
    shutil.copytree(_prepared_ten().name, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


@functools.cache
def _prepared_ten() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    written(Path(folder.name), **TEN)
    return folder


RECIPE = """
[data]
kind = "prepared"
root = "{root}"
classes = ["one", "two"]
size = 32

[network]
build = "monai.networks.nets:BasicUNet"

[network.args]
spatial_dims = 2
out_channels = 3
features = [4, 4, 4, 4, 4, 4]

[space]
name = "lomix"
"""


def validated(root: Path, tmp_path: Path, *overrides: str) -> Any:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(root=root))
    return validate_recipe(load_recipe(path, list(overrides)), network=False)
