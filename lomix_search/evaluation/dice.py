"""Scores of segmentations, counted in whole pixels so that they repeat to the last bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from lomix_search.data.dataset import Truth
from lomix_search.data.nested_datasets import case_of, truth_of
from lomix_search.data.resizing import resize_scores
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import UniformDataset, same_size_batches
from lomix_search.errors import DataError
from lomix_search.instrumentation.modes import evaluating
from lomix_search.instrumentation.outputs import Reader, class_numbers, reader_of
from lomix_search.utils.distributed import gather, share
from lomix_search.utils.interpolation import interpolate
from lomix_search.utils.terminal import Table

Floats = NDArray[np.float64]
UPDATE = "meter.update(logits.argmax(1), label.long(), cases)"


def mean_of_counted(values: Floats, axis: int) -> Floats:
    """Return the mean of what is not NaN; NaN, without a warning, where nothing is left.

    Args:
        values: Any shape.
        axis: Which axis to average over.

    Returns:
        The means.
    """
    counted = ~np.isnan(values)
    total, count = np.where(counted, values, 0.0).sum(axis), counted.sum(axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


@dataclass(frozen=True)
class DiceResult:
    """Dice per case and class.

        Dice = 2·TP / (predicted + true)

    Empty masks: where a case has neither true nor predicted pixels of a class, there is nothing to score and the entry
    is NaN (left out of every mean); a structure that was missed counts 0, and so does one that was predicted but is not
    there. MONAI's ``DiceMetric`` leaves that last case out of its mean.

    Args:
        classes: Class names by label value, the background first.
        cases: Case names, in the order they came.
        dice: (cases, classes) in [0, 1] or NaN.
    """

    classes: tuple[str, ...]
    cases: tuple[str, ...]
    dice: Floats

    @property
    def per_class(self) -> dict[str, float]:
        """Mean over the cases of each class, background included; NaN for a class that no case has."""
        return dict(zip(self.classes, mean_of_counted(self.dice, axis=0).tolist(), strict=True))

    @property
    def mean(self) -> float:
        """Mean over the foreground classes of their means over cases; NaN if there is nothing to score."""
        return float(mean_of_counted(np.array(list(self.per_class.values())[1:]), axis=0))

    def rows(self) -> list[dict[str, str | float]]:
        """Return one row a case: its name, the Dice of each foreground class, and their mean."""
        return [
            {
                "case": case,
                **dict(zip(self.classes[1:], row.tolist(), strict=True)),
                "mean": float(mean_of_counted(row, axis=0)),
            }
            for case, row in zip(self.cases, self.dice[:, 1:], strict=True)
        ]

    def __rich__(self) -> Table:
        """Lay out as ``table`` does."""
        return self.table()

    def table(self, title: str = "Dice") -> Table:
        """Lay out cases × foreground classes, with the means below; – where there was nothing to score."""
        table = Table("case", *self.classes[1:], "mean", title=title)
        for row in self.rows():
            table.add_row(*(_shown(value) for value in row.values()))
        table.add_section()
        table.add_row("mean", *(_shown(v) for v in list(self.per_class.values())[1:]), _shown(self.mean), style="bold")
        return table


def check_class_names(names: Sequence[str]) -> None:
    """Check that scores can be told apart by the names of their classes.

    Args:
        names: Of all classes, the background first.

    Raises:
        DataError: a name is there twice, or is one of the columns beside those of the classes.
    """
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise DataError(f"two classes are named {twice[0]!r}; each needs a name of its own.", seen=", ".join(names))
    if taken := [name for name in names[1:] if name in ("case", "mean")]:
        raise DataError(
            f"a class is named {taken[0]!r}, as a column beside those of the classes is.", hint=f'"{taken[0]}s", say'
        )


@dataclass
class DiceMeter:
    """Counts true, predicted and common pixels per case and class while batches go by.

    The slices of one case add up to one score of the whole volume. Counts are integers, so neither batch size nor order
    changes the result.

    Args:
        classes: Class names by label value, the background first. Two for a binary task.
        ignore_index: Label value whose pixels count nowhere.
    """

    classes: tuple[str, ...]
    ignore_index: int | None = None
    _counts: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the names."""
        check_class_names(self.classes)

    def update(self, prediction: Tensor, label: Tensor, cases: Sequence[str]) -> None:
        """Count a batch.

        Args:
            prediction: Class numbers, (B, *spatial), integer or bool.
            label: Class numbers, the same shape.
            cases: Name of the case of each of the B items.

        Raises:
            DataError: shapes differ, values are not class numbers, or the number of names is not B.
        """
        self._check(prediction, label, cases)
        for one, true, case in zip(prediction, label, cases, strict=True):
            counts = self._of_item(one.flatten().long(), true.flatten().long())
            self._counts[case] = self._counts.get(case, 0) + counts

    def add(self, other: "DiceMeter") -> None:
        """Take over what another meter counted.

        Args:
            other: Of the same classes.
        """
        for case, counts in other._counts.items():
            self._counts[case] = self._counts.get(case, 0) + counts

    def result(self) -> DiceResult:
        """Return what was counted so far.

        Returns:
            Dice of every case and class; cases in the order in which they first came.
        """
        counts = np.array(list(self._counts.values()), np.int64).reshape(-1, 3, len(self.classes))
        common, predicted, true = counts[:, 0], counts[:, 1], counts[:, 2]
        total = predicted + true
        dice = np.where(total > 0, 2 * common / np.maximum(total, 1), np.nan)
        if self.ignore_index is not None and 0 <= self.ignore_index < len(self.classes):
            dice[:, self.ignore_index] = np.nan  # a class whose pixels count nowhere
        return DiceResult(tuple(self.classes), tuple(self._counts), dice)

    def _of_item(self, prediction: Tensor, label: Tensor) -> NDArray[np.int64]:
        if self.ignore_index is not None:
            kept = label != self.ignore_index
            prediction, label = prediction[kept], label[kept]
        hit = label[prediction == label]
        counts = [torch.bincount(values, minlength=len(self.classes)) for values in (hit, prediction, label)]
        return torch.stack(counts).cpu().numpy().astype(np.int64)

    def _check(self, prediction: Tensor, label: Tensor, cases: Sequence[str]) -> None:
        if prediction.shape != label.shape or len(cases) != len(label):
            raise DataError(
                "DiceMeter.update: prediction, label and cases do not fit each other.",
                seen=f"prediction {tuple(prediction.shape)}, label {tuple(label.shape)}, {len(cases)} case names",
                hint="meter.update(logits.argmax(1), label, cases)",
            )
        for name, values, extra in (("prediction", prediction, None), ("label", label, self.ignore_index)):
            if values.is_floating_point():
                raise DataError(
                    f"DiceMeter.update: the {name} is {str(values.dtype).removeprefix('torch.')}; "
                    "it must hold class numbers.",
                    hint="" if (values != values.round()).any() and name == "label" else UPDATE,
                )
            self._check_range(name, values if extra is None else values[values != extra])

    def _check_range(self, name: str, values: Tensor) -> None:
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= len(self.classes)):
            bad = [v for v in torch.unique(values).tolist() if not 0 <= v < len(self.classes)]
            raise DataError(
                f"DiceMeter.update: {name} {', '.join(map(str, bad[:8]))} outside the classes "
                f"0 … {len(self.classes) - 1}."
            )


