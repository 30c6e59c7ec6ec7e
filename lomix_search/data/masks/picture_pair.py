"""Photographs and their binary masks, as the picture benchmarks have them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Case, size_in_words
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.mask_file import BLACK_WHITE, MaskFile, open_mask
from lomix_search.data.readers.picture_file import read_picture
from lomix_search.errors import DataError


def read_picture_pair(name: str, image: Path, masks: tuple[Path, ...]) -> Case:
    """Read a picture and its mask or masks.

    Args:
        name: What to call the case.
        image: The picture.
        masks: Binary masks of the same size; the foreground is their union.

    Returns:
        The case: image (1, 3, rows, columns) uint8, label (1, rows, columns) of 0 and 1.

    Raises:
        DataError: unreadable, a mask of another size, in colours, or not binary; the message names the file.
    """
    picture = read_picture(image)
    label, origin = np.zeros(picture.shape[1:], np.uint8), dict[str, Any]({"size": list(picture.shape[1:])})
    written, one_bit = set(), bool(masks)
    for mask in masks:
        file = open_mask(mask)
        one, coding = _binary(file)
        one_bit &= file.one_bit
        check_sizes(image, picture.shape[1:], mask, one.shape)
        label |= one
        if coding.cut is not None:
            origin["masks"] = coding.said
        elif one.any():
            written.add(max(coding.labels.values()))
    origin["values"] = [[1, 1 if one_bit else written.pop() if len(written) == 1 else 255]]  # what predictions have
    if one_bit:
        origin["palette"] = [list(pair) for pair in BLACK_WHITE.items()]  # else its 1 would be shown black
    return Case(name, picture[None], label[None], (), origin)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask that is known to be binary.

    Args:
        path: Of two values, whatever they are: the lower one is the background; black of colours. A single value but 0
            is all foreground. Soft edges and JPEG noise are cut halfway between black and white.

    Returns:
        (rows, columns) of 0 and 1.

    Raises:
        DataError: it cannot be read, has colours, or is not binary.
    """
    return _binary(open_mask(path))[0]


def _binary(mask: MaskFile) -> tuple[NDArray[np.uint8], Coding]:
    """Read a binary mask, and say how."""
    coding = decide([mask.look()], binary=True)
    return (coding.read(mask) > 0).astype(np.uint8), coding


def check_sizes(image: Path, of_image: tuple[int, ...], mask: Path, of_mask: tuple[int, ...]) -> None:
    """Check that a picture and its mask have one size.

    Args:
        image: The picture.
        of_image: Its rows and columns.
        mask: Its mask.
        of_mask: The mask's rows and columns.

    Raises:
        DataError: they differ.
    """
    if of_image == of_mask:
        return
    turned = "; one of them is turned by its EXIF orientation, or lies on its side" if of_image == of_mask[::-1] else ""
    raise DataError(
        f"{mask}: the mask is {size_in_words(of_mask)} and its picture {size_in_words(of_image)} pixels.",
        seen=f"{image}{turned}",
        hint="make sure that both are of one size; resize masks with nearest-neighbour interpolation",
    )
