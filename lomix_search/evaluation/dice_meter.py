"""Dice of whole cases, counted in whole pixels so that it repeats to the last bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lomix_search.errors import DataError
from lomix_search.evaluation.statistics import mean_of_counted
from lomix_search.utils.terminal import Table

_MASKS = "meter.update(logits > 0, masks, cases)"
_UPDATE = "meter.update(logits.argmax(1), label.long(), cases)"


@dataclass(frozen=True)
class DiceResult:
    """Dice per case and class.

        Dice = 2·TP / (predicted + true)

    Empty masks: where a case has neither true nor predicted pixels of a class, there is nothing to score; the entry is
    NaN and left out of every mean. A structure that was missed counts 0. So does one that was predicted and is not
    there, which MONAI's ``DiceMetric`` leaves out of its mean.

    Args:
        classes: Class names by label value, the background first; of multi-label data the regions.
        cases: Case names, in the order in which they came.
        dice: (cases, classes) in [0, 1] or NaN.
        multilabel: The classes are regions that may overlap; none of them is the background.
        predicted: Number of pixels, over all cases, at which each class was predicted; empty where nobody counted.
    """

    classes: tuple[str, ...]
    cases: tuple[str, ...]
    dice: NDArray[np.float64]
    multilabel: bool = False
    predicted: tuple[int, ...] = ()

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of what is scored: all classes but the background."""
        return self.classes if self.multilabel else self.classes[1:]

    @property
    def per_class(self) -> dict[str, float]:
        """Mean over the cases of each class, background included; NaN for a class that no case has."""
        return dict(zip(self.classes, mean_of_counted(self.dice, axis=0).tolist(), strict=True))

    @property
    def mean(self) -> float:
        """Mean over the foreground classes of their means over cases; NaN if there is nothing to score."""
        return float(mean_of_counted(np.array(self._means), axis=0))

    @property
    def _means(self) -> list[float]:
        return [self.per_class[name] for name in self.foreground]

    @property
    def silent(self) -> dict[str, int]:
        """Classes that were predicted nowhere although cases have them, each with the number of these cases."""
        if not self.predicted:
            return {}
        known = (~np.isnan(self.dice)).sum(0).tolist()
        counted = dict(zip(self.classes, zip(self.predicted, known, strict=True), strict=True))
        return {name: counted[name][1] for name in self.foreground if counted[name][0] == 0 < counted[name][1]}

    def rows(self) -> list[dict[str, str | float]]:
        """Return one row a case: its name, the Dice of each foreground class, and their mean."""
        return [
            {
                "case": case,
                **dict(zip(self.foreground, row.tolist(), strict=True)),
                "mean": float(mean_of_counted(row, axis=0)),
            }
            for case, row in zip(self.cases, self.dice[:, -len(self.foreground) :], strict=True)
        ]

    def __rich__(self) -> Table:
        """Lay out as ``table`` does."""
        return self.table()

    def table(self, title: str = "Dice") -> Table:
        """Lay out the foreground classes with their means over the cases; – where there was nothing to score.

        Of several cases, also the lowest Dice of each class, and below the table the case with the lowest mean;
        :meth:`rows` holds every case.
        """
        several = len(self.cases) > 1
        whole = mean_of_counted(self.dice[:, -len(self.foreground) :], axis=1)
        head = ["region" if self.multilabel else "class", "mean" if several else "Dice", *(["lowest"] * several)]
        table = Table(*head, title=title, caption=self._counted(whole))
        columns = {name: self.dice[:, self.classes.index(name)] for name in self.foreground}
        for name, dice in columns.items():
            table.add_row(name, _shown(self.per_class[name]), *([_shown(_lowest(dice))] * several))
        table.add_section()
        table.add_row("mean", _shown(self.mean), *([_shown(_lowest(whole))] * several), style="bold")
        return table

    def _counted(self, whole: NDArray[np.float64]) -> str:
        """Say how many cases there are, and which has the lowest mean."""
        if len(self.cases) < 2 or np.isnan(whole).all():
            return ", ".join(self.cases)
        return f"{len(self.cases)} cases; lowest: {self.cases[int(np.nanargmin(whole))]}"


def check_class_names(names: Sequence[str], multilabel: bool = False) -> None:
    """Check that the names of the classes can be the columns of a table of scores.

    Args:
        names: Names of all classes, the background first.
        multilabel: They are regions, without a background.

    Raises:
        DataError: two classes have one name, or a class is named like another column: ``case`` or ``mean``.
    """
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise DataError(
            f"two classes are named {twice[0]!r}; each needs a name of its own.",
            seen=", ".join(names),
            hint=f'"{twice[0]} 1", "{twice[0]} 2", say',
        )
    if taken := [name for name in names[0 if multilabel else 1 :] if name in ("case", "mean")]:
        raise DataError(
            f"a class is named {taken[0]!r}, as a column beside those of the classes is.", hint=f'"{taken[0]}s", say'
        )


