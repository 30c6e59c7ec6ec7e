"""What a referee knows of one run, wherever it was made; what is not known is None or empty."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lomix_search.evaluation.statistics import mean_of_counted
from lomix_search.experiments.compare.strategy_run import CaseDice, StrategyRun
from lomix_search.mixture.mixture import Mixture

Fact = float | str


@dataclass(frozen=True)
class AuditEntry:
    """One run, or one row of a published table.

    Args:
        method: What it is called.
        setting: What it is compared within: data set, network, part of the labels.
        repetition: Seed, and fold where there are several; empty where nobody says.
        score: Its test score, higher is better; NaN where there is none.
        spread: Standard deviation over seeds, of a row that stands for several.
        repeats: Number of seeds behind such a row.
        tested: Scores by case.
        per_class: Scores by class.
        best: Score of the best checkpoint on the same cases.
        facts: ``steps``, ``batch``, ``seconds``, ``parameters``, ``checkpoint``, ``tuned_on`` and what else is known,
            each a number or a text.
        settings: Keys of its recipe, without those that make the method or the seed.
        patients: By ``train``, ``val`` and ``test``, whose cases these are.
        fold: Name of its fold.
        mixture: What was found.
        curve: Validation score by step.
    """

    method: str
    setting: str = ""
    repetition: str = ""
    score: float = math.nan
    spread: float | None = None
    repeats: int | None = None
    tested: CaseDice | None = None
    per_class: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    patients: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fold: str = ""
    mixture: Mixture | None = None
    curve: Mapping[int, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        words = [self.method, f"seed {self.repetition}" if self.repetition else "", self.setting]
        return ", ".join(filter(None, words))

    @property
    def classes(self) -> Mapping[str, float]:
        """Scores by class, whichever way they are known."""
        if self.tested is None:
            return self.per_class
        return dict(zip(self.tested.classes, mean_of_counted(self.tested.dice, 0).tolist(), strict=True))


def by_setting(entries: Iterable[AuditEntry]) -> dict[str, list[AuditEntry]]:
    """Group by what is compared within, in the order in which they come."""
    found: dict[str, list[AuditEntry]] = {}
    for entry in entries:
        found.setdefault(entry.setting, []).append(entry)
    return found


def by_method(entries: Iterable[AuditEntry]) -> dict[str, list[AuditEntry]]:
    """Group by method, in the order in which they come."""
    found: dict[str, list[AuditEntry]] = {}
    for entry in entries:
        found.setdefault(entry.method, []).append(entry)
    return found


def whole_seeds(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Join the folds of a seed, where each case was tested in one of them, to one entry with all cases.

    Args:
        entries: Of one setting.

    Returns:
        The entries; folds that test the same cases stay repetitions of their own.
    """
    groups: dict[tuple[str, str], list[AuditEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.method, entry.repetition), []).append(entry)
    joined = []
    for group in groups.values():
        tested = [one.tested for one in group if one.tested is not None]
        names = [case for one in tested for case in one.cases]
        if len(group) == 1 or len(tested) < len(group) or len(set(names)) < len(names):
            joined += group if len(group) == 1 else [_of_fold(one) for one in group]
        else:
            whole = _joined(tested)
            mean = float(mean_of_counted(mean_of_counted(whole.dice, 0), 0))
            joined.append(replace(group[0], tested=whole, score=mean, fold=""))
    return joined


def to_runs(entries: Sequence[AuditEntry]) -> list[StrategyRun]:
    """Return the entries of one setting as runs of a comparison, the seeds numbered over all methods."""
    seeds = {name: number for number, name in enumerate(sorted({entry.repetition for entry in entries}))}
    runs = []
    for entry in entries:
        seconds = entry.facts.get("seconds_a_step", math.nan)
        seconds = seconds if isinstance(seconds, float) else math.nan
        seed = seeds[entry.repetition]
        runs.append(
            StrategyRun(entry.method, 1.0, seed, entry.score, seconds, entry.mixture, entry.tested, entry.curve)
        )
    return runs


def _of_fold(entry: AuditEntry) -> AuditEntry:
    return replace(entry, repetition=", ".join(filter(None, [entry.repetition, f"fold {entry.fold}"])))


def _joined(parts: Sequence[CaseDice]) -> CaseDice:
    classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    rows = []
    for part in parts:
        place = [part.classes.index(name) if name in part.classes else -1 for name in classes]
        padded = np.concatenate([part.dice, np.full((len(part.dice), 1), np.nan)], 1)
        rows.append(padded[:, place])
    cases = tuple(case for part in parts for case in part.cases)
    patients = tuple(patient for part in parts for patient in part.patients)
    return CaseDice(cases, patients, classes, np.concatenate(rows))
