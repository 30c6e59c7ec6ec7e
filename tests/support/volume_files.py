"""Small volumes with labels, prepared as ``lomix prepare`` does, and a recipe that trains blocks of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.manifest import Manifest
from lomix_search.data.prepare import prepare_layout

RECIPE = """
[data]
kind = "prepared"
root = "{root}"
classes = ["one", "two"]
size = [8, 16, 12]
val_fraction = 0.2
test_fraction = 0.2

[network]
build = "monai.networks.nets:DynUNet"

[network.args]
spatial_dims = 3
in_channels = 1
out_channels = 3
kernel_size = [3, 3, 3]
strides = [1, 2, 2]
upsample_kernel_size = [2, 2]
filters = [4, 8, 8]

[optimizer]
lr = 1e-2

[search]
steps = 4
batch_size = 2
validate_every = 2
checkpoint_every = 2
"""


def volume(seed: int, shape: Sequence[int] = (10, 14, 12)) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A box of class 1 with a smaller one of class 2 in it, each brighter than what is round it."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    first = [int(rng.integers(1, n // 3)) for n in shape]
    label[tuple(slice(a, a + n // 2) for a, n in zip(first, shape, strict=True))] = 1
    label[tuple(slice(a + 1, a + max(2, n // 4)) for a, n in zip(first, shape, strict=True))] = 2
    return (rng.normal(100, 5, shape) + 60 * label).astype(np.float32), label


def layout(raw: Path, cases: Sequence[Case], **more: object) -> DatasetLayout:
    """A layout of cases in memory; each has one file, so that errors have something to name."""
    raw.mkdir(parents=True, exist_ok=True)

    def find(_: Path) -> list[Source]:
        found = []
        for case in cases:
            path = raw / f"{case.name}.bin"
            path.write_bytes(case.image.tobytes() + case.label.tobytes() + repr(case.spacing).encode())
            found.append(Source(case.name, case.patient or case.name, "", (path,), lambda case=case: case))
        return found

    kept = {"intensity": "mr", "size": 0, "dims": 3}
    return DatasetLayout("twin", find, {1: "one", 2: "two"}, **{**kept, **more})  # type: ignore[arg-type]


def cases(
    count: int = 10, spacing: tuple[float, ...] = (1.0, 1.0, 1.0), shape: Sequence[int] = (10, 14, 12)
) -> list[Case]:
    """Cases of slightly different sizes."""
    made = []
    for number in range(count):
        image, label = volume(number, [n + number % 3 for n in shape])
        made.append(Case(f"c{number}", image[:, None], label, spacing))
    return made


def prepared(home: Path, given: Sequence[Case] | None = None, **more: object) -> tuple[Path, Manifest]:
    """Prepare cases below ``home``; return the folder and its manifest."""
    known = cases() if given is None else [replace(case) for case in given]
    manifest = prepare_layout(
        layout(home / "raw", known, **more), home / "raw", home / "out", workers=1, progress=False
    )
    return home / "out", manifest


def volume_recipe(home: Path, root: Path) -> Path:
    """Write a recipe of blocks beside the data."""
    path = home / "recipe.toml"
    path.write_text(RECIPE.format(root=root))
    return path
