"""Strategies at equal budget: a recipe and strategies go in, a run for each seed is made, a verdict comes out."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lomix_search.errors import LomixError, RunError
from lomix_search.experiments.compare.jobs import Job, run_jobs
from lomix_search.experiments.compare.map_ranking import rank_maps
from lomix_search.experiments.compare.strategies import DERIVED, Strategy, needed
from lomix_search.experiments.compare.verdict import StrategyRow, compare_by_seed, read_strategy_run
from lomix_search.experiments.compare.verdict_figure import draw_verdict
from lomix_search.experiments.compare.verdict_table import to_json, to_markdown
from lomix_search.recipe.recipe import Recipe
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
        folder: Where everything goes: a folder a run, compare.json, compare.md, compare.png.
        jobs: Processes at a time; each gets its share of the cores.
        console: Where to report; silent by default.

    Returns:
        The verdict on what finished.

    Raises:
        RunError: bad numbers, a folder that holds another comparison, or no run that finished.
    """
    _check(seeds, labels, jobs)
    say = console or Console(quiet=True)
    plan = [
        Job(strategy, part, seed, folder / strategy.slug / f"labels_{part:g}" / f"seed_{seed}")
        for seed in range(1, seeds + 1)  # outermost: stopped half way, all strategies have as many seeds
        for part in labels
        for strategy in needed(strategies)
    ]
    failed: list[str] = []
    for derived in (False, True):  # derived mixtures come out of the runs before
        batch = [job for job in plan if (job.strategy.name == DERIVED) == derived]
        ready = [job for job in batch if _prepare(job, recipe, plan, failed)]
        failed += run_jobs([job for job in ready if not job.finished], jobs, say)
    for fault in failed:
        say.print(plain(("failed", "red"), f": {fault}"))
    return _conclude([job for job in plan if job.finished], folder, failed)


def _check(seeds: int, labels: Sequence[float], jobs: int) -> None:
    faults = [f"--seeds {seeds}: at least 1 is needed."] if seeds < 1 else []
    faults += [f"--seeds {seeds}: at most {_MOST} are compared."] if seeds > _MOST else []
    faults += [f"--label-fraction {part:g}: lies outside (0, 1]." for part in labels if not 0 < part <= 1]
    faults += [f"--jobs {jobs}: at least 1 is needed."] if jobs < 1 else []
    if faults:
        raise RunError("\n".join(["the comparison cannot be run.", *(f"  {fault}" for fault in faults)]))


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
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise RunError(
            f"{job.folder} holds a run of another recipe.",
            seen=_first_difference(path.read_text(encoding="utf-8"), text),
            hint="the same recipe as before, or --folder ANOTHER",
        )
    write_text(path, text)
    return True


def _conclude(finished: Sequence[Job], folder: Path, failed: Sequence[str]) -> list[StrategyRow]:
    if not finished:
        raise RunError("no run of the comparison finished.", seen=list(failed)[:5])
    runs = [read_strategy_run(job.folder / "run", job.strategy.label, job.labels, job.seed) for job in finished]
    rows = compare_by_seed(runs, sorted({job.strategy.label for job in finished if job.strategy.searches}))
    write_text(folder / "compare.json", to_json(rows))
    notes = "".join(f"\nfailed: {fault}\n" for fault in failed)
    write_text(folder / "compare.md", to_markdown(rows) + notes)
    draw_verdict(folder / "compare.png", rows)
    return rows


def _first_difference(before: str, now: str) -> list[str]:
    pairs = zip(before.splitlines(), now.splitlines(), strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("(shorter)", "(longer)"))
    return [f"before: {one}", f"now:    {other}"]
