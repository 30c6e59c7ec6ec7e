"""The embedded chest CT: one real patient, read from the package ``slicerio``.

It shows training on real anatomy; one patient does not measure generalisation, and whoever prints a number from it says
so.

Source: ``slicerio/data/CTChest4.nrrd`` (128 × 128 × 34 voxels of 3.05 × 3.05 × 10 mm, int32 Hounsfield units) and
``Segmentation.seg.nrrd`` of slicerio 1.4 (MIT licence).
"""

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, field_validator

from lomix_search.data.augment import augmentation
from lomix_search.data.case import Case
from lomix_search.data.dataset import Slices, Splits
from lomix_search.data.readers.guard import readable
from lomix_search.errors import DataError, MissingExtraError, require
from lomix_search.utils.schema import Frozen

CASE = "CTChest4"
CLASSES = ("background", "ribs", "spine", "right lung", "left lung", "soft tissue")
HOUNSFIELD = (-1000.0, 1000.0)  # air … dense bone; the padding of −3024 becomes air

TRAIN = (*range(15), *range(23, 34))  # slices 15 and 22 are dropped: they lie next to the test slices
TEST = tuple(range(16, 22))

# Names in the segmentation's header → ours. The spine comes in three parts.
_CLASS_OF = {
    "ribs": "ribs",
    "cervical vertebral column": "spine",
    "thoracic vertebral column": "spine",
    "lumbar vertebral column": "spine",
    "right lung": "right lung",
    "left lung": "left lung",
    "tissue": "soft tissue",
}


class ChestCTSettings(Frozen):
    """Keys of ``[data]`` for this kind.

    Args:
        augment: Augmentation of the training slices.
        validation_slices: Taken out of the training slices. One block that holds all classes: its inside has no
            neighbour in training.
        regions: Regions that may overlap, each with names of classes, in the order of the network's channels
            (multi-label); classes are learned when left out.
        gap: So many training slices on either side of the block are dropped: neighbours 10 mm apart look alike.
    """

    augment: Literal["none", "chest_ct", "paper"] = "chest_ct"
    validation_slices: tuple[Annotated[int, Field(ge=0, le=33)], ...] = (25, 26, 27, 28)
    gap: Annotated[int, Field(ge=0, le=5)] = 1
    regions: dict[str, tuple[StrictInt | str, ...]] | None = None

    @field_validator("validation_slices")
    @classmethod
    def _of_training(cls, slices: tuple[int, ...]) -> tuple[int, ...]:
        if bad := [s for s in slices if s not in TRAIN]:
            raise ValueError(f"slice {', '.join(map(str, bad))} is a test slice or next to one; take 0–14 or 23–33")
        if not slices:
            raise ValueError("at least one slice, e.g. [25, 26, 27, 28]")
        return slices


def load_chest_ct(settings: ChestCTSettings, ignore_index: int | None = None) -> Splits:
    """Read the CT and cut it into slices.

    Args:
        settings: Keys of ``[data]``.
        ignore_index: Number of a class whose pixels count nowhere.

    Returns:
        Train, validation and test slices: images (1, 128, 128) in [0, 1], rows front to back, columns from the
        patient's right to left, as radiologists look at them.

    Raises:
        MissingExtraError: the package that holds the CT, or the one that reads it, is not installed.
        DataError: the files are not what they were in slicerio 1.4.
    """
    image, label, spacing = read_chest_ct()

    def subset(slices: tuple[int, ...], augment: str) -> Slices:
        index = list(slices)
        return Slices(
            image[index, None],
            label[index],
            [CASE] * len(index),
            num_classes=len(CLASSES),
            names=[f"CTChest4.nrrd, slice {s}" for s in index],
            ignore_index=ignore_index,
            augment=augmentation(augment),
        )

    val = settings.validation_slices
    near = {s + d for s in val for d in range(-settings.gap, settings.gap + 1)}
    train = tuple(s for s in TRAIN if s not in near)
    if not train:
        raise DataError(
            "chest_ct: no training slices are left.", hint="data.validation_slices=[25,26,27,28] data.gap=1"
        )

    def volume(slices: tuple[int, ...]) -> list[Case]:
        return [Case(CASE, image[list(slices), None], label[list(slices)], spacing)]

    sets = subset(train, settings.augment), subset(val, "none"), subset(TEST, "none")
    splits = Splits(*sets, CLASSES, 1, spacing, {"val": volume(val), "test": volume(TEST)}, ignore_index=ignore_index)
    return splits if settings.regions is None else splits.with_regions(settings.regions)


