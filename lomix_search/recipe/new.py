"""``lomix new``: look at somebody's images and masks, and write a recipe that works on them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.manifest import Manifest
from lomix_search.data.masks.mask_file import open_mask
from lomix_search.data.masks.picture_pair import check_sizes
from lomix_search.data.prepare import prepare_layout
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.readers.picture_file import read_intensities
from lomix_search.errors import DataError
from lomix_search.recipe.own_data import Look, all_of, look_at, tried
from lomix_search.utils.files import write_text
from lomix_search.utils.toml import to_toml


def new_recipe(
    folder: str | Path,
    images: str | Path,
    masks: str | Path,
    *,
    classes: Sequence[str] = (),
    patient: str = "",
    size: int | None = None,
    binary: bool = False,
    progress: bool = True,
) -> Path:
    """Write a recipe for one's own data, and prepare the data beside it.

    Args:
        folder: Where the recipe goes; made when missing. A recipe that is there already is never written over.
        images: Folder of images: NIfTI, or pictures.
        masks: Folder of masks, each named like its image (``_mask``, ``_seg``, ``_label`` and the like may follow).
        classes: Names of the label values in ascending order; ``class 1`` … when left out.
        patient: Regular expression whose first group is the patient in a case's name; each case is one when left out.
        size: Rows and columns for training; chosen from the images when left out.
        binary: Take all label values above the lowest as one foreground, and cut soft edges halfway.
        progress: Show progress bars.

    Returns:
        The recipe's file.

    Raises:
        DataError: files do not pair up, cannot be read or do not fit each other; all of them are named.
    """
    home = Path(folder)
    if (home / "recipe.toml").exists():
        raise DataError(
            f"{home / 'recipe.toml'} exists already; nothing was written.", hint="lomix new ANOTHER_FOLDER …"
        )
    look = look_at(Path(images), Path(masks), progress, binary=binary, named=len(classes))
    names, patients = _named(look, classes, patient)
    layout = _layout(look, names, patients, _size(look.size) if size is None else size)
    manifest = prepare_layout(layout, Path(images), home / "data", progress=progress)
    write_text(home / "recipe.toml", _recipe(home, look, manifest, names))
    return home / "recipe.toml"


def _named(look: Look, given: Sequence[str], pattern: str) -> tuple[dict[int, str], dict[str, str]]:
    """Return the names of the label values and each case's patient, or raise all faults."""
    faults: list[DataError] = []
    names = tried(lambda: _names(look, given), faults)
    patients = {name: tried(partial(_patient, name, pattern), faults) for name in look.pairs}
    if names is None or faults:
        raise all_of(faults, len(look.pairs))
    return names, {name: patient for name, patient in patients.items() if patient is not None}


def _layout(look: Look, names: Mapping[int, str], patients: Mapping[str, str], size: int) -> DatasetLayout:
    def find(raw: Path) -> list[Source]:
        return [
            Source(name, patients[name], "", pair, partial(_read, name, pair, look), look.coding.reading)
            for name, pair in look.pairs.items()
        ]

    return DatasetLayout("own", find, dict(names), look.scaling.intensity, size, window=look.scaling.window)


def _read(name: str, pair: tuple[Path, Path], look: Look) -> Case:
    """Read a pair as it was looked at."""
    image, mask = pair
    if look.volumes:
        case = read_nifti_pair(name, image, mask)
        return replace(case, label=look.coding.apply(case.label, mask), origin=dict(case.origin) | look.coding.origin)
    values, depth = read_intensities(image)
    if depth != look.scaling.depth:
        raise DataError(f"{image}: {depth}, and was {look.scaling.depth} before.", hint="run lomix new again")
    label = look.coding.read(open_mask(mask))
    check_sizes(image, values.shape[1:], mask, label.shape)
    origin = {"size": list(label.shape)} | look.coding.origin
    return Case(name, values[None], label[None], (), origin)


def _names(look: Look, given: Sequence[str]) -> dict[int, str]:
    if given and len(given) != len(look.labels):
        raise DataError(
            f"{len(given)} class names for {len(look.labels)} label values.",
            seen=f"values {', '.join(map(str, look.labels))}; names {', '.join(given)}",
        )
    if twice := sorted({name for name in given if name == "background" or list(given).count(name) > 1}):
        raise DataError(
            f"class name {', '.join(map(repr, twice))} is taken; each class needs a name of its own.",
            seen=f"names background, {', '.join(given)}",
        )
    return dict(zip(look.labels, given or look.coding.names.values(), strict=True))


def _patient(name: str, pattern: str) -> str:
    if not pattern:
        return name
    found = re.search(pattern, name)
    if found is None:
        raise DataError(f"the patient pattern {pattern!r} does not match the case {name!r}.")
    return found[1] if found.groups() else found[0]


def _size(side: int) -> int:
    """Choose a multiple of 32 near the images' own size, from 64 to 512."""
    return int(np.clip(32 * round(side / 32), 64, 512))


def _recipe(home: Path, look: Look, manifest: Manifest, names: Mapping[int, str]) -> str:
    """Return the recipe's text: what was seen as comments, then the values."""
    return "\n".join(_head(home, look, manifest, names)) + to_toml(_content(home, look, manifest, names))


def _head(home: Path, look: Look, manifest: Manifest, names: Mapping[int, str]) -> list[str]:
    scaling: str = look.scaling.intensity
    if look.scaling.window and scaling == "ct":
        scaling = "CT, window {:.0f} … {:.0f} HU".format(*look.scaling.window)
    return [
        f"# {home.name}: written by lomix new from {len(manifest.cases)} cases ({scaling}; about {look.size} wide).",
        *(f"# {line}" for line in look.lines(names)),
        f"#   check lomix validate {home}   ·   search lomix run {home}   ·   evaluate lomix evaluate runs/{home.name}",
        "# The split is drawn by patient: 70 / 10 / 20. Left and right are never mirrored (augment for volumes).",
        "",
    ]


def _content(home: Path, look: Look, manifest: Manifest, names: Mapping[int, str]) -> dict[str, Any]:
    slices = sum(entry.shape[0] for entry in manifest.cases)
    patients = len({entry.patient for entry in manifest.cases})
    batch = 8 if manifest.size <= 256 else 4
    steps = int(np.clip(100 * slices / batch, 500, 50_000))
    return {
        "about": f"{len(manifest.cases)} cases of {patients} patients, {slices} slices, {len(names)} classes",
        "data": {
            "kind": "prepared", "root": str((home / "data").resolve()), "split": "random",
            "classes": list(names.values()),
            "size": manifest.size, "augment": "chest_ct" if look.volumes else "paper",
            "val_fraction": 0.1, "test_fraction": 0.2,
        },
        "network": {
            "build": "monai.networks.nets:BasicUNet",
            "args": {
                "spatial_dims": 2, "in_channels": look.channels, "out_channels": 1 + len(names),
                "features": [32, 32, 64, 128, 256, 32],
            },
        },
        "space": {"name": "lomix"},
        "optimizer": {"lr": 1e-3, "schedule": "poly"},
        "search": {"steps": steps, "batch_size": batch, "validate_every": max(50, steps // 20)},
        "evaluate": {"protocol": "strict"},
    }  # fmt: skip