@dataclass
class DiceMeter:
    """Counts true, predicted and common pixels per case and class while batches go by.

    The slices of one case add up to one score of the whole volume. Counts are integers, so neither batch size nor order
    changes the result.

    Args:
        classes: Class names by label value, the background first. Two for a binary task. Of multi-label data the
            regions, without a background.
        ignore_index: Label value whose pixels count nowhere.
        multilabel: Predictions and labels are masks that may overlap, one for each of ``classes``.
    """

    classes: tuple[str, ...]
    ignore_index: int | None = None
    multilabel: bool = False
    _counts: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the names of the classes."""
        check_class_names(self.classes, self.multilabel)

    def update(self, prediction: Tensor, label: Tensor, cases: Sequence[str]) -> None:
        """Count a batch.

        Args:
            prediction: Class numbers, (B, *spatial), integer or bool; masks (B, R, *spatial) of multi-label data.
            label: Class numbers, the same shape.
            cases: Name of the case of each of the B items.

        Raises:
            DataError: shapes differ, values are not class numbers, or the number of names is not B.
        """
        self._check(prediction, label, cases)
        for one, true, case in zip(prediction, label, cases, strict=True):
            counts = self._of_masks(one, true) if self.multilabel else self._of_item(one.flatten(), true.flatten())
            self._counts[case] = self._counts.get(case, 0) + counts

    def add(self, other: "DiceMeter") -> None:
        """Add what another meter counted.

        Args:
            other: A meter of the same classes.
        """
        for case, counts in other._counts.items():
            self._counts[case] = self._counts.get(case, 0) + counts

    def result(self) -> DiceResult:
        """Return what was counted so far.

        Returns:
            Dice of every case and class, the cases in the order in which they first came.
        """
        counts = np.array(list(self._counts.values()), np.int64).reshape(-1, 3, len(self.classes))
        common, predicted, true = counts[:, 0], counts[:, 1], counts[:, 2]
        total = predicted + true
        dice = np.where(total > 0, 2 * common / np.maximum(total, 1), np.nan)
        if not self.multilabel and self.ignore_index is not None and 0 <= self.ignore_index < len(self.classes):
            dice[:, self.ignore_index] = np.nan  # the pixels of this class count nowhere
        pixels = tuple(predicted.sum(0).tolist())
        return DiceResult(tuple(self.classes), tuple(self._counts), dice, self.multilabel, pixels)

    def _of_masks(self, prediction: Tensor, label: Tensor) -> NDArray[np.int64]:
        inside, true = prediction.flatten(1) == 1, label.flatten(1) == 1
        if self.ignore_index is not None:
            inside = inside & (label.flatten(1) != self.ignore_index)
        return torch.stack([(inside & true).sum(1), inside.sum(1), true.sum(1)]).cpu().numpy().astype(np.int64)

    def _of_item(self, prediction: Tensor, label: Tensor) -> NDArray[np.int64]:
        prediction, label = prediction.long(), label.long()
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
                hint=_MASKS if self.multilabel else "meter.update(logits.argmax(1), label, cases)",
            )
        if self.multilabel and (label.ndim < 2 or label.shape[1] != len(self.classes)):
            raise DataError(
                f"DiceMeter.update: masks (B, {len(self.classes)}, *spatial) are needed, one for each region.",
                seen=f"label {tuple(label.shape)}",
                hint=_MASKS,
            )
        for name, values, extra in (("prediction", prediction, None), ("label", label, self.ignore_index)):
            if values.is_floating_point():
                raise DataError(
                    f"DiceMeter.update: the {name} is {str(values.dtype).removeprefix('torch.')}; "
                    f"it must hold {'masks of 0 and 1' if self.multilabel else 'class numbers'}.",
                    hint=_MASKS
                    if self.multilabel
                    else 'torch.nn.functional.interpolate(label, size, mode="nearest")  # leaves class numbers whole'
                    if name == "label" and bool((values != values.round()).any())
                    else _UPDATE,
                )
            self._check_range(name, values if extra is None else values[values != extra])

    def _check_range(self, name: str, values: Tensor) -> None:
        number = 2 if self.multilabel else len(self.classes)
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= number):
            bad = ", ".join([str(v) for v in torch.unique(values).tolist() if not 0 <= v < number][:8])
            if self.multilabel:
                raise DataError(
                    f"DiceMeter.update: {name} {bad}; masks hold 1 inside a region and 0 outside.",
                    hint="meter.update(logits > 0, masks > 0, cases)",
                )
            raise DataError(
                f"DiceMeter.update: {name} {bad} outside the classes 0 … {number - 1}.",
                hint=_for_strange(name, int(values.min()), int(values.max())),
            )


def _for_strange(name: str, low: int, high: int) -> str:
    """Say what to do about values that are no class."""
    if name == "label" and (low < 0 or high == 255):
        return f"DiceMeter(classes, ignore_index={min(low, 0) or 255})  # if it marks pixels without a label"
    return _UPDATE if low < 0 else f"DiceMeter(classes)  # with {high + 1} names, the background first"


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _lowest(dice: NDArray[np.float64]) -> float:
    return float("nan") if np.isnan(dice).all() else float(np.nanmin(dice))
