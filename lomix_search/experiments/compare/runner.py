"""Strategies at equal budget: a recipe and strategies go in, a run for each seed is made, a verdict comes out."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lomix_search.errors import LomixError, RunError, nearest
from lomix_search.experiments.compare.jobs import Job, run_jobs
from lomix_search.experiments.compare.map_ranking import rank_maps
from lomix_search.experiments.compare.strategies import DERIVED, Strategy, needed
from lomix_search.experiments.compare.strategy_run import StrategyRun, read_runs, write_label
from lomix_search.experiments.compare.verdict import StrategyRow, compare_by_seed
from lomix_search.experiments.compare.verdict_figure import draw_curves, draw_verdict
from lomix_search.experiments.compare.verdict_table import cases_to_csv, read_verdict, to_json, to_markdown
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.tuning import TuneSection
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import plain

_MOST = 1000  # seeds; each is a run of each strategy


def compare_strategies(
    recipe: Recipe,
    strategies: Sequence[Strategy],
    *,
    seeds: int = 5,
    labels: Sequence[float] = (1.0,),
    folder: Path = Path("runs/compare"),
    jobs: int = 1,
    baseline: str | None = None,
    console: Console | None = None,
) -> list[StrategyRow]:
    """Run each strategy with each seed and part of the labels, and compare.

    Finished runs are not repeated, broken ones go on from their checkpoints: the same call goes on where an earlier one
    stopped. Of one seed, all strategies start from the same network and meet the same items in the same order, except
    ``lookahead``, which keeps a part of the training items aside for half of the training.

    Args:
        recipe: What all runs share; its own seed is replaced.
        strategies: What to compare.
        seeds: How many; they are 1, 2, 3, ….
        labels: Parts of the training items, in (0, 1].
        folder: Where everything goes: a folder a run, compare.json, compare.md, compare.png, curves.png and cases.csv,
            the test score of every case. Finished runs of earlier calls that are asked for again are not repeated;
            others are named, and not counted.
        jobs: Processes at a time; each gets its share of the cores.
        baseline: Label of the strategy to compare the others with; else last_layer, deep_supervision or uniform.
        console: Where to report; silent by default.

    Returns:
        The verdict on what finished.

    Raises:
        RunError: bad numbers, a folder that holds another comparison, or no run that finished.
    """
    _check(seeds, labels, jobs)
    _check_baseline(baseline, strategies)
    say = console or Console(quiet=True)
    plan = [
        Job(strategy, part, seed, folder / strategy.slug / f"labels_{part:g}" / f"seed_{seed}")
        for seed in range(1, seeds + 1)  # outermost: stopped half way, all strategies have as many seeds
        for part in labels
        for strategy in needed(strategies)
    ]
    _claim(folder, recipe)
    failed: list[str] = []
    for derived in (False, True):  # derived mixtures come out of the runs before
        batch = [job for job in plan if (job.strategy.name == DERIVED) == derived]
        ready = [job for job in batch if _prepare(job, recipe, plan, failed)]
        failed += run_jobs([job for job in ready if not job.finished], jobs, say)
    for fault in failed:
        say.print(plain(("failed", "red"), f": {fault}"))
    return _conclude(plan, folder, failed, baseline, say)


def _check(seeds: int, labels: Sequence[float], jobs: int) -> None:
    faults = [f"--seeds {seeds}: at least 1 is needed."] if seeds < 1 else []
    faults += [f"--seeds {seeds}: at most {_MOST} are compared."] if seeds > _MOST else []
    faults += [f"--label-fraction {part:g}: lies outside (0, 1]." for part in labels if not 0 < part <= 1]
    faults += [f"--jobs {jobs}: at least 1 is needed."] if jobs < 1 else []
    if faults:
        raise RunError(
            "\n".join(["the comparison cannot be run.", *(f"  {fault}" for fault in faults)]),
            hint="--seeds 5 --label-fraction 0.1,1 --jobs 1",
        )


def _prepare(job: Job, recipe: Recipe, plan: Sequence[Job], failed: list[str]) -> bool:
    """Write the job's recipe; refuse a folder that holds another comparison."""
    mixture = None
    if job.strategy.name == DERIVED:
        source = next(
            other.folder / "run"
            for other in plan
            if other.strategy.name == "lookahead" and (other.labels, other.seed) == (job.labels, job.seed)
        )
        mixture = job.folder / "given.json"
        try:
            rank_maps(source).derive(job.strategy.settings.get("top", 8)).save(mixture)
        except LomixError as error:
            failed.append(f"{job.name}: {str(error).splitlines()[0]}")
            return False
    text = job.strategy.apply(recipe, job.seed, job.labels, mixture).to_toml()
    path = job.folder / "job.toml"
    _check_same(job.folder, path, text)
    write_text(path, text)
    write_label(job.folder.parent.parent, job.strategy)
    return True


