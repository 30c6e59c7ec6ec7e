"""Runs of a recipe: search, train, rank, score."""

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lomix_search.cli.common import (
    RECIPE,
    RUN,
    AsJson,
    Folder,
    Online,
    Overrides,
    Resume,
    TrackOption,
    app,
    console,
    fractions_of,
    print_json,
    silent,
    tracked,
    typed,
)
from lomix_search.cli.told import run_to_dict
from lomix_search.data.subsets import label_fraction as portion
from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.evaluation.paired_evaluations import paired_test
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.experiments.build import with_mixture
from lomix_search.experiments.compare.map_ranking import rank_maps
from lomix_search.experiments.evaluate_run import evaluate_run, evaluation_folder
from lomix_search.experiments.folds.cross_validate import cross_validate
from lomix_search.experiments.folds.fold_scores import FoldScores
from lomix_search.experiments.folds.scored_folds import finished_folds, is_cross_validation, score_folds
from lomix_search.experiments.listing import find_run, locate_run
from lomix_search.experiments.run import Outcome, run_recipe
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import Recipe, home_of, load_recipe
from lomix_search.utils.distributed import is_main
from lomix_search.utils.files import write_text
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.terminal import Table


@app.command("demo")
def demo_command(overrides: Overrides = None) -> None:
    """Search on the embedded chest CT (one patient, about 3 minutes on 2 cores) and leave runs/demo."""
    folder = Path("runs/demo")
    shutil.rmtree(folder, ignore_errors=True)  # the demo's own folder: it starts anew each time
    _run(load_recipe("chest_ct", overrides or ()), folder, resume=False)


