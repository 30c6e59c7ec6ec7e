"""What a cross-validation scored: every patient once, by the fold that validated on it, with intervals by patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box

from lomix_search.errors import DataError
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.evaluation.statistics import means_by_patient, patient_bootstrap, student_margin
from lomix_search.utils.terminal import Table

_DRAWS = 2000


@dataclass(frozen=True)
class Spread:
    """A mean and how sure it is.

    Args:
        mean: Over cases; of all classes together, over the classes' means.
        bootstrap: Ends of the 95 % interval, drawing whole patients with replacement.
        student: Ends of the 95 % interval of Student's t around the mean over patients; NaN for one patient.
        folds: The same mean in each fold.
    """

    mean: float
    bootstrap: tuple[float, float]
    student: tuple[float, float]
    folds: tuple[float, ...]


@dataclass(frozen=True)
class FoldScores:
    """Scores of a cross-validation.

    Args:
        folds: Scores of each fold's network on the cases that validated it, in the order of the folds.
        test: Scores of all folds' networks together on the test cases; None where there are none.
    """

    folds: tuple[Evaluation, ...]
    test: Evaluation | None = None

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """How many patients and cases each fold held out."""
        return tuple((len({row.patient for row in fold.rows}), len(fold.cases)) for fold in self.folds)

    @property
    def all(self) -> Evaluation:
        """All cases of all folds as one table; each case stands in it once."""
        first = self.folds[0]
        rows = tuple(row for fold in self.folds for row in fold.rows)
        return Evaluation(first.protocol, first.unit, rows, first.multilabel)

    def spread(self, measure: str, label: str | None = None) -> Spread:
        """Return the mean of a measure and how sure it is.

        Args:
            measure: Name of the measure.
            label: A class; all of them together when left out.

        Returns:
            The mean with its intervals.
        """
        whole = self.all
        values = _columns(whole, measure, label)
        patients = np.array([{row.case: row.patient for row in whole.rows}[case] for case in whole.cases])
        return Spread(
            _mean(whole, measure, label),
            patient_bootstrap(values, patients, 0.95, _DRAWS),
            _student(means_by_patient(values, patients)),
            tuple(_mean(fold, measure, label) for fold in self.folds),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every mean with its intervals as plain values; NaN becomes None."""
        found = {"validation": self._means(), "cases": len(self.all.cases)}
        if self.test is not None:
            low, high = zip(*(self.test.interval(m) for m in self.test.measures), strict=True)
            found["test"] = {
                m: {"mean": _plain(self.test.mean(m)), "bootstrap": [_plain(low[i]), _plain(high[i])]}
                | {"classes": {label: _plain(v) for label, v in self.test.per_class(m).items()}}
                for i, m in enumerate(self.test.measures)
            }
        return {"protocol": self.all.protocol, "unit": self.all.unit, "folds": len(self.folds)} | found

    def _means(self) -> dict[str, Any]:
        whole = self.all
        return {
            m: _dumped(self.spread(m)) | {"classes": {label: _dumped(self.spread(m, label)) for label in whole.classes}}
            for m in whole.measures
        }

    def __rich__(self) -> Table:
        """Lay out the classes with their intervals, in the measure to compare by, and the means of the others."""
        whole = self.all
        main, *others = whole.measures
        count = f"{len(whole.cases)} cases of {len({row.patient for row in whole.rows})} patients"
        table = Table(
            whole.what, main, "95 % (patients)", "95 % (t)", "folds", *others,
            title=f"{len(self.folds)} folds: {count}, protocol {whole.protocol}",
            caption="each case is scored by the final network of the fold that did not train on it",
            box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
        )  # fmt: skip
        for label in (*whole.classes, None):
            found = self.spread(main, label)
            rest = [_number(whole.mean(m) if label is None else whole.per_class(m)[label]) for m in others]
            ends = [f"{_number(low)} – {_number(high)}" for low, high in (found.bootstrap, found.student)]
            table.add_row(
                label or "mean",
                _number(found.mean),
                *ends,
                f"{_number(min(found.folds))} – {_number(max(found.folds))}",
                *rest,
                style="" if label else "bold",
                end_section=label == whole.classes[-1],
            )
        return table


def check_folds(folds: Sequence[Evaluation]) -> None:
    """Make sure that folds can be put together.

    Args:
        folds: At least one.

    Raises:
        DataError: a case validates two folds, or distances have other units.
    """
    seen: dict[str, int] = {}
    for number, fold in enumerate(folds):
        if (fold.protocol, fold.unit) != (folds[0].protocol, folds[0].unit):
            raise DataError(
                f"fold {number} was scored otherwise than fold 0.",
                seen=f"protocol {fold.protocol} in {fold.unit}, and {folds[0].protocol} in {folds[0].unit}",
                hint="give all cases a spacing, or none; lomix evaluate … --protocol transunet counts in voxels",
            )
        for case in fold.cases:
            if case in seen:
                raise DataError(
                    f"the case {case!r} validates fold {seen[case]} and fold {number}; each must be held out once.",
                    hint="data of one's own: the fold'th of folds parts of the patients are val, the others are train",
                )
            seen[case] = number


def _mean(scores: Evaluation, measure: str, label: str | None) -> float:
    return scores.mean(measure) if label is None else scores.per_class(measure)[label]


def _columns(whole: Evaluation, measure: str, label: str | None) -> NDArray[np.float64]:
    matrix = whole.matrix(measure)
    return matrix if label is None else matrix[:, [whole.classes.index(label)]]


def _student(by_patient: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval around the mean over patients of their means over classes."""
    known = by_patient[~np.isnan(by_patient).all(1)]
    means = np.nanmean(known, 1) if len(known) else np.zeros(0)
    if len(means) < 2:
        return float("nan"), float("nan")
    margin = student_margin(means)
    return float(means.mean() - margin), float(means.mean() + margin)


def _dumped(found: Spread) -> dict[str, Any]:
    return {
        "mean": _plain(found.mean),
        "bootstrap": [_plain(end) for end in found.bootstrap],
        "student": [_plain(end) for end in found.student],
        "folds": [_plain(mean) for mean in found.folds],
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
