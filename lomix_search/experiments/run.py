"""From a recipe to a finished run folder: data, network, instrumentation, search, test scores, pictures."""

import shlex
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from lomix_search.data.dataset import Splits
from lomix_search.data.sanity import data_changed
from lomix_search.errors import MissingExtraError, RunError
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.build import build_loss, build_net
from lomix_search.experiments.environment import (
    Environment,
    check_learned,
    environment_of,
    note_environment,
    read_environments,
)
from lomix_search.experiments.figures import draw_seen, draw_weights
from lomix_search.experiments.predictions import look
from lomix_search.experiments.results import write_results
from lomix_search.experiments.run_data import note_data
from lomix_search.experiments.run_differences import flat
from lomix_search.experiments.status import recorded
from lomix_search.experiments.tracking import check_trackers, track_pictures, trackers_of
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.provenance import Provenance
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.validate import check_blocks, data_notes
from lomix_search.training.checkpoint import checkpoints, read_tensors, weights_sha256
from lomix_search.training.result import Result
from lomix_search.training.run_folder import hold, writing
from lomix_search.training.search import run_search
from lomix_search.training.state import MAY_CHANGE, TrainingPlan, check_same
from lomix_search.training.trackers import Tracker, Trackers, read_lines
from lomix_search.utils.distributed import alike, is_main, join, lost_processes, on_main
from lomix_search.utils.files import write_text
from lomix_search.utils.random import seed_everything
from lomix_search.utils.terminal import plain
from lomix_search.utils.toml import to_toml_value


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Args:
        result: What the search left.
        test: Test scores of the ``final`` network and of the one ``best`` on validation; empty when not asked for.
    """

    result: Result
    test: dict[str, DiceResult]


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    trackers: Iterable[Tracker] = (),
    score_test: bool = True,
    group: str | None = None,
    on_start: Callable[[Instrumented, MixtureLoss, Splits], None] | None = None,
    on_validate: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Run a recipe to the end.

    Args:
        recipe: What to do.
        folder: The run folder; afterwards it holds recipe.toml, data.json, environment.json, status.json,
            metrics.jsonl, checkpoints, mixture.json, final.pt, best.pt, and, if test data are scored,
            results.json, seen.npz, predictions.png and weights.png.
        resume: Go on with a run that was stopped or killed; an empty folder starts one.
        console: Where to say what was found; silent by default.
        trackers: Trackers besides those that the recipe asks for.
        score_test: Score the test data, once, at the end. Validation alone selects.
        group: Name of what the run belongs to, such as a study; trackers that group runs use it.
        on_start: Called once with network, loss and data, before the first step.
        on_validate: Called after each validation with the step and the mean Dice. What it raises ends the run.

    Returns:
        Mixture and scores.

    Raises:
        RunError: the folder holds another run, or the run cannot go on.
    """
    join()
    say = console if console and is_main() else Console(quiet=True)
    with lost_processes(lambda: str(folder)), hold(folder):
        on_main(lambda: _claim(folder, recipe, resume))
        seed_everything(recipe.search.seed)
        with alike():
            splits = recipe.build_data()
            if not resume:  # what a run of before began with, it goes on with
                check_blocks(recipe)
            net = build_net(recipe, splits)
            loss = build_loss(recipe, net, splits)
        for note in data_notes(recipe):
            say.print(plain((f"note: {note}", "yellow")), soft_wrap=True)
        say.print(net.stages)
        count = sum(p.numel() for p in loss.parameters())
        say.print(plain(f"{len(loss.maps)} maps supervised; {count} parameters in operators and weights"))
        with recorded(folder) as left:
            commit = on_main(lambda: _note_start(folder, recipe, splits))
            if on_start is not None:
                on_main(lambda: on_start(net, loss, splits))
            asked = trackers_of(recipe, folder, [m.id for m in loss.maps], group) if is_main() else []
            with Trackers([*asked, *trackers] if is_main() else []) as log:
                result = run_search(
                    net,
                    loss,
                    splits.train,
                    splits.val,
                    TrainingPlan(recipe.search, recipe.optimizer),
                    folder=folder,
                    log=log,
                    classes=splits.classes,
                    resume=resume,
                    progress=console is not None,
                    provenance=Provenance(recipe=recipe.name, network=type(net.model).__name__, commit=commit),
                    on_validate=on_validate,
                )
                left.weights = on_main(lambda: weights_sha256(folder))
                test = _score(net, splits, result) if score_test else {}
                if asked:
                    shown = splits.test if score_test else splits.val
                    track_pictures(log, net, result.mixture, shown, splits.classes, splits.ignore_index)
        return Outcome(result, test)