@app.command("run")
def run_command(
    recipe: Annotated[str, typer.Argument(help=RECIPE, metavar="RECIPE")],
    overrides: Overrides = None,
    folder: Folder = None,
    resume: Resume = False,
    label_fraction: Annotated[
        str,
        typer.Option(
            help="run once for each share of the training patients, each in (0, 1]: 0.05,0.1,1; shares are nested"
        ),
    ] = "",
    folds: Annotated[
        int | None,
        typer.Option(help="cross-validate: one run for each of so many folds, and all scored together", min=2),
    ] = None,
    track: TrackOption = None,
    online: Online = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: search, score, export the mixture."""
    given = list(overrides or ())
    given += tracked(track, online)
    loaded = load_recipe(recipe, given)
    home = folder or home_of(loaded)
    told: dict[str, Any] = {}
    with silent(as_json):
        if folds is not None:
            told = _cross_validate(loaded, home, folds, resume, label_fraction)
        elif label_fraction:
            told = _sweep(recipe, given, fractions_of(label_fraction), home, resume)
        else:
            _run(loaded, home, resume)
    if as_json and is_main():
        print_json(told or run_to_dict(home))


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help=RECIPE, metavar="RECIPE")],
    overrides: Overrides = None,
    mixture: Annotated[Path, typer.Option(help="the mixture.json of a search, or its run by folder or name")] = Path(
        "mixture.json"
    ),
    top: Annotated[int | None, typer.Option(help="with this many of its strongest maps only", min=1)] = None,
    mass: Annotated[
        float | None, typer.Option(help="with the fewest maps that hold this part of the weight, in (0, 1]")
    ] = None,
    weighting: Annotated[
        str, typer.Option(help='"fixed" keeps the weights, "anneal" goes from them to the finest map')
    ] = "fixed",
    folder: Folder = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train from scratch with the weights that a search found, whole or pruned."""
    loaded = load_recipe(recipe, overrides or ())
    home, mixture = folder or home_of(loaded, "-train"), locate_run(mixture)
    if not mixture.exists():
        hint = typed("train", recipe, "--mixture", "RUN")
        raise RunError(f'--mixture "{mixture}": neither a mixture.json nor a run that found one.', hint=hint)
    mixture = mixture / "mixture.json" if mixture.is_dir() else mixture
    if top is not None or mass is not None:
        pruned = Mixture.load(mixture).prune(top=top, mass=mass)
        mixture = home / "pruned.json"
        if not resume or not mixture.exists():
            pruned.save(mixture)
    with silent(as_json):
        _run(with_mixture(loaded, mixture, weighting), home, resume)
    if as_json and is_main():
        print_json(run_to_dict(home))


@app.command("rank")
def rank_command(
    what: Annotated[
        str, typer.Argument(help="a run of weighting lookahead, or a recipe to measure with", metavar="RUN|RECIPE")
    ],
    overrides: Overrides = None,
    top: Annotated[int | None, typer.Option(help="also write a mixture of this many maps, weight 1", min=1)] = None,
    folder: Folder = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Rank maps by what leaving them out would do to held-out data, with intervals."""
    home = locate_run(Path(what))
    if what in shipped_files("recipes") and not _looked(home):  # a run of that name says nothing of it
        home = Path(what)
    if not (home / "metrics.jsonl").is_file():
        measure = ["weighting.rate=0", "weighting.until=1"]  # uniform weights, looks to the end
        loaded = load_recipe(what, [*measure, *(overrides or ()), "weighting.name=lookahead"])
        home = folder or home_of(loaded, "-rank")
        run_recipe(loaded, home, resume=resume, console=None if as_json else console, score_test=False)
    ranking = rank_maps(home)
    write_text(home / "rank.json", json.dumps(ranking.to_dict(), indent=2) + "\n")
    if top is not None:
        ranking.derive(top).save(home / "ranked.json")
    if as_json:
        print_json(ranking.to_dict())
        return
    console.print(ranking)
    if top is not None:
        console.print(f"next: {typed('train', home, '--mixture', home / 'ranked.json')}", soft_wrap=True)


def _looked(run: Path) -> bool:
    """Whether a finished run looked at held-out data."""
    return (run / "mixture.json").is_file() and Mixture.load(run / "mixture.json").weighting == "lookahead"


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, typer.Argument(help=f"{RUN}; or a cross-validation", metavar="RUN")],
    other: Annotated[
        Path | None, typer.Argument(help="another one on the same cases, to compare with", metavar="RUN")
    ] = None,
    network: Annotated[str, typer.Option(help='"final" or "best" (on validation)')] = "final",
    protocol: Annotated[
        str | None, typer.Option(help="strict, transunet, polyp or isic2018 (default: the recipe's)")
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option("--on", help='"test", or "val": the cases that validated (default: test; of folds: val)'),
    ] = None,
    overlays: Annotated[int, typer.Option(help="draw this many cases", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a run's network on whole cases, or a cross-validation's; of two, also their paired difference."""
    changes = [f"evaluate.protocol={protocol}"] if protocol else []
    runs = [find_run(one) for one in (folder, other) if one is not None]
    with silent(as_json):
        scores = [_evaluate(one, network, subset, changes, overlays) for one in runs]
        if len(runs) == 2:
            console.print(paired_test(scores[0], scores[1], names=(str(runs[0]), str(runs[1]))))
    if as_json:
        print_json({str(run): score.to_dict() for run, score in zip(runs, scores, strict=True)})


def _evaluate(run: Path, network: str, subset: str | None, changes: list[str], overlays: int) -> Evaluation:
    """Score one run, or one cross-validation, and show what it scored."""
    if is_cross_validation(run):
        return _evaluate_folds(run, network, subset or "val", changes, overlays)
    what = subset or "test"
    scores = evaluate_run(run, network, subset=what, changes=changes, overlays=overlays, progress=True)
    console.print(f"{run}, {network} network, {what} cases")
    console.print(scores)
    if os.access(run, os.W_OK):
        console.print(f"tables and predictions: {evaluation_folder(run, network, what)}")
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
        raise RunError(f"--on {subset}: unknown. {nearest(subset, known)}")
    scores = score_folds(folder, finished_folds(folder), changes=changes, overlays=overlays, progress=True)
    if subset == "test" and scores.test is None:
        raise RunError(f"{folder}: its data have no test cases; the folds share out all of them.", hint="--on val")
    _show_folds(scores, folder)
    return scores.test if subset == "test" and scores.test is not None else scores.all


def _show_folds(scores: FoldScores, home: Path) -> None:
    console.print(scores)
    if scores.test is not None:
        console.print(f"test cases, the {len(scores.folds)} networks together")
        console.print(scores.test)
    console.print(f"all in {home}: folds.json scores.csv scores.md fold0 … fold{len(scores.folds) - 1}")
    console.print(f"next: {typed('report', home)}", soft_wrap=True)


def _sweep(recipe: str, given: list[str], fractions: list[str], home: Path, resume: bool) -> dict[str, Any]:
    """Run once for each share of the training patients, in folders of their own; all recipes are checked first."""
    recipes = [_part(recipe, given, fraction) for fraction in fractions]
    table = Table("share of patients", "training items", "final", "best on validation", title="test Dice")
    for fraction, loaded in zip(fractions, recipes, strict=True):
        console.rule(f"label fraction {fraction}")
        outcome = _run(loaded, home / f"fraction_{fraction}", resume)
        search = loaded.search
        items = len(portion(loaded.build_data().train, search.label_fraction, search.seed))  # type: ignore[arg-type]
        table.add_row(fraction, str(items), *(f"{outcome.test[name].mean:.3f}" for name in ("final", "best")))
    console.print(table)
    runs = {fraction: run_to_dict(home / f"fraction_{fraction}") for fraction in fractions if is_main()}
    return {"folder": home, "label_fractions": runs}


def _cross_validate(recipe: Recipe, home: Path, folds: int, resume: bool, label_fraction: str) -> dict[str, Any]:
    """Run all folds, and show what they scored together."""
    if label_fraction:
        raise RunError(
            "--folds and --label-fraction are two sweeps; one at a time is run.",
            hint=f"lomix run … --folds {folds} {recipe.label_fraction_key}={label_fraction.partition(',')[0]}",
        )
    scores = cross_validate(recipe, home, folds, resume=resume, console=_speaking())
    _show_folds(scores, home)
    return {"folder": home, **scores.to_dict()}


def _part(recipe: str, given: list[str], fraction: str) -> Recipe:
    """Load a recipe for a part of the labels."""
    key = load_recipe(recipe, given).label_fraction_key
    return load_recipe(recipe, [*given, f"{key}={fraction}"])


def _run(recipe: Recipe, folder: Path, resume: bool) -> Outcome:
    outcome = run_recipe(recipe, folder, resume=resume, console=_speaking())
    for title, scores in _titled_scores(outcome):
        console.print(scores.table(title))
    console.print(recipe.about, style="italic")
    ranked = Table("rank", "map", "weight", title="the ten strongest maps")
    for place, m in enumerate(outcome.result.mixture.ranked()[:10], 1):
        ranked.add_row(str(place), m.id, f"{m.weight:.4f}")
    console.print(ranked)
    console.print(f"all in {folder}: mixture.json predictions.png weights.png results.json", soft_wrap=True)
    console.print(f"next: {typed('report', folder)}", soft_wrap=True)
    return outcome


def _speaking() -> Console | None:
    """Return the console; none where JSON alone is printed, since a search tells its steps to whoever has one."""
    return None if console.quiet else console


def _titled_scores(outcome: Outcome) -> list[tuple[str, DiceResult]]:
    """Return the tables to print: one where the best network on validation is the final one."""
    last, best = outcome.result.mixture.provenance.steps, outcome.result.best_step
    if "best" in outcome.test and best == last:
        return [(f"test Dice, final network, also the best on validation (step {last})", outcome.test["final"])]
    steps = {"final": last, "best": best}
    return [(f"test Dice, {name} network (step {steps[name]})", scores) for name, scores in outcome.test.items()]
