"""``lomix new``: look at somebody's images and masks, and write a recipe that works on them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import track

from lomix_search.data.layouts import Layout, Source
from lomix_search.data.manifest import Manifest
from lomix_search.data.pictures import SUFFIXES, read_classes, read_mask, read_picture
from lomix_search.data.prepare import prepare_layout
from lomix_search.data.volumes import Case, read_nifti_pair
from lomix_search.errors import DataError
from lomix_search.typed import to_toml, write_text

_NIFTI = (".nii", ".nii.gz")
_TAILS = re.compile(r"(_0000|_image|_img|_ct|_mri)$", re.IGNORECASE)  # what image names add to the case's name
_MASK_TAILS = re.compile(r"(_segmentation|_seg|_label|_labels|_mask|_gt)$", re.IGNORECASE)


@dataclass(frozen=True)
class Look:
    """What was seen in somebody's files.

    Args:
        pairs: (image, mask) by case name.
        volumes: NIfTI rather than pictures.
        binary: Masks of 0/255; otherwise their values are class numbers.
        labels: Label values beside 0.
        size: Median of the larger side of the slices.
        intensity: How to scale.
        window: Of a CT: the 0.5 and 99.5 percentiles of what is labelled.
        channels: Of the images.
    """

    pairs: Mapping[str, tuple[Path, Path]]
    volumes: bool
    binary: bool
    labels: tuple[int, ...]
    size: int
    intensity: Literal["ct", "mr", "picture"]
    window: tuple[float, float] | None
    channels: int


def new_recipe(
    folder: str | Path,
    images: str | Path,
    masks: str | Path,
    *,
    classes: Sequence[str] = (),
    patient: str = "",
    size: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a recipe for one's own data, and prepare the data beside it.

    Args:
        folder: Where; made when missing, and never written over.
        images: Folder of images: NIfTI, or pictures.
        masks: Folder of masks, each named like its image (``_mask``, ``_seg``, ``_label`` and the like may follow).
        classes: Names of the label values in ascending order; ``class 1`` … when left out.
        patient: Regular expression whose first group is the patient in a case's name; each case is one when left out.
        size: Rows and columns for training; chosen from the images when left out.
        progress: Show progress bars.

    Returns:
        The recipe's file.

    Raises:
        DataError: files that do not pair up, cannot be read or do not fit each other; all of them are named.
    """
    home = Path(folder)
    if (home / "recipe.toml").exists():
        raise DataError(
            f"{home / 'recipe.toml'} exists already; nothing was written.", hint="lomix new ANOTHER_FOLDER …"
        )
    look = look_at(Path(images), Path(masks), progress)
    names = _names(look, classes)
    layout = _layout(look, names, patient, size or _size(look.size))
    manifest = prepare_layout(layout, Path(images), home / "data", progress=progress)
    write_text(home / "recipe.toml", _recipe(home, look, manifest, tuple(names.values())))
    return home / "recipe.toml"


def look_at(images: Path, masks: Path, progress: bool = False) -> Look:
    """Look at images and masks, one pair at a time.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        progress: Show a progress bar.

    Returns:
        What was seen.

    Raises:
        DataError: files that do not pair up or cannot be read.
    """
    pairs = find_pairs(images, masks)
    volumes = all(path.name.endswith(_NIFTI) for pair in pairs.values() for path in pair)
    labels: set[int] = set()
    sides, lows, inside, channels = [], [], [], 1
    for image, mask in track(pairs.values(), "look", disable=not progress):
        values, label = _pair(image, mask, volumes)
        labels |= set(np.unique(label).tolist()) - {0}
        sides.append(max(values.shape[-2:]))
        if volumes:
            lows.append(float(values.min()))
            inside.append(np.percentile(values[label > 0], (0.5, 99.5)) if (label > 0).any() else (np.nan, np.nan))
        else:
            channels = 3
    if not labels:
        raise DataError(f"{masks}: all masks are empty.", hint="masks hold class numbers, or 255 for the foreground")
    binary = not volumes and labels == {255}
    ct = volumes and float(np.median(lows)) < -500
    window = tuple(float(v) for v in np.nanmedian(inside, 0)) if ct else None
    intensity: Literal["ct", "mr", "picture"] = "ct" if ct else "mr" if volumes else "picture"
    ordered = (1,) if binary else tuple(sorted(labels))
    return Look(pairs, volumes, binary, ordered, int(np.median(sides)), intensity, window, channels)  # type: ignore[arg-type]


