"""Which form a folder has, and what is in it.

``dataset.json`` with ``imagesTr`` and ``labelsTr`` is nnU-Net's raw form, or with whole 4D files that of the Medical
Segmentation Decathlon. A folder with nnU-Net's plans is its preprocessed form. Everything else is folders of images and
masks, told apart by the names of folders, else of files.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lomix_search.data.folders.dataset_json import DatasetJson, read_dataset_json
from lomix_search.data.folders.found import FoundData
from lomix_search.data.folders.patients import patients_of
from lomix_search.data.folders.preprocessed import find_preprocessed, preprocessed_home
from lomix_search.data.masks.pairing import Pair, Pairs, pair_up, pair_within
from lomix_search.data.readers.image import find_images, stem_of
from lomix_search.errors import DataError

_SETS = {"train": "train", "tr": "train", "val": "val", "test": "test", "ts": "test"}
_FEWEST = 3  # folders that can be patients


def recognise(root: Path) -> FoundData:
    """Look at a folder.

    Args:
        root: A data set of any form, or a folder that holds one alone.

    Returns:
        What is in it.

    Raises:
        DataError: no folder, or a ``dataset.json`` that contradicts itself.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.", hint="lomix new FOLDER DATA, or --images IMAGES --masks MASKS")
    home = _home(root)
    if preprocessed_home(home) is not None:
        return find_preprocessed(home)
    if (home / "dataset.json").is_file():
        return _with_json(home, read_dataset_json(home / "dataset.json"))
    if _has_two(home):
        return data_of_pairs(pair_up(home / "imagesTr", home / "labelsTr"), home, "nnU-Net raw without dataset.json")
    return data_of_pairs(pair_within(home), home, "folders")


def data_of_pairs(pairs: Pairs, root: Path, form: str) -> FoundData:
    """Return what is known of images and masks that were paired by name.

    Args:
        pairs: The pairs.
        root: The folder that case names lie below.
        form: What it is called.

    Returns:
        With the sets and patients that folders name.
    """
    groups, (patients, grouped) = _groups(pairs.pairs), patients_of(pairs.pairs, _patients(pairs.pairs))
    modalities = pairs.channels if not all(key.isdigit() for key in pairs.channels) else ()
    said = "the files' names" if modalities else ""
    return FoundData(
        form,
        root,
        pairs.pairs,
        pairs.faults,
        modalities=modalities,
        groups=groups,
        patients=patients,
        grouped=grouped,
        said=said,
        notes=(pairs.note,) if pairs.note else (),
    )


def _home(root: Path) -> Path:
    """Return the folder itself, or the one folder in it that has a ``dataset.json``, as unpacked archives do."""
    inside = [f for f in root.iterdir() if f.is_dir() and (f / "dataset.json").is_file()]
    return inside[0] if len(inside) == 1 and not (root / "dataset.json").exists() else root


def _has_two(root: Path) -> bool:
    return (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()


def _with_json(root: Path, known: DatasetJson) -> FoundData:
    if _has_two(root):
        pairs = pair_up(root / "imagesTr", root / "labelsTr")
        faults = [*pairs.faults, *_lacking(known, pairs)]
        found = FoundData("", root, pairs.pairs, tuple(faults))
        several = any(
            path.name.endswith(("_0000.nii.gz", "_0000.nii")) for images, _ in pairs.pairs.values() for path in images
        )
        form = "nnU-Net raw" if known.second or several else "Medical Segmentation Decathlon"
    elif known.training:
        found, form = _listed(root, known), "a list in dataset.json"
    else:
        found, form = data_of_pairs(pair_within(root), root, "folders"), "folders with dataset.json"
    return replace(
        found,
        form=form,
        labels=known.labels,
        modalities=known.modalities,
        ignore=known.ignore,
        regions=known.regions,
        written=known.written,
        said="dataset.json",
        notes=(*found.notes, *_notes(root)),
    )


def _lacking(known: DatasetJson, pairs: Pairs) -> list[str]:
    """Name what ``dataset.json`` lists for training and the folders do not have."""
    there = {stem_of(label) for _, label in pairs.pairs.values()}
    return [
        f"{label} is listed in {known.path}, and there is no such pair"
        for _, label in known.training
        if stem_of(label) not in there
    ]


def _listed(root: Path, known: DatasetJson) -> FoundData:
    pairs: dict[str, Pair] = {}
    faults = []
    for image, label in known.training:
        missing = [path for path in (image, label) if not path.is_file()]
        faults += [f"{path} is listed in {known.path}, and does not exist" for path in missing]
        if (name := stem_of(image)) in pairs:
            faults.append(f"{image} has the name of {pairs[name][0][0]}")
        elif not missing:
            pairs[name] = ((image,), label)
    return FoundData("", root, dict(sorted(pairs.items())), tuple(faults))


def _notes(root: Path) -> tuple[str, ...]:
    if not (root / "imagesTs").is_dir():
        return ()
    try:
        number = len(find_images(root / "imagesTs"))
    except DataError:  # they are not needed here; ``lomix predict`` says what is wrong with them
        return ()
    return (f"{number} images in imagesTs are left to lomix predict RUN {root / 'imagesTs'} OUT",)


def _groups(pairs: Mapping[str, Pair]) -> dict[str, str]:
    """Return the set of each case, where the first folders of all cases name sets."""
    found = {name: _set_of(name) for name in pairs}
    known = {name: group for name, group in found.items() if group}
    return known if len(known) == len(pairs) and {"train", "test"} <= set(known.values()) else {}


def _set_of(name: str) -> str:
    first = name.partition("/")[0].lower() if "/" in name else ""
    return next((group for start, group in _SETS.items() if first == start or first.startswith(f"{group}")), "")


def _patients(pairs: Mapping[str, Pair]) -> dict[str, str]:
    """Return the first folder of each case, where there are several and they name no sets."""
    folders = {name: name.partition("/")[0] for name in pairs}
    if len(set(folders.values())) < _FEWEST or any(_set_of(name) for name in pairs) or not any("/" in n for n in pairs):
        return {}
    return folders