def _conclude(
    plan: Sequence[Job], folder: Path, failed: Sequence[str], baseline: str | None, say: Console
) -> list[StrategyRow]:
    labels = list(dict.fromkeys(job.strategy.label for job in plan))
    there = read_runs(folder, list(dict.fromkeys([*labels, *_labels_before(folder)])))
    asked = {(job.strategy.label, f"{job.labels:g}", job.seed) for job in plan}
    runs = [run for run in there if (run.strategy, f"{run.labels:g}", run.seed) in asked]
    if not runs:
        raise RunError(
            "no run of the comparison finished.",
            seen=list(failed)[:5],
            hint="the same command again: it goes on where each run stopped; log.txt beside a run tells more",
        )
    if len(there) > len(runs):
        _tell_others(there, [run for run in there if run not in runs], labels, say)
    rows = compare_by_seed(runs, baseline)
    write_text(folder / "compare.json", to_json(rows))
    notes = "".join(f"\nfailed: {fault}\n" for fault in failed)
    write_text(folder / "compare.md", to_markdown(rows, baseline) + notes)
    write_text(folder / "cases.csv", cases_to_csv(runs))
    draw_verdict(folder / "compare.png", rows, baseline)
    draw_curves(folder / "curves.png", runs)
    return rows


def _tell_others(
    there: Sequence[StrategyRun], others: Sequence[StrategyRun], labels: Sequence[str], say: Console
) -> None:
    """Say which finished runs were not asked for, and what to type to count them."""
    named = dict.fromkeys(run.strategy for run in others)
    count = f"{len(others)} finished run{'s' if len(others) > 1 else ''} of earlier calls"
    say.print(plain(f"not asked for, and not counted: {count} ({', '.join(named)}). To count them too:"))
    parts = ",".join(f"{part:g}" for part in sorted({run.labels for run in there}))
    options = ["--strategies", ",".join(dict.fromkeys([*labels, *named])), "--seeds", max(run.seed for run in there)]
    options += ["--label-fraction", parts] if parts != "1" else []
    say.print(plain(f"  {shlex.join(map(str, options))}"), soft_wrap=True)


def _labels_before(folder: Path) -> list[str]:
    """Name the strategies of earlier calls, in their order."""
    path = folder / "compare.json"
    return [row.strategy for row in read_verdict(path)] if path.is_file() else []


def _claim(folder: Path, recipe: Recipe) -> None:
    """Note what all runs of the folder share; refuse another recipe, whose runs would stand in one table with these."""
    search = recipe.search.model_copy(update={"seed": 0, "label_fraction": 1.0})
    text, path = recipe.model_copy(update={"search": search, "tune": TuneSection()}).to_toml(), folder / "shared.toml"
    _check_same(folder, path, text)
    write_text(path, text)


def _check_same(folder: Path, path: Path, text: str) -> None:
    if path.exists() and (before := load_recipe(path).to_toml()) != text:  # keys that came later have their defaults
        raise RunError(
            f"{folder} holds a run of another recipe.",
            seen=_first_difference(before, text),
            hint="the same recipe as before, or --folder ANOTHER",
        )


def _check_baseline(baseline: str | None, strategies: Sequence[Strategy]) -> None:
    labels = [strategy.label for strategy in strategies]
    if baseline is not None and baseline not in labels:
        raise RunError(f"--baseline {baseline}: is not among the strategies. {nearest(baseline, labels)}")


def _first_difference(before: str, now: str) -> list[str]:
    pairs = zip(before.splitlines(), now.splitlines(), strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("(shorter)", "(longer)"))
    return [f"before: {one}", f"now:    {other}"]
