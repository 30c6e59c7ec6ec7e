"""The runs of a comparison. Each has its own folder and its own process, and only a few processes run at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lomix_search.experiments.compare.strategies import Strategy
from lomix_search.utils.terminal import plain

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


def run_jobs(waiting: list[Job], jobs: int, say: Console) -> list[str]:
    """Run jobs, each in a process.

    Args:
        waiting: The jobs; emptied.
        jobs: How many processes may run at a time.
        say: Told when a job ends.

    Returns:
        One line for each job that failed, with its reason.
    """
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


def _last_words(log: Path) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]
    return (named or lines or ["it said nothing"])[-1][:300]
