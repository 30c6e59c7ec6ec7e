"""The one table of formats: which ending is read by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lomix_search.data.case import Array
from lomix_search.data.readers.metaimage import read_metaimage, read_metaimage_label
from lomix_search.data.readers.nifti import read_nifti_image, read_nifti_label
from lomix_search.data.readers.nrrd_file import read_nrrd_image, read_nrrd_label
from lomix_search.data.readers.pages import is_stack, read_stack, read_stack_label
from lomix_search.data.readers.picture_file import SUFFIXES, read_intensities

SEGMENTS = ".seg.nrrd"
"""Ending of files that are labels by it: 3D Slicer's segmentations."""

_Read = tuple[Array, tuple[float, ...], Mapping[str, Any], str]
_Label = tuple[Array, tuple[float, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class ImageFormat:
    """One format of images.

    Args:
        name: What people call it.
        suffixes: Endings of its files, in lower case; longer ones first.
        read: File → image (slices, channels, rows, columns), spacing and origin, and ``volumes`` or a picture's type of
            numbers.
        read_label: File → label (slices, rows, columns), spacing and origin; None for pictures, which are read as masks
            of their kind.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], _Read]
    read_label: Callable[[Path], _Label] | None = None


def _volume(read: Callable[[Path], _Label]) -> Callable[[Path], _Read]:
    def read_volume(path: Path) -> _Read:
        return *read(path), "volumes"

    return read_volume


def _read_picture(path: Path) -> _Read:
    values, depth = read_intensities(path)
    return values[None], (), {"size": list(values.shape[1:])}, depth


PICTURES = ImageFormat("picture", SUFFIXES, _read_picture)
STACKS = ImageFormat("TIFF of several pages", (), _volume(read_stack), read_stack_label)
FORMATS = (
    ImageFormat("NIfTI", (".nii.gz", ".nii"), _volume(read_nifti_image), read_nifti_label),
    ImageFormat("NRRD", (SEGMENTS, ".nrrd"), _volume(read_nrrd_image), read_nrrd_label),
    ImageFormat("MetaImage", (".mha", ".mhd"), _volume(read_metaimage), read_metaimage_label),
    PICTURES,
)


def format_of(path: Path) -> ImageFormat | None:
    """Return the format of a file by its ending, of a TIFF by its number of pages too; None where it has another."""
    ending = suffix_of(path).lower()
    found = next((one for one in FORMATS if ending and ending in one.suffixes), None)
    return STACKS if found is PICTURES and is_stack(path) else found


def is_volume(path: Path) -> bool:
    """Whether a file is a volume by its name, or a TIFF by its pages; DICOM files and their folders are."""
    return (found := format_of(path)) is None or found.read_label is not None


def known_endings() -> str:
    """Return all endings that are read, as a message lists them."""
    return ", ".join(suffix for one in FORMATS for suffix in one.suffixes)


def suffix_of(path: Path) -> str:
    """Return the ending of a file that a format has, as it is written; empty where it has another."""
    name = path.name.lower()
    known = (suffix for one in FORMATS for suffix in one.suffixes)
    return next((path.name[-len(s) :] for s in known if name.endswith(s) and len(name) > len(s)), "")