def read_chest_ct() -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[float, float, float]]:
    """Read the whole volume.

    Returns:
        The image, (34, 128, 128) in [0, 1]; the label, same shape, numbers of ``CLASSES``; the spacing in mm of
        slices, rows and columns.

    Raises:
        MissingExtraError: slicerio or pynrrd is not installed.
        DataError: the segmentation does not lie on the image's grid, or names other structures.
    """
    nrrd, folder = require("nrrd", "demo"), _folder()
    hounsfield, head = _volume(nrrd, folder / "CTChest4.nrrd")
    segments, segment_head = _volume(nrrd, folder / "Segmentation.seg.nrrd")
    _check_grid(head, segment_head)
    low, high = HOUNSFIELD
    image = (np.clip(hounsfield, low, high) - low) / (high - low)
    directions = np.asarray(head["space directions"])
    x, y, z = np.linalg.norm(directions, axis=1).tolist()
    table = _class_table(segment_head)
    if unknown := sorted(set(np.unique(segments).tolist()) - {0, *np.flatnonzero(table).tolist()}):
        raise DataError(
            f"{folder / 'Segmentation.seg.nrrd'}: label {unknown[0]} has no name.",
            seen=f"labels {unknown}",
            hint="pip install --force-reinstall slicerio==1.4.0",
        )
    label = table[segments]
    return _orient(image, directions).astype(np.float32), _orient(label, directions).astype(np.uint8), (z, y, x)


def _volume(nrrd: Any, path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    with readable(path):
        values, head = nrrd.read(str(path))
        for key in ("space", "sizes", "space directions", "space origin"):
            if key not in head:
                raise ValueError(f"its header has no {key}")
    if values.ndim != 3 or values.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {values.dtype} of {values.ndim} axes; need whole numbers on 3 axes.",
            hint="pip install --force-reinstall slicerio==1.4.0",
        )
    return values, head


def _folder() -> Path:
    found = importlib.util.find_spec("slicerio")
    if found is None or found.origin is None:
        raise MissingExtraError(
            "the embedded CT lies in the package slicerio, which is not installed.",
            hint='pip install "lomix-search[demo]"',
        )
    return Path(found.origin).parent / "data"


def _check_grid(image: dict[str, Any], label: dict[str, Any]) -> None:
    """Both files must share one grid, else labels would lie beside what they mean."""
    for key in ("space", "sizes", "space directions", "space origin"):
        if not _same(image[key], label[key]):
            raise DataError(
                "Segmentation.seg.nrrd does not lie on the grid of CTChest4.nrrd.",
                seen=f"{key}: {image[key]} and {label[key]}",
                hint='pip install "slicerio>=1.4,<2"',
            )


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) if isinstance(one, str) else bool(np.allclose(one, other, atol=1e-3))


def _class_table(head: dict[str, Any]) -> NDArray[np.uint8]:
    """Return our class number for each label value, from the names in the header."""
    named: dict[int, str] = {}
    while (key := f"Segment{len(named)}_Name") in head:
        named[int(head[f"Segment{len(named)}_LabelValue"])] = head[key]
    if sorted(named.values()) != sorted(_CLASS_OF):
        raise DataError(
            "Segmentation.seg.nrrd names other structures than expected.",
            seen=", ".join(named.values()),
            hint="pip install --force-reinstall slicerio==1.4.0",
        )
    table = np.zeros(max(named) + 1, np.uint8)
    for value, name in named.items():
        table[value] = CLASSES.index(_CLASS_OF[name])
    return table


def _orient(volume: NDArray[Any], directions: NDArray[Any]) -> NDArray[Any]:
    """Turn axes (x, y, z) of a left-posterior-superior grid into (slice, row, column), each in its positive sense."""
    positive = volume[tuple(slice(None, None, -1 if directions[a, a] < 0 else 1) for a in range(3))]
    return np.ascontiguousarray(positive.transpose(2, 1, 0))
