"""Folders of images and masks of every kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lomix_search.data.manifest import read_manifest
from lomix_search.recipe.new import new_recipe

Write = Callable[[Path, NDArray[Any]], object]


def blocks(values: list[int], seed: int = 0, size: int = 40) -> NDArray[np.int64]:
    """Solid rectangles of the values on 0, all of them there."""
    rng, mask = np.random.default_rng(seed), np.zeros((size, size + 8), np.int64)
    for place, value in enumerate(rng.permutation(values)):
        row, column = divmod(place, 4)
        mask[2 + 8 * row : 8 + 8 * row, 2 + 11 * column : 10 + 11 * column] = value
    return mask


def photo(seed: int, shape: tuple[int, int] = (40, 48)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def data(root: Path, masks: list[NDArray[Any]], write: Write, ending: str = "png") -> tuple[Path, Path]:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        Image.fromarray(photo(i, mask.shape)).save(root / "images" / f"c{i}.png")
        write(root / "masks" / f"c{i}.{ending}", mask)
    return root / "images", root / "masks"


def make(root: Path, images: Path, masks: Path, **options: Any) -> dict[str, NDArray[Any]]:
    """Write the recipe; return what was prepared as label values."""
    new_recipe(root / "r", images, masks, progress=False, **options)
    cases = [case.name for case in read_manifest(root / "r" / "data").cases]
    return {name: np.load(root / "r" / "data" / "cases" / name / "label.npy")[0] for name in cases}


def save8(path: Path, mask: NDArray[Any]) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(path)


def save16(path: Path, mask: NDArray[Any]) -> None:
    Image.fromarray(mask.astype(np.uint16)).save(path)


def objects(count: int) -> NDArray[np.int64]:
    return blocks(list(range(1, count + 1)))
