"""nnU-Net's preprocessed form: plans beside folders of cases, which are cropped, resampled and scaled already."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Case
from lomix_search.data.folders.dataset_json import DatasetJson, read_dataset_json
from lomix_search.data.folders.found import FoundData
from lomix_search.data.masks.pairing import Pair
from lomix_search.data.preparation import check_spacing
from lomix_search.data.preprocessing import Preprocessing
from lomix_search.data.readers.guard import readable
from lomix_search.data.readers.image import RawImage
from lomix_search.data.readers.preprocessed_file import case_files, label_file, read_image_array, read_label_array
from lomix_search.errors import DataError
from lomix_search.utils.files import read_json

_ORDER = ("3d_fullres", "3d_lowres", "2d", "3d_cascade_fullres")  # which configuration is taken where there are several
_OUTSIDE = -1  # what nnU-Net writes for pixels outside the body that it cut off; they are background
_MEASURED = ("percentile_00_5", "percentile_99_5", "mean", "std")  # what CT is scaled by
_CT = "CTNormalization"


def plans_of(root: Path) -> list[Path]:
    """Return nnU-Net's plans in a folder."""
    return sorted(root.glob("*Plans*.json"))


def preprocessed_home(folder: Path) -> Path | None:
    """Return the folder of a preprocessed data set, which holds its plans: a folder, or that above it; None if neither.

    Args:
        folder: ``nnUNet_preprocessed/DatasetNNN_NAME``, or one of the configurations in it.
    """
    if plans_of(folder):
        return folder
    return folder.parent if case_files(folder) and plans_of(folder.parent) else None


def find_preprocessed(folder: Path) -> FoundData:
    """Find the cases of a preprocessed data set.

    Args:
        folder: One that :func:`preprocessed_home` knows.

    Returns:
        Each case has one file that is image and label alike (``.npz``), or two (``.b2nd``).

    Raises:
        DataError: no ``dataset.json``, no cases, or a label that is missing.
    """
    root = preprocessed_home(folder) or folder
    taken, others = _configuration(root, folder)
    known = read_dataset_json(root / "dataset.json")
    files = case_files(taken)
    pairs: dict[str, Pair] = {name: ((path,), label_file(path)) for name, path in files.items()}
    faults = [f"{path} has no label: {path.name} is missing" for _, path in pairs.values() if not path.is_file()]
    how = preprocessing_of(next(iter(files.values())), known)
    return FoundData(
        "nnU-Net preprocessed",
        root,
        {name: pair for name, pair in pairs.items() if pair[1].is_file()},
        tuple(faults),
        labels=known.labels,
        ignore=known.ignore,
        regions=known.regions,
        written=known.written,
        said="dataset.json",
        preprocessed=how,
        notes=_notes(taken, others, how),
    )


def new_preprocessed_images(folder: Path, configuration: str = "") -> dict[str, tuple[Path, ...]]:
    """Return the images of a preprocessed data set by the case's name; empty where a folder is none.

    Args:
        folder: The data set, or a configuration of it.
        configuration: The folder of the data set that is read if it is there.

    Returns:
        What :func:`read_preprocessed_image` takes.

    Raises:
        DataError: it holds no cases.
    """
    root = preprocessed_home(folder)
    if root is None:
        return {}
    wanted = root / configuration if configuration and folder == root else folder
    return {name: (path,) for name, path in case_files(_configuration(root, wanted)[0]).items()}


def read_preprocessed_image(path: Path) -> RawImage:
    """Read an image that nnU-Net preprocessed; its label need not be there.

    Args:
        path: ``.npz`` or ``.b2nd``.

    Returns:
        The image on the grid that nnU-Net left it on, with what was done to it.

    Raises:
        DataError: unreadable, a spacing that is not positive, or nnU-Net's plans are not where nnU-Net has them.
    """
    if not plans_of(path.parent.parent):
        raise DataError(
            f"{path}: there are no plans of nnU-Net in {path.parent.parent}, which say what was done to the image.",
            hint="give nnU-Net's folder as it is: nnUNet_preprocessed/DATASET",
        )
    image = read_image_array(path)
    how = preprocessing_of(path, _dataset(path))
    spacing = _spacing(path, how, image.shape[0])
    check_spacing(spacing, path)
    return RawImage(image, spacing, {"pages": image.shape[0]}, preprocessed=how)