def find_pairs(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """Pair images with masks by name.

    Args:
        images: Folder of images.
        masks: Folder of masks; may be the same.

    Returns:
        (image, mask) by case name, sorted.

    Raises:
        DataError: no such folder, nothing in it, or files without a partner; they are named.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder.", hint="lomix new DIR --images IMAGES --masks MASKS")
    same = images.resolve() == masks.resolve()
    of_masks = {_case(p, _MASK_TAILS): p for p in _files(masks) if not same or _MASK_TAILS.search(_stem(p))}
    of_images = {_case(p, _TAILS): p for p in _files(images) if not same or not _MASK_TAILS.search(_stem(p))}
    alone = [f"{p} has no mask" for name, p in of_images.items() if name not in of_masks]
    alone += [f"{p} has no image" for name, p in of_masks.items() if name not in of_images]
    if alone or not of_images:
        more = [f"and {len(alone) - 8} more"] if len(alone) > 8 else []
        raise DataError(
            f"images and masks do not pair up: {len(of_images)} images, {len(of_masks)} masks.",
            seen=[*alone[:8], *more] or "no .nii, .nii.gz or pictures",
            hint="name each mask like its image: scan7.nii.gz with scan7.nii.gz, or scan7.png with scan7_mask.png",
        )
    return {name: (of_images[name], of_masks[name]) for name in sorted(of_images)}


def _pair(image: Path, mask: Path, volumes: bool) -> tuple[Any, Any]:
    if volumes:
        case = read_nifti_pair("", image, mask)
        return case.image[:, 0], case.label
    return read_picture(image), read_classes(mask)


def _layout(look: Look, names: Mapping[int, str], patient: str, size: int) -> Layout:
    def find(raw: Path) -> list[Source]:
        return [
            Source(name, _patient(name, patient), "", pair, partial(_read, name, pair, look))
            for name, pair in look.pairs.items()
        ]

    return Layout("own", find, dict(names), look.intensity, size, window=look.window)


def _read(name: str, pair: tuple[Path, Path], look: Look) -> Case:
    image, mask = pair
    if look.volumes:
        return read_nifti_pair(name, image, mask)
    picture = read_picture(image)
    label = read_mask(mask) if look.binary else read_classes(mask)
    if label.shape != picture.shape[1:]:
        raise DataError(
            f"{mask}: the mask is {label.shape} and its picture {picture.shape[1:]} pixels.", seen=str(image)
        )
    return Case(name, picture[None], label[None], (), {"size": list(label.shape)})


def _names(look: Look, given: Sequence[str]) -> dict[int, str]:
    if given and len(given) != len(look.labels):
        raise DataError(
            f"{len(given)} class names for {len(look.labels)} label values.",
            seen=f"values {', '.join(map(str, look.labels))}; names {', '.join(given)}",
        )
    names = given or ("foreground",) if len(look.labels) == 1 else given or [f"class {v}" for v in look.labels]
    return dict(zip(look.labels, names, strict=True))


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


def _recipe(home: Path, look: Look, manifest: Manifest, classes: Sequence[str]) -> str:
    slices = sum(entry.shape[0] for entry in manifest.cases)
    patients = len({entry.patient for entry in manifest.cases})
    batch = 8 if manifest.size <= 256 else 4
    steps = int(np.clip(100 * slices / batch, 500, 50_000))
    content: dict[str, Any] = {
        "about": f"{len(manifest.cases)} cases of {patients} patients, {slices} slices, {len(classes)} classes",
        "data": {
            "kind": "prepared", "root": str((home / "data").resolve()), "split": "random", "classes": list(classes),
            "size": manifest.size, "augment": "chest_ct" if look.volumes else "paper",
            "val_fraction": 0.1, "test_fraction": 0.2,
        },
        "network": {
            "build": "monai.networks.nets:BasicUNet",
            "args": {
                "spatial_dims": 2, "in_channels": look.channels, "out_channels": 1 + len(classes),
                "features": [32, 32, 64, 128, 256, 32],
            },
        },
        "space": {"name": "lomix"},
        "optimizer": {"lr": 1e-3, "schedule": "poly"},
        "search": {"steps": steps, "batch_size": batch, "validate_every": max(50, steps // 20)},
        "evaluate": {"protocol": "strict"},
    }  # fmt: skip
    window = f"CT, window {look.window[0]:.0f} … {look.window[1]:.0f} HU" if look.window else look.intensity
    head = [
        f"# {home.name}: written by lomix new from {len(manifest.cases)} cases ({window}; about {look.size} wide).",
        f"#   check lomix validate {home}   ·   search lomix run {home}   ·   evaluate lomix evaluate runs/{home.name}",
        "# The split is drawn by patient: 70 / 10 / 20. Left and right are never mirrored (augment for volumes).",
        "",
    ]
    return "\n".join(head) + to_toml(content)


def _files(folder: Path) -> Iterable[Path]:
    kept = (p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith("."))
    return [p for p in kept if p.name.lower().endswith((*_NIFTI, *SUFFIXES))]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _case(path: Path, tails: re.Pattern[str]) -> str:
    return tails.sub("", _stem(path))
