"""The finished runs of a comparison: the test scores of every case, validation by step, cost, and what was found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import RunError
from lomix_search.experiments.compare.strategies import Strategy
from lomix_search.experiments.results import DiceScores, read_patients, read_results
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_lines
from lomix_search.utils.files import write_text

_RUNS, _LABEL = "*/labels_*/seed_*/run", "strategy.txt"


@dataclass(frozen=True, eq=False)
class CaseDice:
    """Test Dice of one network, case by case.

    Args:
        cases: Their names.
        patients: Whose each case is.
        classes: Names of the foreground classes.
        dice: (cases, classes), NaN where there is nothing to score.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    dice: NDArray[np.float64]

    def pairs_with(self, other: "CaseDice") -> bool:
        """Say whether another network was scored on the same cases and classes."""
        return (self.cases, self.patients, self.classes) == (other.cases, other.patients, other.classes)


@dataclass(frozen=True)
class StrategyRun:
    """One finished run.

    Args:
        strategy: Its label.
        labels: Part of the training items used.
        seed: Its seed.
        dice: Mean test Dice of the final network.
        seconds: Median time of a step; looks at held-out data are spread over the steps.
        mixture: What was found; None of runs that were made elsewhere.
        tested: Test Dice by case; None where only the mean is known.
        curve: Validation Dice by step.
        folder: The run folder; None of runs made up.
    """

    strategy: str
    labels: float
    seed: int
    dice: float
    seconds: float
    mixture: Mixture | None
    tested: CaseDice | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    folder: Path | None = None


def read_strategy_run(folder: Path, strategy: str, labels: float, seed: int) -> StrategyRun:
    """Read a finished run.

    Args:
        folder: Its folder, with results.json.
        strategy: Label of its strategy.
        labels: Part of the training items used.
        seed: Its seed.

    Returns:
        The run.

    Raises:
        RunError: a file of it is damaged, or it has no test scores.
    """
    tested = read_results(folder).get("final")
    if tested is None:
        raise RunError(
            f"{folder} has no test scores.", hint="the same lomix compare again: it goes on where it stopped"
        )
    mixture, lines = Mixture.load(folder / "mixture.json"), read_lines(folder / "metrics.jsonl")
    curve = {line["step"]: line["val/dice"] for line in lines if isinstance(line.get("val/dice"), float)}
    mean = math.nan if tested.mean is None else tested.mean
    cases = case_dice(tested, read_patients(folder))
    return StrategyRun(strategy, labels, seed, mean, seconds_a_step(lines), mixture, cases, curve, folder)


def read_runs(folder: Path, labels: Sequence[str]) -> list[StrategyRun]:
    """Read all finished runs in the folder of a comparison, also those of earlier calls.

    Args:
        folder: The folder.
        labels: Of strategies, in the order in which their runs are to come; others come last, called as they noted it
            in their folders (:func:`write_label`).

    Returns:
        The runs, strategy by strategy, few labels and low seeds first.

    Raises:
        RunError: a file of a run is damaged.
    """
    of = {Strategy(label).slug: label for label in labels}
    order = {label: place for place, label in enumerate(labels)}
    found = []
    for run in sorted(folder.glob(_RUNS)):
        slug, part, seed = run.parts[-4:-1]
        if (run / "results.json").is_file():
            numbers = float(part.removeprefix("labels_")), int(seed.removeprefix("seed_"))
            found.append(read_strategy_run(run, of.get(slug) or _label(folder / slug), *numbers))
    return sorted(found, key=lambda run: (order.get(run.strategy, len(order)), run.strategy, run.labels, run.seed))


def write_label(folder: Path, strategy: Strategy) -> None:
    """Note in a strategy's folder what the strategy is called: the folder's name cannot hold all of it."""
    write_text(folder / _LABEL, f"{strategy.label}\n")


def _label(folder: Path) -> str:
    """Return what a strategy is called; the name of its folder where it was not noted, as in earlier versions."""
    noted = folder / _LABEL
    return noted.read_text(encoding="utf-8").strip() if noted.is_file() else folder.name


def case_dice(scores: DiceScores, patients: Mapping[str, str]) -> CaseDice | None:
    """Return the scores of every case of a run's ``results.json``.

    Args:
        scores: Of one network.
        patients: Whose a case is, where that is another name than the case's.

    Returns:
        The scores; None where there are none by case.
    """
    classes, cases = tuple(scores.foreground), tuple(str(row["case"]) for row in scores.cases)
    if not cases or len(set(cases)) < len(cases):
        return None
    values = [[_number(row.get(name)) for name in classes] for row in scores.cases]
    return CaseDice(cases, tuple(patients.get(case, case) for case in cases), classes, np.array(values, float))


def seconds_a_step(lines: Sequence[Mapping[str, Any]]) -> float:
    """Return the time of a step: the median of plain ones, plus what looks took beyond that, spread over all.

    Args:
        lines: The log of a run.

    Returns:
        Seconds; NaN where no step was timed.
    """
    timed = [line for line in lines if isinstance(line.get("train/step_seconds"), float)]
    plain = [line["train/step_seconds"] for line in timed if "lookahead/slopes" not in line]
    looked = [line["train/step_seconds"] for line in timed if "lookahead/slopes" in line]
    if not plain or not looked:
        return float(np.median(plain or looked or [math.nan]))
    usual = float(np.median(plain))
    return usual + max(0.0, float(np.median(looked)) - usual) * len(looked) / len(timed)


def _number(value: object) -> float:
    return float(value) if isinstance(value, float | int) else math.nan
