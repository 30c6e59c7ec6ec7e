"""Slices: the types and cases of their items, and each message about a bad one in full."""

import numpy as np
import pytest
import torch
from support.toy_slices import toy
from torch.utils.data import DataLoader

from lomix_search.data.dataset import Slices
from lomix_search.errors import DataError


def test_item_types_and_cases() -> None:
    image, label = toy()[5]
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (1, 32, 32))
    assert (label.dtype, tuple(label.shape)) == (torch.int64, (32, 32))
    assert [toy().case(i) for i in (0, 3, 4, 9)] == ["p0", "p0", "p1", "p2"]


def test_item_does_not_share_memory_with_the_source() -> None:
    data = toy()
    data[0][0].zero_()
    assert data[0][0].abs().sum() > 0


def bad(image: object = None, label: object = None, **kwargs: object) -> Slices:
    images = np.zeros((1, 1, 4, 4), np.float32) if image is None else image
    labels = np.zeros((1, 4, 4), np.int64) if label is None else label
    return Slices(images, labels, ["p7"], num_classes=3, names=["p7.nii.gz, slice 12"], **kwargs)


def test_message_nan() -> None:
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 1, 2] = np.nan
    with pytest.raises(DataError) as error:
        bad(image)[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: the image has NaN or infinite pixels; all must be finite.\n"
        "  Seen: 1 of 16 pixels\n"
        "  Try:  image = numpy.nan_to_num(image, nan=image_background)   # or leave the slice out"
    )


def test_message_label_outside() -> None:
    label = np.zeros((1, 4, 4), np.int64)
    label[0, 0, :2] = 7, 255
    with pytest.raises(DataError) as error:
        bad(label=label)[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: label 7, 255 outside the classes 0 … 2.\n"
        "  Try:  8 classes, all of them named, in the network too   # if 7 is one of them\n"
        "        loss.ignore_index=255   # if 255 marks pixels without a label"
    )
    label[label == 7] = 0
    assert bad(label=label, ignore_index=255)[0][1].max() == 255
    with pytest.raises(DataError, match="label -1 outside"):
        bad(label=label * 0 - 1)[0]


def test_message_float_label() -> None:
    with pytest.raises(DataError) as error:
        bad(label=np.full((1, 4, 4), 0.5))[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: the label is float64; class numbers must be integers.\n"
        "  Seen: values such as 0.5\n"
        "  Try:  resize and turn labels by the nearest neighbour, so that they keep their class numbers"
    )


def test_message_shapes() -> None:
    with pytest.raises(DataError) as error:
        bad(label=np.zeros((1, 4, 5), np.int64))[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: image and label have different shapes.\n  Seen: image 4 × 4, label 4 × 5"
    )
    with pytest.raises(DataError, match="2 images, 1 labels and 1 case names do not pair up"):
        bad(np.zeros((2, 1, 4, 4)))


@pytest.mark.slow  # the loader waits five seconds for a worker that an error leaves behind
def test_error_survives_a_worker() -> None:
    label = np.full((1, 4, 4), 9)
    with pytest.raises(DataError, match="label 9 outside the classes 0 … 2"):
        next(iter(DataLoader(bad(label=label), num_workers=1)))
