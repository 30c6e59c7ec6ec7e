"""The command line: what ``lomix --help`` lists."""

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from lomix_search.data.prepare import prepare
from lomix_search.doctor import doctor
from lomix_search.draw import draw
from lomix_search.errors import LomixError, RecipeError, RunError, nearest
from lomix_search.evaluation.compare import compare
from lomix_search.heads import instrument
from lomix_search.mixture import Mixture
from lomix_search.new import new_recipe
from lomix_search.objects import call, load_object
from lomix_search.rank import rank
from lomix_search.recipe import Recipe, load_recipe, toml_or_text
from lomix_search.report import draw_space
from lomix_search.run import Outcome, evaluate_run, run_recipe, with_mixture
from lomix_search.shelf import shelved
from lomix_search.space import SearchSpace
from lomix_search.trace import trace
from lomix_search.tune import tune
from lomix_search.typed import write_text
from lomix_search.validate import validate_recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Console()

Overrides = Annotated[
    list[str] | None, typer.Argument(help="KEY=VALUE pairs that change the recipe", metavar="KEY=VALUE")
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with a run that was stopped or killed")]
Folder = Annotated[Path | None, typer.Option(help="run folder  [default: runs/<recipe>]")]
Track = Annotated[str | None, typer.Option(help='"wandb", offline unless --online')]
Online = Annotated[bool, typer.Option("--online", help="let wandb send while running")]


@app.command()
def demo(overrides: Overrides = None) -> None:
    """Search on the embedded chest CT (one patient, about 3 minutes on 2 cores) and leave runs/demo."""
    folder = Path("runs/demo")
    shutil.rmtree(folder, ignore_errors=True)  # the demo's own folder: it starts anew each time
    _run(load_recipe("chest_ct", overrides or ()), folder, resume=False)


@app.command("ls")
def list_shelf() -> None:
    """List the recipes and search spaces that ship with the library."""
    for kind in ("recipes", "search_spaces"):
        table = Table("name", "what it is", title=kind.replace("_", " "), title_justify="left")
        for name, path in shelved(kind).items():
            about = load_recipe(name).about if kind == "recipes" else SearchSpace.load(path).about
            table.add_row(name, about)
        console.print(table)
    console.print("lomix cp NAME FOLDER copies one for you to edit; lomix run NAME runs a recipe")


@app.command()
def cp(name: str, folder: Annotated[Path, typer.Argument(help="where to; made when missing")] = Path()) -> None:
    """Copy a shipped recipe or search space to edit it; nothing is ever overwritten."""
    recipes, spaces = shelved("recipes"), shelved("search_spaces")
    if name not in recipes | spaces:
        raise RecipeError(f'no shipped recipe or space "{name}". {nearest(name, recipes | spaces)}')
    source = recipes[name].parent if name in recipes else spaces[name]
    target = folder / source.name
    if target.exists():
        raise RecipeError(f"{target} exists already; nothing was copied.", hint=f"lomix cp {name} ANOTHER_FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
    console.print(
        f"copied to {target}", f"\nnext: lomix {'run' if name in recipes else 'show'} {target}", highlight=False
    )


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="a shipped name, a recipe.toml or its folder")],
    overrides: Overrides = None,
    folder: Folder = None,
    resume: Resume = False,
    label_fraction: Annotated[
        str, typer.Option(help="run once for each share of the training patients, e.g. 0.05,0.1,1.0; shares are nested")
    ] = "",
    track: Track = None,
    online: Online = False,
) -> None:
    """Run a recipe: search, score, export the mixture."""
    given = list(overrides or ())
    if track is not None:
        if track != "wandb":
            raise RecipeError(f"--track {track}: unknown. {nearest(track, ['wandb'])}")
        given += ["track.wandb=true", f"track.online={str(online).lower()}"]
    loaded = load_recipe(recipe, given)
    home = folder or Path("runs") / loaded.name
    if label_fraction:
        _sweep(recipe, given, [part.strip() for part in label_fraction.split(",")], home, resume)
    else:
        _run(loaded, home, resume)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="a shipped name, a recipe.toml or its folder")],
    overrides: Overrides = None,
    mixture: Annotated[Path, typer.Option(help="the mixture.json of a search")] = Path("mixture.json"),
    top: Annotated[int | None, typer.Option(help="with so many of its strongest maps only")] = None,
    mass: Annotated[float | None, typer.Option(help="with the fewest maps that hold this part of the weight")] = None,
    folder: Folder = None,
    resume: Resume = False,
) -> None:
    """Train from scratch with the weights that a search found, whole or pruned."""
    loaded = load_recipe(recipe, overrides or ())
    home = folder or Path("runs") / f"{loaded.name}-train"
    if top is not None or mass is not None:
        pruned = Mixture.load(mixture).prune(top=top, mass=mass)
        mixture = home / "pruned.json"
        if not resume or not mixture.exists():
            pruned.save(mixture)
    _run(with_mixture(loaded, mixture), home, resume)


