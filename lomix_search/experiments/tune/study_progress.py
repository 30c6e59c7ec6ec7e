"""What a worker says before each trial: where the study stands, how long it may last, whether workers crowd here."""

import os
import time

import optuna
import torch
from rich.console import Console

from lomix_search.experiments.tune.trial_queue import Survey
from lomix_search.experiments.tune.workers import Workers
from lomix_search.utils.terminal import plain


class StudyProgress:
    """Says before each trial where the study stands and how long it may last.

    Args:
        wanted: Number of finished trials.
        say: Where to say it.
    """

    def __init__(self, wanted: int, say: Console) -> None:
        self._wanted, self._say, self._began = wanted, say, time.monotonic()
        self._before: int | None = None  # trials that were finished when this worker began
        self._warned = False

    def show(self, found: Survey, best: list[optuna.trial.FrozenTrial]) -> None:
        """Say where the study stands.

        Args:
            found: Where it stands.
            best: Its best trials, the best first.
        """
        done = len(found.finished)
        before = self._before = done if self._before is None else self._before
        parts = [f"{done} of {self._wanted} trials finished"]
        parts += [f"{len(found.running)} on other workers"] if found.running else []
        parts += [f"best {best[0].values[0]:.4f}"] if best else []
        if done > before:
            left = (time.monotonic() - self._began) / (done - before) * (self._wanted - done)
            parts.append(f"about {_span(left)} left")
        self._say.rule(plain((" · ".join(parts), "rule.text")))
        crowd = None if self._warned else _crowd(1 + Workers.here(found.running))
        if crowd:
            self._say.print(plain(crowd))
            self._warned = True


def _crowd(workers: int) -> str | None:
    """Say how many threads each of the workers on this machine should take, if they take more than there are cores."""
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    share = max(1, cores // workers)
    if workers * threads <= cores or threads <= share:
        return None
    return (
        f"{workers} workers on this machine take {threads} threads each of {cores} cores and wait for one another: "
        f"start each with OMP_NUM_THREADS={share}"
    )


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "1 min"
