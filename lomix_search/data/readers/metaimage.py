"""MetaImage volumes, as ITK writes them: ``.mha``, or ``.mhd`` with its values in a file beside it.

A header of lines ``Key = value`` is followed by raw or zlib-packed values. No library that reads them is at hand that
would not bring all of ITK; what is read here is what ITK, SimpleITK, elastix and 3D Slicer write.
"""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.grid import affine_of, canonical
from lomix_search.data.readers.guard import check_memory, readable
from lomix_search.data.readers.values import float_of, whole_labels
from lomix_search.errors import DataError

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_HEADER = 1 << 16  # bytes that a header may have
_HINT = "image.SetSpacing((…)); SimpleITK.WriteImage(image, NEW)"
_Grid = tuple[Array, tuple[float, ...], dict[str, Any]]


def read_metaimage(path: Path) -> _Grid:
    """Read a volume of one channel or several.

    Args:
        path: ``.mha`` or ``.mhd``. Values in another file must lie in the same folder.

    Returns:
        (slices, channels, rows, columns), spacing in mm, and affine, shape and unit of its grid.

    Raises:
        DataError: unreadable, cut short, not 3D, or a grid that makes no sense.
    """
    values, affine = _stored(path)
    return canonical(path, values.astype(float_of(values.dtype)), affine, hint=_HINT)


def read_metaimage_label(path: Path) -> _Grid:
    """Read a label.

    Args:
        path: ``.mha`` or ``.mhd``.

    Returns:
        (slices, rows, columns) in the smallest unsigned type, spacing and origin.

    Raises:
        DataError: as :func:`read_metaimage`; several values a voxel; labels that are not whole numbers.
    """
    values, affine = _stored(path)
    if values.shape[3] > 1:
        raise DataError(f"{path}: {values.shape[3]} values a voxel; a label has one.", hint="save one label map a file")
    return canonical(path, whole_labels(values[..., 0], path), affine, hint=_HINT)


def _stored(path: Path) -> tuple[Array, Array]:
    """Return values (i, j, k, channels) in their own type, and the affine."""
    with readable(path):
        header, behind = _header(path)
        shape = tuple(int(n) for n in header["DimSize"].split())
        channels, kind = int(header.get("ElementNumberOfChannels", 1)), np.dtype(_TYPES[header["ElementType"]])
        if len(shape) != 3 or min(*shape, channels) < 1:
            raise DataError(
                f"{path}: {size_in_words(shape)} values; a volume has 3 axes.", hint="save one volume a file"
            )
        check_memory(path, (*shape, channels))
        msb = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")).lower() == "true"
        data = _data(path, header, behind, math.prod(shape) * channels * kind.itemsize)
        values = np.frombuffer(data, kind.newbyteorder(">" if msb else "<")).astype(kind)
        return values.reshape(channels, *shape, order="F").transpose(1, 2, 3, 0), _affine(header)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the header and where it ends; its last line names where the values are."""
    with path.open("rb") as file:
        found: dict[str, str] = {}
        while "ElementDataFile" not in found:
            line = file.readline(_HEADER)
            key, sign, value = line.decode("latin-1").partition("=")
            if not sign or file.tell() > _HEADER:
                raise ValueError("a MetaImage header has lines KEY = VALUE, the last of them ElementDataFile")
            found[key.strip()] = value.strip()
        return found, file.tell()


def _data(path: Path, header: dict[str, str], behind: int, size: int) -> bytes:
    """Return the values' bytes, exactly as many as the header says."""
    name = header["ElementDataFile"]
    where = path if name.upper() == "LOCAL" else path.parent / name
    if where.resolve().parent != path.resolve().parent or name.upper() == "LIST" or "%" in name:
        raise DataError(f"{path}: values in several files or another folder are not followed.", seen=name, hint=_HINT)
    with readable(where), where.open("rb") as file:
        file.seek(behind if where == path else max(0, int(header.get("HeaderSize", 0))))
        if header.get("CompressedData", "False").lower() == "true":
            data = zlib.decompressobj().decompress(file.read(), size)
        else:
            data = file.read(size)
    if len(data) < size:
        raise ValueError(f"its header says {size:,} bytes of values, and {where.name} has {len(data):,}")
    return data


def _affine(header: dict[str, str]) -> Array:
    """Return the affine; the n-th three numbers of the matrix are the direction of axis n."""
    matrix = next(
        (header[k] for k in ("TransformMatrix", "Rotation", "Orientation") if k in header), "1 0 0 0 1 0 0 0 1"
    )
    start = next((header[k] for k in ("Offset", "Position", "Origin") if k in header), "0 0 0")
    spacing = header.get("ElementSpacing", header.get("ElementSize", "1 1 1"))
    directions = np.array(matrix.split(), float).reshape(3, 3).T * np.array(spacing.split(), float)
    return affine_of(directions, np.array(start.split(), float))
