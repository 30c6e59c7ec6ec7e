"""Which stored values are read: one real number a voxel, and whole numbers for labels."""

from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.errors import DataError

NOT_FINITE = "put numbers in their place, numpy.nan_to_num(values), and save the file anew; or leave the case out"
"""What to do about NaN and infinite intensities."""


def whole_labels(label: Array, path: Path) -> Array:
    """Turn labels that may be stored as floats into whole numbers.

    Args:
        label: Any shape.
        path: The file they come from.

    Returns:
        The same values in the smallest unsigned type that holds them.

    Raises:
        DataError: values that are not whole, negative, or above 2³² − 1.
    """
    if label.dtype.kind not in "iub":
        whole, finite = np.rint(label), np.isfinite(label)
        odd = ~finite
        odd[finite] = np.abs(label[finite] - whole[finite]) > 1e-3
        if odd.any():
            raise DataError(
                f"{path}: labels must be whole numbers.",
                seen=f"values such as {', '.join(f'{v:g}' for v in np.unique(label[odd])[:5])}",
                hint="resample labels with nearest-neighbour interpolation",
            )
        label = whole
    low, high = int(label.min(initial=0)), int(label.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise DataError(
            f"{path}: labels must lie in 0 … 2³² − 1.",
            seen=f"{low} … {high}",
            hint="save class numbers: 0 for the background, then 1, 2, …",
        )
    return label.astype(np.min_scalar_type(high))


def check_real_values(path: Path, dtype: Any, key: str = "") -> None:
    """Refuse what is not one real number a voxel."""
    if dtype.kind not in "iufb":
        kind = {"c": "complex numbers", "V": "colours or records", "O": "Python objects, which are never loaded"}
        raise DataError(
            f"{path}: {key + ' holds ' * bool(key) or 'holds '}{kind.get(dtype.kind, str(dtype))}; "
            "need one real number a voxel.",
            seen=str(dtype),
            hint="save it anew as integers or floats",
        )


def float_of(dtype: Any) -> Any:
    """Return float32 where it holds every value of a type, else float64."""
    return np.dtype(np.float32 if np.result_type(dtype, np.float32) == np.float32 else np.float64)
