"""What a page tells of a run: everything read off its folder once, nothing computed from data or network."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.errors import RunError
from lomix_search.evaluation.score_table import Evaluation, read_evaluation
from lomix_search.experiments.compare.map_ranking import MapRanking, rank_maps
from lomix_search.experiments.environment import Environment, read_environments
from lomix_search.experiments.listing import name_in_runs
from lomix_search.experiments.predictions import PredictedSlices
from lomix_search.experiments.results import DiceScores, read_results
from lomix_search.experiments.status import Status, read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.trackers import read_line
from lomix_search.utils.files import read_toml

_POINTS = 300


@dataclass(frozen=True)
class RunContent:
    """A run folder, read.

    Args:
        name: Of the run, as a command takes it.
        recipe: The resolved recipe as plain tables.
        training: Lines of the log with a training loss, thinned evenly to a few hundred.
        validation: Lines of the log with validation scores, all of them.
        mixture: What was found; None before the end.
        tested: Test Dice by network.
        evaluations: What ``lomix evaluate`` scored, by network.
        status: What became of the run.
        environments: What it depended on.
        seen: What the network made of some test items.
        ranking: What ``lomix rank`` found; None where it was not called.
    """

    name: str
    recipe: Mapping[str, Any]
    training: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    mixture: Mixture | None
    tested: Mapping[str, DiceScores]
    evaluations: Mapping[str, Evaluation]
    status: Status | None
    environments: Sequence[Environment]
    seen: PredictedSlices | None
    ranking: MapRanking | None = None

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section of the recipe; empty where it has none."""
        found = self.recipe.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def title(self) -> str:
        """The recipe's name."""
        return str(self.recipe.get("name", self.name))

    @property
    def state(self) -> str:
        """running, finished, stopped or failed."""
        return self.status.now if self.status else "finished" if self.mixture else "stopped"

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.training[-1]["step"]) if self.training else 0

    @property
    def steps(self) -> int:
        """Steps planned."""
        steps = self.section("search").get("steps")
        return steps if isinstance(steps, int) else self.step

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The validation of highest mean Dice; the first of equal ones, as the run itself counts."""
        known = [line for line in self.validation if line["val/dice"] is not None]
        return max(known, key=lambda line: line["val/dice"]) if known else None

    @property
    def classes(self) -> list[str]:
        """Foreground classes that scores are known of."""
        if self.tested:
            return list(next(iter(self.tested.values())).foreground)
        keys = self.validation[-1] if self.validation else {}
        learned = self.environments[-1].learned if self.environments else None
        first = 0 if learned is not None and learned.multilabel else 1  # the background is no foreground class
        return [key.removeprefix("val/dice/") for key in keys if key.startswith("val/dice/")][first:]

    def series(self, key: str) -> list[float | None]:
        """Return one number of every training line; None where it is missing or was not finite."""
        return [line.get(key) for line in self.training]


def read_run_content(folder: Path) -> RunContent:
    """Read a run folder.

    Args:
        folder: The run folder; the run may still be going on.

    Returns:
        All that a page shows of it.

    Raises:
        RunError: no run folder, or one of its files is damaged.
        MixtureError: mixture.json is damaged.
    """
    if not (folder / "recipe.toml").is_file() or not (folder / "metrics.jsonl").is_file():
        raise RunError(
            f"{folder} holds neither a run nor a study nor a cross-validation.",
            seen=_what_is_there(folder),
            hint=[
                shlex.join(["lomix", "report", str(one.parent)]) for one in sorted(folder.glob("*/metrics.jsonl"))[:5]
            ]
            or "lomix runs   # lists what there is",
        )
    training, validation = _log(folder / "metrics.jsonl")
    mixture, seen = folder / "mixture.json", folder / "seen.npz"
    evaluated = [path for path in sorted(folder.glob("evaluation/*")) if (path / "scores.csv").exists()]
    return RunContent(
        name_in_runs(folder),
        read_toml(folder / "recipe.toml", RunError),
        training,
        validation,
        Mixture.load(mixture) if mixture.exists() else None,
        read_results(folder),
        {path.name: read_evaluation(path) for path in evaluated},
        read_status(folder),
        read_environments(folder),
        PredictedSlices.load(seen) if seen.exists() else None,
        rank_maps(folder) if (folder / "rank.json").is_file() else None,
    )


def _what_is_there(folder: Path) -> str:
    if folder.is_dir():
        return "no recipe.toml with metrics.jsonl, no journal.log"
    return "a file, not a folder" if folder.exists() else "no such folder"


def _log(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a log that may hold millions of long lines: only those that are shown are parsed."""
    lines = path.read_bytes().splitlines()
    trained = [line for line in lines if b'"train/loss": ' in line]
    kept = sorted({round(i) for i in np.linspace(0, len(trained) - 1, min(_POINTS, len(trained)))}) if trained else []
    validated = _parsed([line for line in lines if b'"val/dice": ' in line])
    return _parsed([trained[i] for i in kept]), [line for line in validated if "val/dice" in line]


def _parsed(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Read lines; torn ones, as of a run that was killed or is writing, are passed over."""
    return [found for line in lines if (found := read_line(line)) is not None]