def _note_start(folder: Path, recipe: Recipe, splits: Splits) -> str | None:
    """Write what the run is and what it depends on; return the library's commit."""
    with writing(folder / "recipe.toml"):
        write_text(folder / "recipe.toml", recipe.to_toml())
    note_data(folder, recipe, splits)
    with writing(folder / "environment.json"):
        now, known = environment_of(recipe, splits), read_environments(folder)
        if known and checkpoints(folder / "checkpoints"):
            check_learned(folder, known, splits)
            if not recipe.search.other_data:
                _check_data(folder, known[-1], now)
        return note_environment(folder, now).library_commit


def _check_data(folder: Path, before: Environment, now: Environment) -> None:
    """Refuse to go on with other data than those of the last start."""
    if before.data and now.data and before.data.of == now.data.of and before.data.sha256 != now.data.sha256:
        hashes = f"sha256 of {now.data.of}: {before.data.sha256[:12]} before, {now.data.sha256[:12]} now"
        raise data_changed(folder, [hashes])


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder, and to start without what the recipe's trackers need."""
    check_trackers(recipe)
    check_place(folder, recipe, resume)


def check_place(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse a folder that holds a run which is not gone on with, or one of another recipe.

    Args:
        folder: The run folder; an empty one, or none, is fine.
        recipe: What is to be run there.
        resume: Whether to go on with a run that is there.

    Raises:
        RunError: it holds a run, and ``resume`` is not asked for, or its recipe differs.
    """
    if not (folder / "recipe.toml").exists():
        return
    if not resume:
        raise RunError(
            f"{folder} holds a run already; nothing was changed.",
            hint=["--resume           to go on with it", "--folder runs/new  to start another"],
        )
    _check_recipe(folder, recipe)


def _check_recipe(folder: Path, recipe: Recipe) -> None:
    """Refuse to go on with a run by a recipe that differs in what a result depends on."""
    before, now = load_recipe(folder / "recipe.toml").model_dump(), recipe.model_dump()
    skipped = ("track", "tune", "about", "note")
    was, wanted = (flat({k: v for k, v in table.items() if k not in skipped}) for table in (before, now))
    free = {f"search.{name}" for name in MAY_CHANGE}
    if now["search"]["steps"] > before["search"]["steps"]:
        free.add("search.steps")
    different = [key for key in wanted | was if was.get(key) != wanted.get(key) and key not in free]
    if any(not key.startswith("search.") for key in different):
        again = [f"{key}={to_toml_value(was[key])}" for key in different if was.get(key) is not None]
        raise RunError(
            f"{folder} was started with another recipe.",
            seen=[f"{key}: {was.get(key)} before, {wanted.get(key)} now" for key in different],
            hint=["the same settings again, or another folder", *([shlex.join(again)] if again else [])],
        )
    check_same(before["search"], now["search"], folder)


def _score(net: Instrumented, splits: Splits, result: Result) -> dict[str, DiceResult]:
    """Score both networks on the test data, write results.json and the pictures, leave the final weights in place."""
    folder = result.folder
    scores: dict[str, DiceResult] = {}
    before: dict[str, Tensor] = {}
    for name in ("best", "final"):
        weights = on_main(partial(read_tensors, folder / f"{name}.pt"))
        net.model.load_state_dict(weights)
        if _same(before, weights):  # the last step was the best: the test data need not be read twice
            scores[name] = scores["best"]
            continue
        scores[name] = score_items(
            net, splits.test, splits.classes, ignore_index=splits.ignore_index, multilabel=splits.multilabel
        )
        before = weights
    on_main(lambda: write_results(folder, scores, result.best_step, splits.patients))
    on_main(lambda: _draw(net, splits, result))
    return scores


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _draw(net: Instrumented, splits: Splits, result: Result) -> None:
    """Draw the pictures. The run is finished by now, so a failure here, such as a full disk, is only a warning."""
    folder = result.folder
    try:
        seen = look(net, splits.test, splits.classes, ignore_index=splits.ignore_index)
        seen.save(folder / "seen.npz")
        draw_weights(folder / "weights.png", result.mixture, read_lines(folder / "metrics.jsonl"))
        draw_seen(folder / "predictions.png", seen.some(4))
    except MissingExtraError as missing:  # known only now, and no reason to lose a run
        warnings.warn(f"no pictures are drawn: {missing}", stacklevel=2)
    except Exception as fault:
        warnings.warn(
            f"the run is finished, but its pictures could not be drawn: {type(fault).__name__}: {fault}; "
            f"lomix report {folder} draws from what is there, the same command with --resume tries again",
            stacklevel=2,
        )
