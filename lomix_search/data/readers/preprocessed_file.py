"""The arrays of a case that nnU-Net preprocessed: ``.npz`` of its versions 2.0 to 2.5, ``.b2nd`` since 2.6.

The ``.pkl`` beside them is never opened: to unpickle a file is to run it.
"""

import inspect
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values
from lomix_search.errors import DataError, MissingExtraError, require

NPZ, BLOSC = ".npz", ".b2nd"
"""Endings of such files."""

_AXES = 4
_SEG = "_seg"


def is_preprocessed_file(path: Path) -> bool:
    """Whether a file is one of these by its ending."""
    return path.suffix in (NPZ, BLOSC)


def label_file(path: Path) -> Path:
    """Return the file of a case's label: beside a ``.b2nd`` another, of an ``.npz`` the same."""
    return path.with_name(f"{path.stem}{_SEG}{BLOSC}") if path.suffix == BLOSC else path


def case_files(folder: Path) -> dict[str, Path]:
    """Return the files of images in a folder by the case's name; of a case in both forms the ``.b2nd``, the newer."""
    packed = {path.stem: path for path in folder.glob(f"*{BLOSC}")}
    labels = {name for name in packed if name.endswith(_SEG) and name.removesuffix(_SEG) in packed}
    labels -= {name for name in labels if name + _SEG in packed}  # an image whose own name ends like that of a label
    images = {path.stem: path for path in folder.glob(f"*{NPZ}")}
    return dict(sorted((images | {name: path for name, path in packed.items() if name not in labels}).items()))


def read_image_array(path: Path) -> Array:
    """Read the image of a case.

    Args:
        path: Its file.

    Returns:
        (slices, channels, rows, columns) float32, axes and values as nnU-Net left them.

    Raises:
        DataError: unreadable, other arrays, or values that are not numbers.
        MissingExtraError: ``.b2nd``, and blosc2 is not installed.
    """
    data = _npz(path)[0] if path.suffix == NPZ else _blosc(path)
    return np.ascontiguousarray(data.swapaxes(0, 1), np.float32)


def read_label_array(path: Path, shape: tuple[int, ...]) -> Array:
    """Read the label of a case.

    Args:
        path: The file of its image.
        shape: Of the image, (slices, channels, rows, columns).

    Returns:
        (slices, rows, columns) label values; −1, which nnU-Net writes outside the body, is among them.

    Raises:
        DataError: as :func:`read_image_array`; or a label of another shape.
    """
    seg = _npz(path)[1] if path.suffix == NPZ else _blosc(label_file(path))
    wanted = (1, shape[0], *shape[2:])
    if seg.shape != wanted:
        raise DataError(
            f"{path}: image {size_in_words((shape[1], *wanted[1:]))} and label {size_in_words(seg.shape)} do not fit.",
            hint="nnUNetv2_preprocess -d DATASET   # writes the files anew",
        )
    return np.asarray(seg[0])


# -- .npz --------------------------------------------------------------------------------------------------------------


def _npz(path: Path) -> tuple[Array, Array]:
    """Return ``data`` (channels, slices, rows, columns) and ``seg`` (1, …).

    Of the first version there is ``data`` alone, whose last channel is the label.
    """
    with readable(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                _check_member(path, archive, member)
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in ("data", "seg") if key in content.files}
    if "data" not in arrays or arrays["data"].ndim != _AXES:
        raise DataError(
            f"{path}: no array data of 4 axes; .npz files are read where nnU-Net preprocessed them.",
            seen=", ".join(f"{k} {size_in_words(v.shape)}" for k, v in arrays.items()) or "other arrays",
            hint="lomix new FOLDER nnUNet_raw/DATASET   # the raw images",
        )
    data, seg = arrays["data"], arrays.get("seg")
    if seg is None:
        data, seg = data[:-1], data[-1:]
    if not len(data):
        raise DataError(
            f"{path}: data has a single channel and there is no seg; one of both is missing.",
            hint="nnUNetv2_preprocess -d DATASET   # writes the files anew",
        )
    return data, seg


def _check_member(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        check_real_values(path, dtype, member)
        if math.prod(shape) * dtype.itemsize > archive.getinfo(member).file_size:
            raise ValueError(f"{member} is said to be {size_in_words(shape)} {dtype}")
    check_memory(path, shape)


# -- .b2nd -------------------------------------------------------------------------------------------------------------


def _blosc(path: Path) -> Array:
    """Return the array of a ``.b2nd`` file, which is mapped into memory, read-only, and unpacked block by block."""
    blosc2 = _blosc2(path)
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}
    with readable(path):
        # "safe": a file may also hold a recipe that is computed, or lead to other files; such are refused.
        array: Any = blosc2.open(str(path), mode="r", deserialize="safe", dparams={"nthreads": 1}, **mapped)
        if type(array) is not blosc2.NDArray:
            raise DataError(
                f"{path} holds a {type(array).__name__}; an array is needed.",
                hint="nnUNetv2_preprocess -d DATASET   # writes the files anew",
            )
        check_real_values(path, array.dtype)
        check_memory(path, array.shape)
        if len(array.shape) != _AXES:
            raise DataError(
                f"{path}: {size_in_words(array.shape)}; need channels, slices, rows and columns.",
                hint="give the folder of nnU-Net's preprocessed data as nnU-Net wrote it",
            )
        return np.asarray(array[...])


def _blosc2(path: Path) -> Any:
    """Return the module; one that opens files without a way to keep it from computing what they say is too old."""
    try:
        module = require("blosc2", "nnunet-files")
    except MissingExtraError:
        raise MissingExtraError(
            f"{path} is of the form that nnU-Net writes since 2.6; to read it, blosc2 is needed.",
            hint=["pip install 'lomix-search[nnunet-files]'", "or give the raw form of the same data: nnUNet_raw/…"],
        ) from None
    if "deserialize" not in inspect.signature(module.open).parameters:
        raise DataError(
            f"{path}: blosc2 {module.__version__} may compute what a file says when it opens it; a newer one does not.",
            hint="pip install 'blosc2>=4.14'",
        )
    return module
