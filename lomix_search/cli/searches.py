"""What commands that run recipes do and show: one run, one for each share of the labels, one for each fold."""

from pathlib import Path
from typing import Any

from rich.console import Console

from lomix_search.cli.common import console, tell_files, typed
from lomix_search.cli.scoring import show_folds
from lomix_search.cli.told import run_to_dict
from lomix_search.data.subsets import label_fraction as portion
from lomix_search.errors import RunError
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.experiments.folds.cross_validate import cross_validate
from lomix_search.experiments.run import Outcome, run_recipe
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.utils.launched import launched_rank
from lomix_search.utils.terminal import Table


def sweep_and_show(recipe: str, given: list[str], fractions: list[str], home: Path, resume: bool) -> dict[str, Any]:
    """Run once for each share of the training patients, in folders of their own; all recipes are checked first."""
    recipes = [_part(recipe, given, fraction) for fraction in fractions]
    table = Table("share of patients", "training items", "final", "best on validation", title="test Dice")
    for fraction, loaded in zip(fractions, recipes, strict=True):
        console.rule(f"label fraction {fraction}")
        outcome = run_and_show(loaded, home / f"fraction_{fraction}", resume)
        search = loaded.search
        items = len(portion(loaded.build_data().train, search.label_fraction, search.seed))  # type: ignore[arg-type]
        table.add_row(fraction, str(items), *(f"{outcome.test[name].mean:.3f}" for name in ("final", "best")))
    console.print(table)
    runs = {fraction: run_to_dict(home / f"fraction_{fraction}") for fraction in fractions if launched_rank() == 0}
    return {"folder": home, "label_fractions": runs}


def cross_validate_and_show(
    recipe: Recipe, home: Path, folds: int, resume: bool, label_fraction: str
) -> dict[str, Any]:
    """Run all folds, and show what they scored together."""
    if label_fraction:
        raise RunError(
            "--folds and --label-fraction are two sweeps; one at a time is run.",
            hint=f"lomix run … --folds {folds} {recipe.label_fraction_key}={label_fraction.partition(',')[0]}",
        )
    scores = cross_validate(recipe, home, folds, resume=resume, console=_speaking())
    show_folds(scores, home)
    return {"folder": home, **scores.to_dict()}


def _part(recipe: str, given: list[str], fraction: str) -> Recipe:
    """Load a recipe for a part of the labels."""
    key = load_recipe(recipe, given).label_fraction_key
    return load_recipe(recipe, [*given, f"{key}={fraction}"])


def run_and_show(recipe: Recipe, folder: Path, resume: bool) -> Outcome:
    """Run a recipe; show the test scores, the strongest maps and what to type next."""
    outcome = run_recipe(recipe, folder, resume=resume, console=_speaking())
    for title, scores in _titled_scores(outcome):
        console.print(scores.table(title))
    console.print(recipe.about, style="italic")
    ranked = Table("rank", "map", "weight", title="the ten strongest maps")
    for place, m in enumerate(outcome.result.mixture.ranked()[:10], 1):
        ranked.add_row(str(place), m.id, f"{m.weight:.4f}")
    console.print(ranked)
    tell_files(folder, "mixture.json predictions.png weights.png results.json")
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
