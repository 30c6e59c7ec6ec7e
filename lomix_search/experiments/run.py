"""From a recipe to a finished run folder: data, network, instrumentation, search, test scores, pictures."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from lomix_search.data.dataset import Splits
from lomix_search.data.sanity import data_changed
from lomix_search.errors import MissingExtraError, RunError, nearest
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.evaluation.score_items import score_items
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.environment import (
    Environment,
    environment_of,
    note_environment,
    read_environments,
)
from lomix_search.experiments.figures import draw_seen, draw_weights
from lomix_search.experiments.predictions import look
from lomix_search.experiments.status import recorded
from lomix_search.experiments.tracking import check_trackers, track_pictures, trackers_of
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import Provenance
from lomix_search.mixture.weighting import build_weighting
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.sections import WeightingSection
from lomix_search.training.checkpoint import checkpoints, read_tensors, weights_sha256
from lomix_search.training.result import Result
from lomix_search.training.run_folder import hold, sweep, writing
from lomix_search.training.search import run_search
from lomix_search.training.state import TrainingPlan, check_same
from lomix_search.training.trackers import Tracker, Trackers, read_lines
from lomix_search.utils.distributed import alike, device, is_main, join, lost_processes, on_main
from lomix_search.utils.files import write_text
from lomix_search.utils.random import seed_everything
from lomix_search.utils.terminal import plain


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
        folder: The run folder; afterwards it holds recipe.toml, environment.json, status.json, metrics.jsonl,
            checkpoints, mixture.json, final.pt, best.pt, and, if test data are scored, results.json, seen.npz,
            predictions.png and weights.png.
        resume: Go on with a run that was stopped or killed; start where there is none.
        console: Where to say what was found; silent by default.
        trackers: Trackers besides those that the recipe asks for.
        score_test: Score the test data, once, at the end. Validation alone selects.
        group: What the run belongs to, such as a study, for trackers that group runs.
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
            net = build_net(recipe, splits)
            loss = build_loss(recipe, net, net.num_classes)
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
                test = _score(net, splits, result, recipe.loss.ignore_index) if score_test else {}
                if asked:
                    shown = splits.test if score_test else splits.val
                    track_pictures(log, net, result.mixture, shown, splits.classes, recipe.loss.ignore_index)
        return Outcome(result, test)


def build_net(recipe: Recipe, splits: Splits) -> Instrumented:
    """Build the recipe's network, on the GPU where there is one, and instrument it.

    Args:
        recipe: Names the network.
        splits: Its data; an image of them is the example.

    Returns:
        The network with a head on each stage.
    """
    image, _ = splits.val[0]
    stages = recipe.network.stages
    return instrument(recipe.build_network().to(device()), image[None].to(device()), stages=stages)


def build_loss(recipe: Recipe, net: Instrumented, num_classes: int) -> MixtureLoss:
    """Build the recipe's mixture loss for an instrumented network.

    Args:
        recipe: Space, loss and weighting; ``weighting.mixture`` trains the maps of a mixture file.
        net: The network.
        num_classes: Channels of every map.

    Returns:
        The loss.

    Raises:
        MixtureError: the mixture was found on another network.
        LossError: unknown weighting or settings.
    """
    options = recipe.loss.model_dump()
    name, settings = recipe.weighting.name, recipe.weighting.settings
    if recipe.weighting.mixture is not None:
        mixture = Mixture.load(recipe.weighting.mixture)
        mixture.check(len(net.stages), num_classes, [stage.name for stage in net.stages])
        return MixtureLoss.from_mixture(mixture, weighting=name, settings=settings, **options)
    space = recipe.build_space()
    weighting = build_weighting(name, tuple(space.maps(len(net.stages))), settings)
    return MixtureLoss(space, len(net.stages), num_classes, weighting=weighting, **options)


def with_mixture(recipe: Recipe, mixture: Path, weighting: str = "fixed", **settings: Any) -> Recipe:
    """Return the recipe that trains from scratch with a mixture file.

    Args:
        recipe: Data, network, optimizer and so on; its space and weighting give way to the mixture's.
        mixture: The file.
        weighting: ``"fixed"`` keeps its weights, ``"anneal"`` goes from them to the finest original; any other
            begins anew on its maps.
        **settings: Of the weighting.

    Returns:
        The recipe.

    Raises:
        MixtureError: the file is no mixture.
    """
    Mixture.load(mixture)  # whatever is wrong with it is said before anything else is read
    chosen = WeightingSection.model_validate({"name": weighting, "mixture": str(mixture.absolute()), **settings})
    return recipe.model_copy(update={"weighting": chosen})


def evaluate_run(
    folder: Path,
    network: str = "final",
    *,
    subset: str = "test",
    changes: Sequence[str] = (),
    overlays: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Score a finished run's network on whole cases of its recipe, at native size, by the recipe's protocol.

    Args:
        folder: The run folder; tables and predictions go to :func:`evaluation_folder`.
        network: ``"final"``, or ``"best"`` on validation.
        subset: ``"test"``, or ``"val"``: the cases that validated, which chose ``best.pt``.
        changes: ``key=value`` changes of the recipe, e.g. ``evaluate.protocol=transunet``.
        overlays: Number of cases to draw.
        progress: Show a progress bar.

    Returns:
        All scores.

    Raises:
        RunError: no such network or subset, or not a finished run.
    """
    for what, given, known in (("network", network, ("final", "best")), ("subset", subset, ("test", "val"))):
        if given not in known:
            raise RunError(f'{what} "{given}": unknown. {nearest(given, known)}')
    if not (folder / "recipe.toml").is_file() or not (folder / f"{network}.pt").is_file():
        raise RunError(f"{folder} holds no finished run.", hint="lomix run RECIPE --folder FOLDER --resume")
    recipe = load_recipe(folder / "recipe.toml", changes)
    splits = recipe.build_data()
    net = build_net(recipe, splits)  # so that its outputs are read as they were in training
    net.model.load_state_dict(read_tensors(folder / f"{network}.pt"))
    sweep(folder / "evaluation", age=3600)
    save = _writable(evaluation_folder(folder, network, subset))
    chosen: Literal["test", "val"] = "val" if subset == "val" else "test"
    return recipe.score(net, splits, chosen, save=save, overlays=overlays, progress=progress)


