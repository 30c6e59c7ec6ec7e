"""What a page tells of a cross-validation: read off the folders of its folds, nothing computed from data or network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lomix_search.errors import RunError
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.fold_scores import FoldScores
from lomix_search.experiments.folds.found_maps import FoundMaps, found_maps
from lomix_search.experiments.folds.scored_folds import planned_folds, read_folds
from lomix_search.experiments.listing import RunSummary, name_in_runs, summarize_run
from lomix_search.utils.files import read_toml


@dataclass(frozen=True)
class FoldsContent:
    """A cross-validation, read.

    Args:
        name: Its own, as a command takes it.
        recipe: The recipe of the first fold as plain tables.
        planned: How many folds it has, begun or not.
        runs: The folds that were begun.
        scores: What they scored; None before all were.
        found: The maps that they found; None before all folds have some.
        linked: Names of the folds beside whose runs a report lies.
    """

    name: str
    recipe: Mapping[str, Any]
    planned: int
    runs: tuple[RunSummary, ...]
    scores: FoldScores | None
    found: FoundMaps | None
    linked: frozenset[str] = frozenset()

    @property
    def state(self) -> str:
        """finished, running, stopped or failed: the worst that became of a fold."""
        states = {run.state for run in self.runs}
        for state in ("failed", "damaged", "running", "stopped"):
            if state in states:
                return "failed" if state == "damaged" else state
        return "finished" if self.scores is not None and len(self.runs) == self.planned else "stopped"


def read_folds_content(folder: Path, linked: frozenset[str] = frozenset()) -> FoldsContent:
    """Read a cross-validation.

    Args:
        folder: Its folder; folds may still be going on.
        linked: As for :class:`FoldsContent`.

    Returns:
        All that a page shows of it.

    Raises:
        LomixError: files of a fold are damaged, or folds do not fit each other.
    """
    places = fold_runs(folder)
    return FoldsContent(
        name_in_runs(folder),
        read_toml(places[0] / "recipe.toml", RunError),
        planned_folds(places),
        tuple(summarize_run(place) for place in places),
        read_folds(folder),
        found_maps(folder),
        linked,
    )
