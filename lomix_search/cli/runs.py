"""Runs of a recipe: search, train, rank, score."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

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
from lomix_search.errors import RunError
from lomix_search.utils.files import write_text
from lomix_search.utils.launched import launched_rank
from lomix_search.utils.shipped import shipped_files


@app.command("demo")
def demo_command(overrides: Overrides = None) -> None:
    """Search on the embedded chest CT (one patient, about 3 minutes on 2 cores) and leave runs/demo."""
    from lomix_search.cli.searches import run_and_show
    from lomix_search.recipe.recipe import load_recipe

    folder = Path("runs/demo")
    shutil.rmtree(folder, ignore_errors=True)  # the demo's own folder: it starts anew each time
    run_and_show(load_recipe("chest_ct", overrides or ()), folder, resume=False)


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
    from lomix_search.cli.searches import cross_validate_and_show, run_and_show, sweep_and_show
    from lomix_search.cli.told import run_to_dict
    from lomix_search.recipe.recipe import home_of, load_recipe

    given = list(overrides or ())
    given += tracked(track, online)
    loaded = load_recipe(recipe, given)
    home = folder or home_of(loaded)
    told: dict[str, Any] = {}
    with silent(as_json):
        if folds is not None:
            told = cross_validate_and_show(loaded, home, folds, resume, label_fraction)
        elif label_fraction:
            told = sweep_and_show(recipe, given, fractions_of(label_fraction), home, resume)
        else:
            run_and_show(loaded, home, resume)
    if as_json and launched_rank() == 0:
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
    from lomix_search.cli.searches import run_and_show
    from lomix_search.cli.told import run_to_dict
    from lomix_search.experiments.build import with_mixture
    from lomix_search.experiments.listing import locate_run
    from lomix_search.mixture.mixture import Mixture
    from lomix_search.recipe.recipe import home_of, load_recipe

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
        run_and_show(with_mixture(loaded, mixture, weighting), home, resume)
    if as_json and launched_rank() == 0:
        print_json(run_to_dict(home))


@app.command("rank")
def rank_command(
    what: Annotated[
        str, typer.Argument(help="a run of weighting lookahead, or a recipe to measure with", metavar="RUN|RECIPE")
    ],
    overrides: Overrides = None,
    top: Annotated[
        int | None, typer.Option(help="show this many maps, and write a mixture of them, weight 1", min=1)
    ] = None,
    folder: Folder = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Rank maps by what leaving them out would do to held-out data, with intervals."""
    from lomix_search.experiments.compare.map_ranking import has_looked, rank_maps
    from lomix_search.experiments.listing import locate_run
    from lomix_search.experiments.run import run_recipe
    from lomix_search.recipe.recipe import home_of, load_recipe

    home = locate_run(Path(what))
    if what in shipped_files("recipes") and not has_looked(home):  # a run of that name says nothing of it
        home = Path(what)
    if not (home / "metrics.jsonl").is_file():
        measure = ["weighting.rate=0", "weighting.until=1"]  # uniform weights, looks to the end
        loaded = load_recipe(what, [*measure, *(overrides or ()), "weighting.name=lookahead"])
        home = folder or home_of(loaded, "-rank")
        run_recipe(loaded, home, resume=resume, console=None if as_json else console, score_test=False)
    ranking = rank_maps(home)
    write_text(home / "rank.json", json.dumps(ranking.to_dict(), indent=2) + "\n")
    derived = None if top is None else ranking.derive(top)
    if derived is not None:
        derived.save(home / "ranked.json")
    if as_json:
        print_json(ranking.to_dict())
        return
    console.print(ranking.table(top))
    if derived is not None:
        shown = [score.id for score in ranking.scores[:top]]
        for name in set(derived.weights).difference(shown):  # the finest original, in the place of the last shown
            console.print(f"ranked.json has {name}, which inference uses, in place of {shown[-1]}")
        console.print(f"next: {typed('train', home, '--mixture', home / 'ranked.json')}", soft_wrap=True)


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
    from lomix_search.cli.scoring import evaluate_and_show
    from lomix_search.evaluation.paired_evaluations import paired_test
    from lomix_search.experiments.listing import find_run

    changes = [f"evaluate.protocol={protocol}"] if protocol else []
    runs = [find_run(one) for one in (folder, other) if one is not None]
    with silent(as_json):
        scores = [evaluate_and_show(one, network, subset, changes, overlays) for one in runs]
        if len(runs) == 2:
            console.print(paired_test(scores[0], scores[1], names=(str(runs[0]), str(runs[1]))))
    if as_json:
        print_json({str(run): score.to_dict() for run, score in zip(runs, scores, strict=True)})