@app.command("rank")
def rank_command(
    what: Annotated[str, typer.Argument(help="a run folder of weighting lookahead, or a recipe to measure with")],
    overrides: Overrides = None,
    top: Annotated[int | None, typer.Option(help="also write a mixture of so many maps, weight 1 each")] = None,
    folder: Folder = None,
    resume: Resume = False,
) -> None:
    """Rank maps by what leaving them out would do to held-out data, with intervals."""
    home = Path(what)
    if not (home / "metrics.jsonl").is_file():
        loaded = load_recipe(what, ["weighting.rate=0", *(overrides or ()), "weighting.name=lookahead"])
        home = folder or Path("runs") / f"{loaded.name}-rank"
        run_recipe(loaded, home, resume=resume, console=console, score_test=False)
    ranking = rank(home)
    write_text(home / "rank.json", json.dumps(ranking.to_dict(), indent=2) + "\n")
    console.print(ranking)
    if top is not None:
        ranking.derive(top).save(home / "ranked.json")
        console.print(f"next: lomix train RECIPE --mixture {home / 'ranked.json'}", highlight=False)


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="a run folder")],
    other: Annotated[Path | None, typer.Argument(help="another run on the same cases, to compare with")] = None,
    network: Annotated[str, typer.Option(help='"final" or "best" (on validation)')] = "final",
    protocol: Annotated[
        str | None, typer.Option(help="strict, transunet, polyp or isic2018  [default: the recipe's]")
    ] = None,
    overlays: Annotated[int, typer.Option(help="draw so many cases")] = 0,
) -> None:
    """Score a run's network on whole test cases; with two runs, also their paired difference."""
    changes = [f"evaluate.protocol={protocol}"] if protocol else []
    scores = []
    for one in (folder, *([other] if other else [])):
        scores.append(evaluate_run(one, network, changes=changes, overlays=overlays, progress=True))
        console.print(f"{one}, {network} network", highlight=False)
        console.print(scores[-1])
        console.print(f"tables and predictions: {one / 'evaluation' / network}", highlight=False)
    if other is not None:
        console.print(compare(scores[0], scores[1], names=(str(folder), str(other))))


