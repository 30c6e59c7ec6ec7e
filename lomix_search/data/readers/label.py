"""The label of a volume, whatever its format: numbers on the grid of its image, and what its file calls them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.dicom_file import is_dicom
from lomix_search.data.readers.dicom_label import dicom_label_names, read_dicom_label
from lomix_search.data.readers.formats import format_of, suffix_of
from lomix_search.data.readers.grid import canonical_grid, check_one_grid
from lomix_search.data.readers.image import RawImage
from lomix_search.data.readers.nrrd_file import segment_names
from lomix_search.errors import DataError


def read_label(path: Path, image: RawImage, files: Sequence[Path], numbers: Mapping[str, int]) -> Array:
    """Read the label of an image.

    Args:
        path: Its file: any format of volumes, DICOM contours or a DICOM segmentation.
        image: Its image.
        files: The image's files, for messages.
        numbers: Label value of each region that DICOM files name; other regions are left out.

    Returns:
        (slices, rows, columns), label values.

    Raises:
        DataError: unreadable, on another grid than its image, or no whole numbers.
    """
    if not suffix_of(path) and is_dicom(path):
        return read_dicom_label(path, image.origin, numbers)
    kind = format_of(path)
    if kind is None or kind.read_label is None:
        raise DataError(
            f"{path}: a label of a volume must be a volume too.",
            hint="save the label in the form of the image, slice by slice",
        )
    label, _, origin = kind.read_label(path)
    if "affine" in image.origin and "affine" in origin:
        own, other = canonical_grid(image.origin), canonical_grid(origin)
        check_one_grid(files[0], own, image.spacing or (1.0,), path, other)
    shape = (image.image.shape[0], *image.image.shape[2:])
    if label.shape != shape:
        raise DataError(
            f"{path}: image and label have different shapes.",
            seen=f"image {size_in_words(shape)} ({files[0]}), label {size_in_words(label.shape)}",
            hint="resample the label onto the grid of the image, nearest neighbour",
        )
    return label


def names_in(path: Path) -> dict[int, str]:
    """Return what a label's own file calls its values; by running numbers where it has names alone, as DICOM does.

    Args:
        path: Its file.

    Returns:
        Names by label value; empty where the file names none.

    Raises:
        DataError: unreadable.
    """
    if suffix_of(path).lower().endswith(".nrrd"):
        return segment_names(path)
    if not suffix_of(path) and is_dicom(path):
        return dict(enumerate(dicom_label_names(path), 1))
    return {}
