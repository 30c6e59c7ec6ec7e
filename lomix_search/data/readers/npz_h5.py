"""Slices and volumes of the community's preprocessed forms: ``.npz`` and ``.h5`` with an image and ``label``."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import check_real_values, float_of, whole_labels
from lomix_search.errors import DataError, require


def read_npz(path: Path, image_key: str, axes: int) -> tuple[Array, Array]:
    """Read a slice or volume of a community's preprocessed form.

    Args:
        path: ``.npz`` with an image and ``label``. Pickled objects in it are never loaded.
        image_key: ``"image"`` or ``"img"``.
        axes: 2 for a slice, 3 for a volume.

    Returns:
        Image and label as stored.

    Raises:
        DataError: unreadable, a key is missing, not numbers, or shapes differ.
    """
    with readable(path):
        with zipfile.ZipFile(path) as archive:
            _check_keys(path, [name.removesuffix(".npy") for name in archive.namelist()], image_key)
            for key in (image_key, "label"):
                _check_member(path, archive, key)
        with np.load(path, allow_pickle=False) as content:
            return _pair_of(path, content[image_key], content["label"], axes)


def read_h5(path: Path, image_key: str = "image") -> tuple[Array, Array]:
    """Read a volume of the community's preprocessed form.

    Args:
        path: ``.h5`` with an image and ``label``, slices first. Links, virtual datasets and raw storage in other files
            are never followed: a file must hold its own data.
        image_key: Name of the image.

    Returns:
        Image and label as stored.

    Raises:
        DataError: unreadable, a key is missing, not numbers, not in this file, or shapes differ.
    """
    h5py = require("h5py", "data")
    with readable(path), h5py.File(path, "r") as content:
        _check_keys(path, list(content), image_key)
        image, label = (_dataset(h5py, path, content, key) for key in (image_key, "label"))
        return _pair_of(path, image[()], label[()], 3)


def _check_keys(path: Path, keys: Sequence[str], image_key: str) -> None:
    if missing := [key for key in (image_key, "label") if key not in keys]:
        raise DataError(
            f"{path} has no {' and no '.join(missing)}.",
            seen=f"it has {', '.join(keys)}",
            hint="save it with these names: numpy.savez(path, image=…, label=…)",
        )
    if twice := sorted({key for key in keys if list(keys).count(key) > 1}):
        raise DataError(f"{path} has {twice[0]} twice.", hint="save it again")


def _check_member(path: Path, archive: zipfile.ZipFile, key: str) -> None:
    """Read an array's header alone: what it claims must be numbers, be in the file, and fit into memory."""
    info = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        check_real_values(path, dtype, key)
        if file.tell() + math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError(f"{key} is said to be {size_in_words(shape)} {dtype}, and has {info.file_size:,} bytes")
    check_memory(path, shape)


def _dataset(h5py: Any, path: Path, content: Any, key: str) -> Any:
    if not isinstance(content.get(key, getlink=True), h5py.HardLink):
        raise DataError(
            f"{path}: {key} is a link to other data, which is not followed.", hint="copy the data into the file"
        )
    found = content[key]
    if not isinstance(found, h5py.Dataset):
        raise DataError(
            f"{path}: {key} is no array.", seen=type(found).__name__, hint="save an array of numbers under this name"
        )
    if found.is_virtual or found.external:
        raise DataError(
            f"{path}: {key} lies in other files, which are not followed.", hint="copy the data into the file"
        )
    check_real_values(path, found.dtype, key)
    if found.size and not found.id.get_storage_size():
        raise DataError(
            f"{path}: {key} is said to be {size_in_words(found.shape)}, and was never written.",
            hint="write the file again; this part of it is empty",
        )
    check_memory(path, found.shape)
    return found


def _pair_of(path: Path, image: Array, label: Array, axes: int) -> tuple[Array, Array]:
    if image.shape != label.shape:
        raise DataError(
            f"{path}: image and label have different shapes.",
            seen=f"image {size_in_words(image.shape)}, label {size_in_words(label.shape)}",
            hint="save image and label with the same shape",
        )
    if image.ndim != axes or 0 in image.shape:
        raise DataError(
            f"{path}: {size_in_words(image.shape)} values; a {'slice' if axes == 2 else 'volume'} has {axes} axes.",
            hint="save one slice or volume a file, without further axes",
        )
    return image.astype(float_of(image.dtype)), whole_labels(label, path)