def predict(model: nn.Module | Reader, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Predict class indices.

    Args:
        model: A network in eval mode, or what :func:`lomix_search.instrumentation.outputs.reader_of` made of it.
        images: (B, C, *spatial).
        size: Spatial size of the answer; logits of another size are resized linearly. The images' own by default.

    Returns:
        (B, *spatial) int64: argmax over the classes, or 1 where the logit of a one-channel network is above 0.
    """
    with torch.no_grad():
        logits = reader_of(model)(images).float()
    return class_numbers(_resized(logits, tuple(size or images.shape[2:])))


def _resized(logits: Tensor, size: Sequence[int], corners: bool = False) -> Tensor:
    if logits.shape[2:] == tuple(size) or logits.ndim == 4:
        return resize_scores(logits, size, corners=corners)
    return interpolate(logits, size)


def score_items(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    batch_size: int = 8,
    ignore_index: int | None = None,
) -> DiceResult:
    """Score a network on items as training sees them, by Dice per case and class: what validation uses.

    Where a data set knows the labels of its items at the size of their cases (``truth(index)``, as prepared data do),
    predictions are brought back to that size and scored there, as ``lomix_search.evaluation`` scores whole cases.

    Args:
        model: The network, instrumented or not; put into eval mode, and each of its modules back into its own.
        dataset: Items (image (C, *spatial), label (*spatial)), or what ``data.uniform_dataset`` brings into that form.
            Whose each is, ``data.nested_datasets.case_of`` tells, through any nesting. Random augmentation draws the
            same each time.
        classes: Names, background first.
        batch_size: Items at a time; the result does not depend on it beyond float rounding of the network.
        ignore_index: Label of pixels that do not count.

    Returns:
        The scores; in a distributed run every process counts its share of the items and all get the whole.
    """
    meter, weight = DiceMeter(tuple(classes), ignore_index=ignore_index), next(model.parameters(), torch.zeros(()))
    items = UniformDataset(dataset, "scored", len(classes), ignore_index, weight.dtype)
    read = reader_of(model, len(classes))
    with evaluating(model):
        for numbers, images, labels in same_size_batches(Seeded(items, 0), share(range(len(items))), batch_size):
            with torch.no_grad():
                logits = read(images.to(weight.device)).float()
            for number, one, label in zip(numbers, logits, labels, strict=True):
                truth = truth_of(dataset, number) or Truth(label)
                prediction = class_numbers(_resized(one[None], truth.label.shape, truth.corners))
                meter.update(prediction.cpu(), truth.label[None], [case_of(dataset, number)])
    whole, *others = gather(meter)
    for other in others:
        whole.add(other)
    return whole.result()


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else "–" if np.isnan(value) else f"{value:.3f}"
