"""Strategies at equal budget: every run a folder and a process of its own, so that none can take others with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lomix_search.errors import LomixError, RunError
from lomix_search.experiments.compare.map_ranking import rank_maps
from lomix_search.experiments.compare.strategies import DERIVED, Strategy, needed
from lomix_search.experiments.compare.verdict import StrategyRow, compare_by_seed, read_strategy_run
from lomix_search.experiments.compare.verdict_figure import draw_verdict
from lomix_search.experiments.compare.verdict_table import to_json, to_markdown
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import plain

_MOST = 1000  # seeds; each is a run of each strategy
_POLL = 0.2  # seconds between two looks at the processes


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Args:
        strategy: How it supervises.
        labels: Part of the training items.
        seed: Its seed: of initial weights, order of data and augmentation, alike for all strategies.
        folder: Where it lives: job.toml, log.txt, and the run folder ``run``.
    """

    strategy: Strategy
    labels: float
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.strategy.label}, {self.labels:g} of the labels, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether it left its results."""
        return (self.folder / "run/results.json").is_file()


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
    stopped. Of one seed, all strategies start from the same network and meet the same items in the same order, but for
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
        for strategy in needed(strategies)
        for part in labels
        for seed in range(1, seeds + 1)
    ]
    failed: list[str] = []
    for derived in (False, True):  # derived mixtures come out of the runs before
        batch = [job for job in plan if (job.strategy.name == DERIVED) == derived]
        ready = [job for job in batch if _prepare(job, recipe, plan, failed)]
        failed += _run_all([job for job in ready if not job.finished], jobs, say)
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


def _run_all(waiting: list[Job], jobs: int, say: Console) -> list[str]:
    """Run the jobs, so many at a time; return what failed, with the reason."""
    failed, total, done = [], len(waiting), 0
    with _Processes(jobs) as processes:
        while waiting or processes.running:
            while waiting and len(processes.running) < jobs:
                processes.start(waiting.pop(0))
            for job, code in processes.ended():
                done += 1
                fine = code == 0 and job.finished
                if not fine:
                    failed.append(f"{job.name}: {_last_words(job.folder / 'log.txt')} (exit code {code})")
                say.print(plain(f"{done}/{total}  {job.name}: {'done' if fine else 'failed'}"))
            time.sleep(_POLL)
    return failed


class _Processes:
    """Running jobs; leaving early stops them, after their checkpoints are written."""

    def __init__(self, jobs: int) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self.running: list[tuple[Job, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for _job, process in self.running:
            process.send_signal(signal.SIGTERM)
        for _job, process in self.running:
            process.wait()

    def start(self, job: Job) -> None:
        """Start a job in a process of its own."""
        command = [sys.executable, "-m", "lomix_search", "run", str(job.folder / "job.toml")]
        command += ["--folder", str(job.folder / "run"), "--resume"]
        environment = {"OMP_NUM_THREADS": str(self.threads)} | dict(os.environ)
        with (job.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self.running.append((job, process))

    def ended(self) -> Iterator[tuple[Job, int]]:
        """Return the jobs that ended since, with their exit codes."""
        for job, process in list(self.running):
            if (code := process.poll()) is not None:
                self.running.remove((job, process))
                yield job, code


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


def _last_words(log: Path) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]
    return (named or lines or ["it said nothing"])[-1][:300]


def _first_difference(before: str, now: str) -> list[str]:
    pairs = zip(before.splitlines(), now.splitlines(), strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("(shorter)", "(longer)"))
    return [f"before: {one}", f"now:    {other}"]
