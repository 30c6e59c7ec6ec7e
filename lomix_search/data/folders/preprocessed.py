"""nnU-Net's preprocessed form: plans beside folders of ``.npz`` files, which are scaled and resampled already."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, Case, size_in_words
from lomix_search.data.folders.dataset_json import read_dataset_json
from lomix_search.data.folders.found import FoundData
from lomix_search.data.masks.pairing import Pair
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values
from lomix_search.errors import DataError
from lomix_search.utils.files import read_json

_ORDER = ("3d_fullres", "3d_lowres", "2d", "3d_cascade_fullres")  # which configuration is taken where there are several
_AXES = 3
_OUTSIDE = -1  # what nnU-Net writes for pixels outside the body that it cut off; they are background


def plans_of(root: Path) -> list[Path]:
    """Return nnU-Net's plans in a folder."""
    return sorted(root.glob("*Plans*.json"))


def find_preprocessed(root: Path, plans: list[Path]) -> FoundData:
    """Find the cases of a preprocessed data set.

    Args:
        root: ``nnUNet_preprocessed/DatasetNNN_NAME``.
        plans: Its plans.

    Returns:
        Each case has one file that is image and label alike.

    Raises:
        DataError: no ``dataset.json``, or files of the packed form that needs blosc2.
    """
    folders = {f: sorted(f.glob("*.npz")) for f in sorted(root.iterdir()) if f.is_dir()}
    whole = {f: files for f, files in folders.items() if files}
    if not whole:
        packed = sorted(root.glob("*/*.b2nd"))
        raise DataError(
            f"{root}: "
            + (f"{len(packed)} files are of the form .b2nd, which is not read here." if packed else "no .npz."),
            hint=[
                "give the raw form of the same data: nnUNet_raw/" + root.name,
                "or preprocess to .npz: data_identifier of a nnU-Net before 2.6, nnUNetv2_preprocess -d …",
            ],
        )
    known = read_dataset_json(root / "dataset.json")
    taken = min(whole, key=lambda f: next((i for i, end in enumerate(_ORDER) if f.name.endswith(end)), len(_ORDER)))
    pairs: dict[str, Pair] = {path.stem: ((path,), path) for path in whole[taken]}
    others = [f.name for f in whole if f != taken]
    return FoundData(
        "nnU-Net preprocessed",
        root,
        pairs,
        labels=known.labels,
        ignore=known.ignore,
        regions=known.regions,
        written=known.written,
        said="dataset.json",
        notes=(
            f"{taken.name} is read" + f"; {', '.join(others)} are not" * bool(others),
            f"intensities are nnU-Net's, of {', '.join(known.modalities) or 'unnamed channels'}",
        ),
    )


def read_preprocessed(name: str, path: Path) -> Case:
    """Read a case of nnU-Net's preprocessed form.

    Args:
        name: What to call it.
        path: ``.npz`` with ``data`` (channels, slices, rows, columns) and ``seg`` (1, …); of the first version ``data``
            alone, whose last channel is the label. Its ``.pkl`` is never opened: nothing is unpickled.

    Returns:
        The case, with the spacing of the plans where they say it.

    Raises:
        DataError: unreadable, other arrays, or values that are not numbers.
    """
    with readable(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                _check_member(path, archive, member)
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in ("data", "seg") if key in content.files}
    if "data" not in arrays or arrays["data"].ndim != 4:
        raise DataError(
            f"{path}: no array data of 4 axes.", seen=", ".join(f"{k} {v.shape}" for k, v in arrays.items())
        )
    data, seg = arrays["data"], arrays.get("seg")
    if seg is None:
        data, seg = data[:-1], data[-1:]
    label = np.where(seg[0] == _OUTSIDE, 0, seg[0])
    if not len(data) or label.shape != data.shape[1:]:
        raise DataError(f"{path}: data {size_in_words(data.shape)} and seg {size_in_words(seg.shape)} do not fit.")
    values: Array = np.ascontiguousarray(data.swapaxes(0, 1), np.float32)
    return Case(name, values, label.astype(np.int32), _spacing(path), {"pages": values.shape[0]})


def _check_member(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        check_real_values(path, dtype, member)
        if math.prod(shape) * dtype.itemsize > archive.getinfo(member).file_size:
            raise ValueError(f"{member} is said to be {size_in_words(shape)} {dtype}")
    check_memory(path, shape)


def _spacing(path: Path) -> tuple[float, ...]:
    """Return the spacing of the configuration that a file's folder is named after; empty where the plans lack it."""
    for plans in plans_of(path.parent.parent):
        with readable(plans):  # whatever else it holds
            content: Any = read_json(plans, DataError)
            for name, settings in content.get("configurations", {}).items():
                folder = settings.get("data_identifier", f"{content.get('plans_name', '')}_{name}")
                spacing = tuple(float(s) for s in settings.get("spacing", ()))
                if folder == path.parent.name and len(spacing) == _AXES:
                    return spacing
    return ()
