"""Dice against MONAI, against a plain loop, and at its edges."""

import io

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from rich.console import Console

from lomix_search.errors import DataError
from lomix_search.evaluation.dice_meter import DiceMeter

CLASSES = ("background", "a", "b", "c")


def random_masks(seed: int, shape: tuple[int, ...] = (6, 12, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, len(CLASSES), shape, generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("shape", [(6, 12, 12), (3, 5, 6, 7)])
def test_agrees_with_monai(shape: tuple[int, ...]) -> None:
    prediction, label = random_masks(0, shape)
    meter = DiceMeter(CLASSES)
    meter.update(prediction, label, [str(i) for i in range(shape[0])])

    def one_hot(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(x, len(CLASSES)).movedim(-1, 1)

    theirs = DiceMetric(include_background=True)(one_hot(prediction), one_hot(label))
    np.testing.assert_allclose(meter.result().dice, theirs.numpy(), atol=1e-6)
    theirs_mean = DiceMetric(include_background=False, reduction="mean")
    theirs_mean(one_hot(prediction), one_hot(label))
    assert meter.result().mean == pytest.approx(theirs_mean.aggregate().item(), abs=1e-6)


def test_slices_add_up_to_a_volume_whatever_the_batches() -> None:
    prediction, label = random_masks(1)
    cases = ["x", "x", "y", "x", "y", "y"]
    whole, pieces = DiceMeter(CLASSES), DiceMeter(CLASSES)
    whole.update(prediction, label, cases)
    for i in (0, 2, 1, 5, 4, 3):
        pieces.update(prediction[i : i + 1], label[i : i + 1], cases[i : i + 1])
    assert whole.result().cases == ("x", "y")
    np.testing.assert_array_equal(whole.result().dice, pieces.result().dice)
    for row, case in enumerate(whole.result().cases):
        chosen = [i for i, name in enumerate(cases) if name == case]
        for c in range(len(CLASSES)):
            p, t = prediction[chosen] == c, label[chosen] == c
            expected = 2 * int((p & t).sum()) / (int(p.sum()) + int(t.sum()))
            assert whole.result().dice[row, c] == expected


def test_empty_masks() -> None:
    label = torch.tensor([[0, 1, 1, 0]])
    prediction = torch.tensor([[0, 0, 0, 2]])
    meter = DiceMeter(CLASSES)
    meter.update(prediction, label, ["p"])
    result = meter.result()
    missed, invented, neither = result.dice[0, 1:]
    assert (missed, invented) == (0, 0) and np.isnan(neither)
    assert result.mean == 0
    assert np.isnan(result.per_class["c"])


def test_mean_is_over_classes_of_means_over_cases() -> None:
    meter = DiceMeter(("background", "a", "b"))
    meter.update(torch.tensor([[1, 0], [1, 2]]), torch.tensor([[1, 0], [0, 2]]), ["p", "q"])
    result = meter.result()
    assert result.per_class["a"] == 0.5 and result.per_class["b"] == 1.0 and result.mean == 0.75


def test_ignored_pixels_count_nowhere() -> None:
    prediction, label = random_masks(2)
    ignored = label.clone()
    ignored[:, :4] = 255
    meter, cut = DiceMeter(CLASSES, ignore_index=255), DiceMeter(CLASSES)
    cases = [str(i) for i in range(6)]
    meter.update(prediction, ignored, cases)
    cut.update(prediction[:, 4:], label[:, 4:], cases)
    np.testing.assert_array_equal(meter.result().dice, cut.result().dice)


def test_nothing_counted() -> None:
    result = DiceMeter(CLASSES).result()
    assert result.dice.shape == (0, 4) and np.isnan(result.mean) and result.rows() == []


def test_rows_and_table() -> None:
    meter = DiceMeter(("background", "liver", "spleen"))
    meter.update(torch.tensor([[1, 0, 1]]), torch.tensor([[1, 1, 0]]), ["patient 1"])
    (row,) = meter.result().rows()
    assert row["case"] == "patient 1" and row["liver"] == 0.5 and row["mean"] == 0.5
    console = Console(width=60, file=io.StringIO())
    console.print(meter.result())
    text = console.file.getvalue()
    assert "patient 1" in text and "0.500" in text and "–" in text and "liver" in text


@pytest.mark.parametrize(
    ("prediction", "label", "cases", "message"),
    [
        (
            torch.zeros(1, 2, 2, 2),
            torch.zeros(1, 2, 2, dtype=torch.long),
            ["p"],
            "DiceMeter.update: prediction, label and cases do not fit each other.\n"
            "  Seen: prediction (1, 2, 2, 2), label (1, 2, 2), 1 case names\n"
            "  Try:  meter.update(logits.argmax(1), label, cases)",
        ),
        (
            torch.zeros(1, 2),
            torch.zeros(1, 2, dtype=torch.long),
            ["p"],
            "DiceMeter.update: the prediction is float32; it must hold class numbers.\n"
            "  Try:  meter.update(logits.argmax(1), label.long(), cases)",
        ),
        (
            torch.zeros(1, 2, dtype=torch.long),
            torch.tensor([[9, 0]]),
            ["p"],
            "DiceMeter.update: label 9 outside the classes 0 … 3.\n"
            "  Try:  DiceMeter(classes)  # with 10 names, the background first",
        ),
    ],
)
def test_messages(prediction: torch.Tensor, label: torch.Tensor, cases: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        DiceMeter(CLASSES).update(prediction, label, cases)
    assert str(error.value) == message


@pytest.mark.parametrize("names", [("background", "a", "a"), ("background", "mean"), ("background", "case")])
def test_names_by_which_scores_could_not_be_told_apart_are_refused(names: tuple[str, ...]) -> None:
    """A second class of one name, or one named like a column, would take the place of the first in every table."""
    with pytest.raises(DataError, match=r"two classes are named 'a'|a class is named '(mean|case)'"):
        DiceMeter(names)