@app.command("prepare")
def prepare_command(
    benchmark: Annotated[str, typer.Argument(help="synapse, acdc, polyp, isic2018 or busi")],
    raw: Annotated[Path, typer.Argument(help="folder of the raw files")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    size: Annotated[int | None, typer.Option(help="rows and columns for training  [default: the benchmark's]")] = None,
    labels: Annotated[str, typer.Option(help="comma-separated names of labels 1, 2, … of renumbered files")] = "",
    workers: Annotated[int | None, typer.Option(help="threads  [default: as many as cores]")] = None,
) -> None:
    """Read a benchmark's raw files once, into a form that trains fast; goes on after an interruption."""
    names = [name.strip() for name in labels.split(",") if name.strip()]
    manifest = prepare(benchmark, raw, out, size=size, label_names=names, workers=workers)
    console.print(f"{len(manifest.cases)} cases in {out}\nnext: lomix validate RECIPE data.root={out}", highlight=False)


@app.command("new")
def new_command(
    folder: Annotated[Path, typer.Argument(help="folder of the new recipe")],
    images: Annotated[Path, typer.Option(help="folder of images: NIfTI or pictures", prompt=True)],
    masks: Annotated[Path, typer.Option(help="folder of masks, named like the images", prompt=True)],
    classes: Annotated[str, typer.Option(help="comma-separated names of the label values in ascending order")] = "",
    patient: Annotated[str, typer.Option(help="regular expression; its first group is the patient in a name")] = "",
) -> None:
    """Look at your own images and masks, and write a recipe that works on them."""
    names = [name.strip() for name in classes.split(",") if name.strip()]
    path = new_recipe(folder, images, masks, classes=names, patient=patient)
    console.print(f"written: {path}\nnext: lomix validate {folder}, then lomix run {folder}", highlight=False)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="a mixture.json, or a search space by name or file")],
    stages: Annotated[int, typer.Option(help="number of stages, for a search space")] = 4,
    draw: Annotated[Path | None, typer.Option(help="also draw the graph: .png .svg .pdf .dot .mmd .graphml")] = None,
    top: Annotated[int | None, typer.Option(help="show only so many maps")] = None,
) -> None:
    """Show a mixture as a ranked table, or a search space as a tree."""
    if what.endswith(".json"):
        mixture = Mixture.load(what)
        console.print(mixture.prune(top=top, keep_finest=False) if top else mixture)
        space, stages, weights = mixture.space, mixture.num_maps, mixture.weights
    else:
        space, weights = SearchSpace.load(what), {}
        console.print(str(space), highlight=False)
        ids = [m.id for m in space.maps(stages)][:top]
        console.print(f"\n{space.count(stages)} maps for {stages} stages: {', '.join(ids)}", highlight=False)
    if draw is not None:
        draw_space(space, stages, draw, weights)
        console.print(f"drawn: {draw}", highlight=False)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="package.module:name or file.py:name, a class or a function")],
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments", metavar="KEY=VALUE")] = None,
    example: Annotated[str, typer.Option(help="shape of the input, e.g. 1,3,256,256")] = "",
    classes: Annotated[int | None, typer.Option(help="channels of the logits  [default: the model's]")] = None,
    stages: Annotated[str, typer.Option(help="your own choice: comma-separated module paths")] = "",
    picture: Annotated[
        Path | None, typer.Option("--draw", help="draw the network with its stages: .svg or .html")
    ] = None,
) -> None:
    """Show the decoder stages that instrument finds in a network, and how."""
    built, given = build_model(model, arguments or ()), torch.zeros(_shape(example))
    net = instrument(built, given, num_classes=classes, stages=stages.split(",") if stages else None)
    console.print(net.stages)
    maps = SearchSpace.load("lomix").count(len(net.stages))
    heads = sum(p.numel() for p in net.head_parameters())
    console.print(f"{heads} parameters in heads; the paper's space has {maps} maps here", highlight=False)
    if picture is not None:
        drawn = draw(trace(net.strip(), given), net.stages)
        write_text(picture, drawn if picture.suffix == ".svg" else f"<!DOCTYPE html>\n<body>{drawn}</body>\n")
        console.print(f"drawn: {picture}", highlight=False)


@app.command("doctor")
def doctor_command(
    model: Annotated[str, typer.Argument(help="package.module:name or file.py:name, a class or a function")],
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments", metavar="KEY=VALUE")] = None,
    example: Annotated[str, typer.Option(help="shape of a training batch, e.g. 6,3,224,224")] = "",
    classes: Annotated[int | None, typer.Option(help="channels of the logits  [default: the model's]")] = None,
    space: Annotated[str, typer.Option(help="search space, a name or a file")] = "lomix",
) -> None:
    """Measure what training with a mixture costs, before training."""
    built = build_model(model, arguments or ())
    cost = doctor(built, torch.rand(_shape(example)), classes, SearchSpace.load(space))
    console.print(str(cost), highlight=False)


