"""The one table of formats: which ending is read by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lomix_search.data.case import Array
from lomix_search.data.readers.nifti import read_nifti_image, read_nifti_label
from lomix_search.data.readers.picture_file import SUFFIXES, read_intensities

_Read = tuple[Array, tuple[float, ...], Mapping[str, Any], str]
_Label = tuple[Array, tuple[float, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class ImageFormat:
    """One format of images.

    Args:
        name: What people call it.
        suffixes: Endings of its files, in lower case; longer ones first.
        read: File → image (slices, channels, rows, columns), spacing, origin, and ``volumes`` or a picture's type of
            numbers.
        read_label: File → label (slices, rows, columns), spacing and origin; None for pictures, which are read as masks
            of their kind.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], _Read]
    read_label: Callable[[Path], _Label] | None = None


def _read_nifti(path: Path) -> _Read:
    values, spacing, origin = read_nifti_image(path)
    return values, spacing, origin, "volumes"


def _read_picture(path: Path) -> _Read:
    values, depth = read_intensities(path)
    return values[None], (), {"size": list(values.shape[1:])}, depth


FORMATS = (
    ImageFormat("NIfTI", (".nii.gz", ".nii"), _read_nifti, read_nifti_label),
    ImageFormat("picture", SUFFIXES, _read_picture),
)


def format_of(path: Path) -> ImageFormat | None:
    """Return the format of a file by its ending; None where it has another."""
    ending = suffix_of(path)
    return next((one for one in FORMATS if ending and ending.lower() in one.suffixes), None)


def suffix_of(path: Path) -> str:
    """Return the ending of a file that a format has, as it is written; empty where it has another."""
    name = path.name.lower()
    known = (suffix for one in FORMATS for suffix in one.suffixes)
    return next((path.name[-len(s) :] for s in known if name.endswith(s) and len(name) > len(s)), "")
