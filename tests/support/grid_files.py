"""NRRD and MetaImage files of any grid, written by their specifications."""

import zlib
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray


def lps(affine: NDArray[Any]) -> NDArray[Any]:
    """Turn an affine towards right and front into one towards left and back, or back."""
    return np.diag([-1.0, -1, 1, 1]) @ affine


def save_nrrd(path: Path, values: NDArray[Any], affine: NDArray[Any], **more: Any) -> Path:
    own = lps(affine)
    header = {"space": "left-posterior-superior", "space directions": own[:3, :3].T, "space origin": own[:3, 3]} | more
    nrrd.write(str(path), values, {key: value for key, value in header.items() if value is not None})
    return path


def save_meta(path: Path, values: NDArray[Any], affine: NDArray[Any], packed: bool = False, **more: str) -> Path:
    """Write (i, j, k), or (channels, i, j, k); the values of an ``.mhd`` go into a file beside it."""
    own = lps(affine)
    spacing = np.linalg.norm(own[:3, :3], axis=0)
    kind = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "f4": "MET_FLOAT"}[values.dtype.str[1:]]
    header = {
        "ObjectType": "Image", "NDims": "3", "CompressedData": str(packed),
        "TransformMatrix": " ".join(map(str, (own[:3, :3] / spacing).T.ravel())),
        "Offset": " ".join(map(str, own[:3, 3])), "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, values.shape[-3:])), "ElementType": kind,
        "ElementDataFile": "LOCAL" if path.suffix == ".mha" else f"{path.stem}.raw",
    } | more  # fmt: skip
    last = header.pop("ElementDataFile")
    text = "".join(f"{key} = {value}\n" for key, value in header.items()) + f"ElementDataFile = {last}\n"
    data = values.tobytes(order="F")
    data = zlib.compress(data) if packed else data
    path.write_bytes(text.encode() + (data if path.suffix == ".mha" else b""))
    if path.suffix == ".mhd":
        (path.parent / last).write_bytes(data)
    return path
