"""All scores of one network on one set of cases: means, intervals, tables, and the way to a file and back."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.readers.guard import readable
from lomix_search.errors import DataError
from lomix_search.evaluation.statistics import mean_of_counted, patient_bootstrap
from lomix_search.utils.terminal import Table


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class of one case.

    Args:
        case: Its name.
        patient: Whose it is.
        label: The class.
        scores: By measure; NaN where a measure is not defined.
    """

    case: str
    patient: str
    label: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All scores of one network on one set of cases.

    Args:
        protocol: How they were scored.
        unit: Of distances: ``mm`` or ``voxel``.
        rows: One for each case and foreground class.
        multilabel: What is scored are regions that may overlap.
    """

    protocol: str
    unit: str
    rows: tuple[ClassScores, ...]
    multilabel: bool = False

    @property
    def what(self) -> str:
        """What a row is about: ``class``, or ``region`` of multi-label data."""
        return "region" if self.multilabel else "class"

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground classes, in the order of their numbers."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    @property
    def cases(self) -> tuple[str, ...]:
        """Cases, in the order they were scored."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured, the one to compare by first."""
        return tuple(self.rows[0].scores) if self.rows else ()

    def matrix(self, measure: str) -> NDArray[np.float64]:
        """Return one measure as (cases, classes), NaN where it is not defined."""
        value = {(row.case, row.label): row.scores[measure] for row in self.rows}
        return np.array([[value[case, label] for label in self.classes] for case in self.cases], float)

    def per_class(self, measure: str) -> dict[str, float]:
        """Return the mean over cases of each class."""
        return dict(zip(self.classes, mean_of_counted(self.matrix(measure), 0).tolist(), strict=True))

    def per_case(self, measure: str) -> dict[str, float]:
        """Return the mean over classes of each case."""
        return dict(zip(self.cases, mean_of_counted(self.matrix(measure), 1).tolist(), strict=True))

    def mean(self, measure: str) -> float:
        """Return the mean over classes of their means over cases."""
        return float(mean_of_counted(mean_of_counted(self.matrix(measure), 0), 0))

    def interval(self, measure: str, level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
        """Return a bootstrap interval of the mean, drawing whole patients with replacement.

        Args:
            measure: Name of the measure.
            level: Share of the draws inside.
            draws: Number of draws; the same every time.

        Returns:
            Its lower and its upper end. They are equal for one patient, who says nothing about others.
        """
        return patient_bootstrap(self.matrix(measure), self._patients(), level, draws)

    def groups(self) -> dict[str, "Evaluation"]:
        """Return the parts of a benchmark of several test sets: cases named ``SET/…``, set by set."""
        found = dict.fromkeys(row.case.rpartition("/")[0] for row in self.rows)
        return {
            g: replace(self, rows=tuple(r for r in self.rows if r.case.rpartition("/")[0] == g)) for g in found if g
        }

    def to_dict(self) -> dict[str, Any]:
        """Return means with their 95 % intervals, overall and by class, for JSON.

        NaN where nothing is defined; None in place of an interval of one patient, who says nothing about others.
        """
        return {
            "protocol": self.protocol,
            "unit": self.unit,
            "cases": len(self.cases),
            "mean": {measure: self.mean(measure) for measure in self.measures},
            "interval": {measure: self._interval(measure) for measure in self.measures},
            "classes": {measure: self.per_class(measure) for measure in self.measures},
        }

    def to_csv(self) -> str:
        """Return one line for each case and class; :func:`read_evaluation` reads it back."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["protocol", "unit", "case", "patient", self.what, *self.measures])
        for r in self.rows:
            values = [repr(float(v)) for v in r.scores.values()]
            writer.writerow([self.protocol, self.unit, r.case, r.patient, r.label, *values])
        return out.getvalue()

    def to_markdown(self) -> str:
        """Return class by class, the mean with its interval by patient, and the test sets if there are several."""
        head = [self.what, *(_titled(m, self.unit) for m in self.measures)]
        lines = [head, ["---"] * len(head)]
        lines += [[c, *(_shown(self.per_class(m)[c], m) for m in self.measures)] for c in self.classes]
        lines += [["**mean**", *(_shown(self.mean(m), m) for m in self.measures)]]
        if self._several:
            lines += [["95 % interval", *("{:.4g} – {:.4g}".format(*self.interval(m)) for m in self.measures)]]
        lines += [[f"mean of {g}", *(_shown(e.mean(m), m) for m in self.measures)] for g, e in self.groups().items()]
        cases = f"{len(self.cases)} cases of {len(set(self._patients().tolist()))} patients, protocol `{self.protocol}`"
        cases += "" if self._several else "; one patient says nothing about others"
        return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", cases, ""])

    def __rich__(self) -> Table:
        """Lay out classes × measures with the means below."""
        table = Table(self.what, *(_titled(m, self.unit) for m in self.measures), title=f"protocol {self.protocol}")
        for label in self.classes:
            table.add_row(label, *(_shown(self.per_class(m)[label], m) for m in self.measures))
        table.add_section()
        table.add_row("mean", *(_shown(self.mean(m), m) for m in self.measures), style="bold")
        for group, part in self.groups().items():
            table.add_row(group, *(_shown(part.mean(m), m) for m in self.measures))
        return table

    @property
    def _several(self) -> bool:
        return len({row.patient for row in self.rows}) > 1

    def _interval(self, measure: str) -> list[float] | None:
        return list(self.interval(measure)) if self._several else None

    def _patients(self) -> NDArray[Any]:
        patient = {row.case: row.patient for row in self.rows}
        return np.array([patient[case] for case in self.cases])


def read_evaluation(path: str | Path) -> Evaluation:
    """Read scores back from CSV.

    Args:
        path: ``scores.csv``, or a folder that holds it.

    Returns:
        The evaluation.

    Raises:
        DataError: the file cannot be read, or holds no scores.
    """
    path = Path(path) / "scores.csv" if Path(path).is_dir() else Path(path)
    with readable(path):
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    what = "region" if lines and "region" in lines[0] and "class" not in lines[0] else "class"  # earlier: always class
    fixed = ("protocol", "unit", "case", "patient", what)
    if not lines or any(key not in lines[0] for key in fixed):
        raise DataError(f"{path} holds no scores.", hint="lomix evaluate RUN   # writes scores.csv")
    try:
        rows = [
            ClassScores(
                line["case"], line["patient"], line[what], {k: float(v) for k, v in line.items() if k not in fixed}
            )
            for line in lines
        ]
    except (ValueError, TypeError) as cause:  # a value that is no number, or a row that is too short or too long
        raise DataError(f"{path} is damaged.", seen=str(cause), hint="lomix evaluate RUN   # writes it anew") from None
    return Evaluation(lines[0]["protocol"], lines[0]["unit"], tuple(rows), what == "region")


_DISTANCES = ("hd95", "asd")  # in mm or voxels: more than two decimals are finer than any scan


def _titled(measure: str, unit: str) -> str:
    return f"{measure} ({unit})" if measure in _DISTANCES else measure


def _shown(value: float, measure: str) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}" if measure in _DISTANCES or value >= 10 else f"{value:.4f}"
