"""Two evaluations of the same cases, side by side: paired differences, an interval and a test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError, nearest
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.evaluation.statistics import bootstrap_interval, mean_of_counted, wilcoxon_p
from lomix_search.utils.terminal import Table

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """B − A over the same patients.

    Args:
        label: A class, or ``mean`` of all.
        a: Mean of A.
        b: Mean of B.
        difference: Mean of the paired differences.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        p: Of the two-sided Wilcoxon signed-rank test; NaN where it cannot be done.
        patients: Number of pairs.
    """

    label: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    patients: int


@dataclass(frozen=True)
class PairedTest:
    """What two evaluations say about each other.

    Args:
        measure: What was compared.
        names: What A and B are called.
        rows: The mean first, then each class.
    """

    measure: str
    names: tuple[str, str]
    rows: tuple[PairedDifference, ...]

    def to_markdown(self) -> str:
        """Return one line for the mean and one for each class."""
        head = self._head()
        lines = [head, ["---"] * len(head), *(_cells(row) for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def __rich__(self) -> Table:
        """Lay out the same as a table of 80 columns."""
        a, b = self.names
        head = [self.measure, "A", "B", "B − A", "95 % interval", "p", "n"]  # short, for 80 columns
        told = "n patients, p of Wilcoxon's signed-rank test"
        told = told if self.names == ("A", "B") else f"A {a}\nB {b}\n{told}"
        table = Table(*head, title="B − A, paired by patient", caption=told, caption_justify="left")
        for row in self.rows:
            table.add_row(*_cells(row))
        return table

    def _head(self) -> list[str]:
        return [self.measure, *self.names, "difference", "95 % interval", "Wilcoxon p", "patients"]


def paired_test(a: Evaluation, b: Evaluation, measure: str = "", names: tuple[str, str] = ("A", "B")) -> PairedTest:
    """Compare two evaluations of the same cases. Cases of one patient count as one pair.

    Args:
        a: One evaluation.
        b: The other, by the same protocol.
        measure: Name of the measure to compare; the protocol's first when left out.
        names: What to call A and B.

    Returns:
        Differences B − A.

    Raises:
        DataError: protocols, cases or classes differ, or the measure is unknown.
    """
    measure = measure or a.measures[0]
    _check(a, b, measure)
    order = [b.cases.index(case) for case in a.cases]
    one, other = a.matrix(measure), b.matrix(measure)[order]
    patients = {row.case: row.patient for row in a.rows}
    groups = [patients[case] for case in a.cases]
    columns = {"mean": (mean_of_counted(one, 1), mean_of_counted(other, 1))}
    columns |= {label: (one[:, i], other[:, i]) for i, label in enumerate(a.classes)}
    rows = tuple(_difference(label, x, y, groups) for label, (x, y) in columns.items())
    return PairedTest(measure, names, rows)


def _difference(label: str, a: _Floats, b: _Floats, patients: Sequence[str]) -> PairedDifference:
    kept = ~(np.isnan(a) | np.isnan(b))
    owner = np.array(patients)[kept]
    pairs = np.array([[a[kept][owner == p].mean(), b[kept][owner == p].mean()] for p in dict.fromkeys(owner.tolist())])
    if not len(pairs):
        nan = float("nan")
        return PairedDifference(label, nan, nan, nan, nan, nan, nan, 0)
    change = pairs[:, 1] - pairs[:, 0]
    low, high = bootstrap_interval(change)
    mean_a, mean_b = pairs.mean(0)
    return PairedDifference(label, mean_a, mean_b, float(change.mean()), low, high, wilcoxon_p(change), len(change))


def _check(a: Evaluation, b: Evaluation, measure: str) -> None:
    if measure not in a.measures:
        raise DataError(f'no measure "{measure}" in protocol {a.protocol}. {nearest(measure, a.measures)}')
    for what, one, other in (
        ("protocols", (a.protocol, a.unit), (b.protocol, b.unit)),
        ("cases", tuple(sorted(a.cases)), tuple(sorted(b.cases))),
        ("classes", a.classes, b.classes),
    ):
        if one != other:
            only = [f"only in A: {', '.join(sorted({*one} - {*other})[:8]) or '–'}"]
            only += [f"only in B: {', '.join(sorted({*other} - {*one})[:8]) or '–'}"]
            raise DataError(
                f"the two evaluations have different {what} and cannot be paired.",
                seen=only,
                hint="score both on the same cases: lomix evaluate RUN RUN",
            )


def _cells(row: PairedDifference) -> list[str]:
    shown = [f"{value:.4f}" for value in (row.a, row.b)]
    interval = f"{row.low:+.4f} … {row.high:+.4f}" if row.patients > 1 else "–"  # one patient says nothing about others
    p = "–" if np.isnan(row.p) else f"{row.p:.2g}"
    return [row.label, *shown, f"{row.difference:+.4f}", interval, p, str(row.patients)]
