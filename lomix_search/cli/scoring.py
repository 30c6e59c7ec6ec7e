"""What ``evaluate`` does and shows."""

import os
from pathlib import Path

from lomix_search.cli.common import console, tell_files, typed
from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.evaluate_run import evaluate_run, evaluation_folder
from lomix_search.experiments.folds.fold_scores import FoldScores
from lomix_search.experiments.folds.scored_folds import finished_folds, is_cross_validation, score_folds


def evaluate_and_show(run: Path, network: str, subset: str | None, changes: list[str], overlays: int) -> Evaluation:
    """Score one run, or one cross-validation, and show what it scored."""
    if is_cross_validation(run):
        return _evaluate_folds(run, network, subset or "val", changes, overlays)
    what = subset or "test"
    scores = evaluate_run(run, network, subset=what, changes=changes, overlays=overlays, progress=True)
    console.print(f"{run}, {network} network, {what} cases")
    console.print(scores)
    if os.access(run, os.W_OK):
        console.print(f"tables and predictions: {evaluation_folder(run, network, what)}", soft_wrap=True)
    return scores


def _evaluate_folds(folder: Path, network: str, subset: str, changes: list[str], overlays: int) -> Evaluation:
    """Show what all folds scored together; return the cases that a comparison is about: those held out, or of test."""
    if network != "final":
        raise RunError(
            f"--network {network}: a cross-validation scores each fold's final network.",
            seen="the best network of a fold was chosen by the very cases that the fold is scored on",
            hint=typed("evaluate", folder / "fold0", "--network", network),
        )
    if subset not in (known := ("test", "val")):
        raise RunError(f"--on {subset}: unknown. {nearest(subset, known)}", hint="--on test")
    scores = score_folds(folder, finished_folds(folder), changes=changes, overlays=overlays, progress=True)
    if subset == "test" and scores.test is None:
        raise RunError(f"{folder}: its data have no test cases; the folds share out all of them.", hint="--on val")
    show_folds(scores, folder)
    return scores.test if subset == "test" and scores.test is not None else scores.all


def show_folds(scores: FoldScores, home: Path) -> None:
    """Show what the folds of a cross-validation scored together."""
    console.print(scores)
    if scores.test is not None:
        console.print(f"test cases, the {len(scores.folds)} networks together")
        console.print(scores.test)
    tell_files(home, f"folds.json scores.csv scores.md fold0 … fold{len(scores.folds) - 1}")
    console.print(f"next: {typed('report', home)}", soft_wrap=True)