def build_model(path: str, arguments: Iterable[str]) -> nn.Module:
    """Build the network that a command names.

    Args:
        path: ``package.module:name`` or ``file.py:name``; a dot in place of the colon will do.
        arguments: ``key=value`` pairs, the values in TOML.

    Returns:
        The network.

    Raises:
        RunError: an argument is no pair, or what was built is no network.
    """
    where = path if ":" in path else ":".join(path.rsplit(".", 1))
    given = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals:
            raise RunError(f"{text!r} is no argument of {path}.", hint="features=[8, 8, 16, 16, 32, 8]")
        given[key] = toml_or_text(value)
    built = call(load_object(where, "MODEL"), given, "MODEL")
    if not isinstance(built, nn.Module):
        raise RunError(f"{path} gave a {type(built).__name__}; a torch.nn.Module is needed.")
    return built


@app.command()
def validate(recipe: str, overrides: Overrides = None) -> None:
    """Check a recipe's files, splits, labels, spacing, class balance and network before an hour is spent."""
    found = validate_recipe(load_recipe(recipe, overrides or ()))
    console.print(found)
    found.check()


@app.command("tune")
def tune_command(
    recipe: str,
    overrides: Overrides = None,
    trials: Annotated[int | None, typer.Option(help="finished trials in all  [default: the recipe's]")] = None,
    folder: Folder = None,
    resume: Resume = False,
) -> None:
    """Tune the outer hyperparameters that a recipe declares, with Optuna."""
    loaded = load_recipe(recipe, overrides or ())
    study = tune(loaded, trials, folder=folder or Path("runs") / f"{loaded.name}-tune", resume=resume, console=console)
    table = Table("trial", "value", *study.best_trial.params, title=f"best trials by {loaded.tune.metric}")
    done = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(done, key=lambda t: t.value, reverse=loaded.tune.direction == "maximize")[:10]:
        table.add_row(
            str(trial.number),
            f"{trial.value:.4f}",
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.params.values()),
        )
    console.print(table)


def main() -> NoReturn:
    """Run the command line; errors of the library print as text and end with exit code 2."""
    try:
        app()
    except LomixError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]: ", end="")
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _sweep(recipe: str, given: list[str], fractions: list[str], home: Path, resume: bool) -> None:
    """Run once for each share of the training patients, in folders of their own; all recipes are checked first."""
    recipes = [load_recipe(recipe, [*given, f"data.label_fraction={fraction}"]) for fraction in fractions]
    table = Table("share of patients", "training items", "final", "best on validation", title="test Dice")
    for fraction, loaded in zip(fractions, recipes, strict=True):
        console.rule(f"label fraction {fraction}")
        outcome = _run(loaded, home / f"fraction_{fraction}", resume)
        items = str(len(loaded.build_data().train))
        table.add_row(fraction, items, *(f"{outcome.test[name].mean:.3f}" for name in ("final", "best")))
    console.print(table)


def _run(recipe: Recipe, folder: Path, resume: bool) -> Outcome:
    outcome = run_recipe(recipe, folder, resume=resume, console=console)
    for name, scores in outcome.test.items():
        step = outcome.result.best_step if name == "best" else recipe.search.steps
        console.print(scores.table(f"test Dice, {name} network (step {step})"))
    console.print(recipe.about, style="italic")
    ranked = Table("rank", "map", "weight", title="the ten strongest maps")
    for place, m in enumerate(outcome.result.mixture.ranked()[:10], 1):
        ranked.add_row(str(place), m.id, f"{m.weight:.4f}")
    console.print(ranked)
    console.print(f"all in {folder}: mixture.json predictions.png weights.png results.json", highlight=False)
    return outcome


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RunError(f'--example "{text}" is no shape.', hint="--example 1,3,256,256") from None
