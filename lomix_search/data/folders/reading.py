"""One case of somebody's own data as its files hold it, before anything is decided about it."""

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lomix_search.data.case import Array
from lomix_search.data.folders.preprocessed import read_preprocessed
from lomix_search.data.masks.grains import grains
from lomix_search.data.masks.mask_file import MaskFile, MaskSummary, open_mask
from lomix_search.data.masks.pairing import Pair
from lomix_search.data.masks.picture_pair import check_sizes
from lomix_search.data.readers.image import RawImage, read_image
from lomix_search.data.readers.label import read_label
from lomix_search.data.readers.preprocessed_file import is_preprocessed_file
from lomix_search.errors import DataError


@dataclass(frozen=True)
class OwnCase:
    """A case as its files hold it.

    Args:
        image: The image.
        mask: The file of its label.
        label: (slices, rows, columns) of a volume: the numbers of its label.
        picture: The mask of a picture.
    """

    image: RawImage
    mask: Path
    label: Array | None = None
    picture: MaskFile | None = None

    def look(self) -> MaskSummary:
        """Look at the values of the label and how they lie."""
        if self.picture is not None:
            return self.picture.look()
        assert self.label is not None
        return MaskSummary(self.mask, "number", grains(self.label), {})


def read_own(name: str, pair: Pair, numbers: Mapping[str, int]) -> OwnCase:
    """Read a case.

    Args:
        name: Of the case.
        pair: Its image's files and its label's.
        numbers: Label value of each region that DICOM files name.

    Returns:
        The case.

    Raises:
        DataError: unreadable, image and label that do not fit each other, or an image of one value.
    """
    files, mask = pair
    if is_preprocessed_file(files[0]):
        case = read_preprocessed(name, files[0])
        return OwnCase(RawImage(case.image, case.spacing, case.origin), mask, case.label)
    image = read_image(files)
    if image.depth == "volumes":
        own = OwnCase(image, mask, read_label(mask, image, files, numbers))
    else:
        own = OwnCase(image, mask, picture=open_mask(mask))
        assert own.picture is not None
        check_sizes(files[0], image.image.shape[2:], mask, own.picture.values.shape)
    if len(files) == 1 and filecmp.cmp(files[0], mask, shallow=False):
        raise DataError(f"{files[0]} and {mask} have the same content.", hint="give the masks' own folder")
    return _checked(own, files[0])


def _checked(case: OwnCase, path: Path) -> OwnCase:
    """Refuse an image that shows nothing."""
    values = case.image.image
    if values.size and (low := values.min()) == values.max():
        raise DataError(
            f"{path}: every pixel is {low:g}; the image shows nothing.",
            hint="it is empty, or was damaged on the way: copy it again, or move it and its mask away",
        )
    return case