def evaluation_folder(folder: Path, network: str, subset: str) -> Path:
    """Return where ``evaluate_run`` leaves what it found: ``evaluation/final`` or ``evaluation/final-val``."""
    return folder / "evaluation" / (network if subset == "test" else f"{network}-{subset}")


def _writable(folder: Path) -> Path | None:
    """Return the folder, made; None with a warning where it cannot be written to, as on someone else's disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as cause:
        warnings.warn(f"tables and predictions are not written: {folder}: {cause.strerror}", stacklevel=3)
        return None


def _note_start(folder: Path, recipe: Recipe, splits: Splits) -> str | None:
    """Write what the run is and what it depends on; return the library's commit."""
    with writing(folder / "recipe.toml"):
        write_text(folder / "recipe.toml", recipe.to_toml())
    with writing(folder / "environment.json"):
        now, known = environment_of(recipe, splits), read_environments(folder)
        if known and checkpoints(folder / "checkpoints") and not recipe.search.other_data:
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
    held = folder / "recipe.toml"
    if not held.exists():
        return
    if not resume:
        raise RunError(
            f"{folder} holds a run already; nothing was changed.",
            hint=["--resume           to go on with it", "--folder runs/new  to start another"],
        )
    before, now = load_recipe(held).model_dump(), recipe.model_dump()
    check_same(before.pop("search"), now.pop("search"), folder)
    skipped = ("track", "tune", "about", "note")
    different = [key for key in now if key not in skipped and before[key] != now[key]]
    if different:
        raise RunError(
            f"{folder} was started with another recipe.",
            seen=[f"{key}: {before[key]} before, {now[key]} now" for key in different],
            hint="run it with the same recipe, or in another folder",
        )


def _score(net: Instrumented, splits: Splits, result: Result, ignore_index: int | None) -> dict[str, DiceResult]:
    """Score both networks on the test data, write results.json and the pictures, leave the final weights in place."""
    folder = result.folder
    scores: dict[str, DiceResult] = {}
    for name in ("best", "final"):
        path = folder / f"{name}.pt"
        net.model.load_state_dict(on_main(partial(read_tensors, path)))
        scores[name] = score_items(net, splits.test, splits.classes, ignore_index=ignore_index)
    on_main(lambda: _leave_scores(net, splits, result, scores, ignore_index))
    return scores


def _leave_scores(
    net: Instrumented, splits: Splits, result: Result, scores: dict[str, DiceResult], ignore_index: int | None
) -> None:
    """Write results.json, what the final network saw, and the pictures."""
    folder = result.folder
    table = {name: {"mean": s.mean, "per_class": s.per_class, "cases": s.rows()} for name, s in scores.items()}
    table["best"]["step"] = result.best_step
    with writing(folder / "results.json"):
        write_text(folder / "results.json", json.dumps({"test_dice": table}, indent=2) + "\n")
    _draw(net, splits, result, ignore_index)


def _draw(net: Instrumented, splits: Splits, result: Result, ignore_index: int | None) -> None:
    """Leave what is there to be looked at. The run is finished by now: what fails here, a full disk too, is said."""
    folder = result.folder
    try:
        seen = look(net, splits.test, splits.classes, ignore_index=ignore_index)
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
