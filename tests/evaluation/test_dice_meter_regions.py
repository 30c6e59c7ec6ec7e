"""Dice of regions that overlap: against MONAI, pixels that count nowhere, and what is refused."""

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from rich.text import Text

from lomix_search.errors import DataError
from lomix_search.evaluation.dice_meter import DiceMeter

REGIONS = ("whole tumour", "core", "enhancing")


def masks(seed: int, *spatial: int) -> torch.Tensor:
    return torch.randint(0, 2, (6, 3, *spatial), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("spatial", [(12, 12), (5, 6, 7)])
def test_agrees_with_monai(spatial: tuple[int, ...]) -> None:
    prediction, label = masks(0, *spatial), masks(1, *spatial)
    meter = DiceMeter(REGIONS, multilabel=True)
    for part in (slice(2), slice(2, 6)):
        meter.update(prediction[part], label[part], list("abcdef")[part])
    found = meter.result()
    expected = DiceMetric(include_background=True, reduction="none")(prediction, label)
    np.testing.assert_allclose(found.dice, expected.numpy(), rtol=1e-6)
    assert found.classes == found.foreground == REGIONS and list(found.per_class) == list(REGIONS)
    assert found.mean == pytest.approx(float(expected.mean()))
    assert found.rows()[0] == {
        "case": "a",
        **dict(zip(REGIONS, found.dice[0], strict=True)),
        "mean": found.dice[0].mean(),
    }
    assert list(found.table().columns[0].cells)[: len(REGIONS)] == [Text(name) for name in REGIONS]


def test_a_pixel_that_counts_nowhere_counts_in_no_region() -> None:
    prediction, label = masks(0, 4, 4), masks(1, 4, 4).long()
    label[:, :, 1:] = -100
    meter, alone = DiceMeter(REGIONS, -100, multilabel=True), DiceMeter(REGIONS, multilabel=True)
    meter.update(prediction, label, list("abcdef"))
    alone.update(prediction[:, :, :1], label[:, :, :1], list("abcdef"))
    np.testing.assert_array_equal(meter.result().dice, alone.result().dice)
    number = DiceMeter(REGIONS, 2, multilabel=True)  # is no class that would be left out
    number.update(prediction, masks(1, 4, 4), list("abcdef"))
    assert not np.isnan(number.result().dice).any()


def test_what_is_no_mask_is_refused() -> None:
    meter, one = DiceMeter(REGIONS, multilabel=True), masks(0, 4, 4)
    for prediction, label, message in (
        (one, one[:, 0], "prediction, label and cases do not fit each other"),
        (one[:, :2], one[:, :2], r"masks \(B, 3, \*spatial\) are needed, one for each region"),
        (one.float(), one, "the prediction is float32; it must hold masks of 0 and 1"),
        (one, one * 3, "label 3; masks hold 1 inside a region and 0 outside"),
    ):
        with pytest.raises(DataError, match=message):
            meter.update(prediction, label, list("abcdef"))
    with pytest.raises(DataError, match="a class is named 'mean'"):
        DiceMeter(("mean", "core"), multilabel=True)