def read_preprocessed(name: str, path: Path) -> Case:
    """Read a case of nnU-Net's preprocessed form.

    Args:
        name: What to call it.
        path: The file of its image.

    Returns:
        The case, with its spacing where nnU-Net's plans and fingerprint say it.

    Raises:
        DataError: unreadable, other arrays, or values that are not numbers.
    """
    raw = read_preprocessed_image(path)
    seg = read_label_array(path, raw.image.shape)
    label = np.where(seg == _OUTSIDE, 0, seg).astype(np.int32)
    return Case(name, raw.image, label, raw.spacing, raw.origin)


def preprocessing_of(path: Path, known: DatasetJson | None) -> Preprocessing:
    """Return what nnU-Net did to a case, as the plans say of its folder."""
    name = path.parent.name
    for plans in plans_of(path.parent.parent):
        with readable(plans):  # whatever else it holds
            content = _json(plans, plans.stat().st_mtime_ns)
            for configuration, settings in content.get("configurations", {}).items():
                if settings.get("data_identifier", f"{content.get('plans_name', '')}_{configuration}") != name:
                    continue
                schemes = tuple(str(one) for one in settings.get("normalization_schemes", ()))
                measured = content.get("foreground_intensity_properties_per_channel", {})
                return Preprocessing(
                    folder=name,
                    configuration=configuration,
                    spacing=tuple(float(s) for s in settings.get("spacing", ())),
                    normalization=schemes,
                    statistics=tuple(_statistics(s, measured.get(str(i), {})) for i, s in enumerate(schemes)),
                    transpose=tuple(int(axis) for axis in content.get("transpose_forward", ())),
                    channels=known.modalities if known else (),
                )
    return Preprocessing(folder=name, channels=known.modalities if known else ())


def _statistics(scheme: str, measured: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(measured[key]) for key in _MEASURED if key in measured) if scheme == _CT else ()


def _configuration(root: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder of the configuration that is read, and the others."""
    there = [f for f in sorted(root.iterdir()) if f.is_dir() and case_files(f)]
    if not there:
        raise DataError(
            f"{root} holds nnU-Net's plans, and no preprocessed cases.",
            seen="no .npz and no .b2nd in its folders",
            hint=f"nnUNetv2_preprocess -d …, or the raw form of the same data: nnUNet_raw/{root.name}",
        )
    rank = {f: next((i for i, end in enumerate(_ORDER) if f.name.endswith(end)), len(_ORDER)) for f in there}
    taken = folder if folder in there else min(there, key=lambda f: rank[f])
    return taken, [f for f in there if f != taken]


def _notes(taken: Path, others: list[Path], how: Preprocessing) -> tuple[str, ...]:
    notes = [f"{taken.name} is read"]
    if others:
        notes[0] += f", not {', '.join(f.name for f in others)}: give such a folder itself to read it"
    said = ", ".join(how.normalization) or "not said by the plans"
    notes.append(f"nnU-Net cropped, resampled and scaled them ({said})")
    notes.append("what lies in its .pkl files (place in the raw image) is not known: they are never unpickled")
    return tuple(notes)


def _dataset(path: Path) -> DatasetJson | None:
    file = path.parent.parent / "dataset.json"
    return read_dataset_json(file) if file.is_file() else None


def _spacing(path: Path, how: Preprocessing, slices: int) -> tuple[float, ...]:
    """Return millimetres between slices, rows and columns; empty where they are not known."""
    if len(how.spacing) == 3:
        return how.spacing
    apart = _slices_apart(path, how, slices) if len(how.spacing) == 2 else None
    return () if apart is None else (apart, *how.spacing)


def _slices_apart(path: Path, how: Preprocessing, slices: int) -> float | None:
    """Return how far apart the slices of a case lie, which a configuration of slices keeps as they were.

    The fingerprint lists spacings and shapes in the order of the cases' names, without these. It is believed where it
    lists as many cases as the folder holds, and this one with as many slices as it has.
    """
    fingerprint = path.parent.parent / "dataset_fingerprint.json"
    if not fingerprint.is_file():
        return None
    with readable(fingerprint):
        content, names = _json(fingerprint, fingerprint.stat().st_mtime_ns), list(case_files(path.parent))
        shapes, spacings = content.get("shapes_after_crop", []), content.get("spacings", [])
        if not len(names) == len(shapes) == len(spacings):
            return None
        number, axis = names.index(path.stem), how.transpose[0] if how.transpose else 0
        return float(spacings[number][axis]) if shapes[number][axis] == slices else None


@lru_cache(maxsize=8)
def _json(path: Path, changed: int) -> Any:
    """Read a file of plans, once for each state of it: every case asks for it."""
    return read_json(path, DataError)
