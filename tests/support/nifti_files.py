"""NIfTI files of any type and header, and the error that reading one ends with."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lomix_search.errors import DataError

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])  # the canonical axes but for their order


def refused(read: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(DataError) as error:
        read(*args)
    return str(error.value)


def save(path: Path, values: Any, affine: Any = AFFINE, kind: Any = nib.Nifti1Image, **header: Any) -> Path:
    image = kind(values, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    if "slope" in header:
        image.header.set_slope_inter(header["slope"], header.get("intercept", 0))
    nib.save(image, path)
    return path


def header(path: Path, **fields: Any) -> None:
    """Write a file whose header says something else than its data."""
    raw = bytearray(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), AFFINE).to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
