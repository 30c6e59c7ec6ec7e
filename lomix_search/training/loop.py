"""The loop around the steps: batches in; numbers, validations and checkpoints out, until all steps are taken."""

import math
import time
from collections.abc import Iterable

import torch
from torch import Tensor

from lomix_search.instrumentation.modes import train_mode
from lomix_search.training.state import TrainingState
from lomix_search.training.step import Stepper
from lomix_search.training.taken_step import Fetched, Numbers, TakenStep, fetch
from lomix_search.training.trackers import Tracker
from lomix_search.training.validation import Validator
from lomix_search.utils.distributed import is_main, largest_over_processes, size
from lomix_search.utils.progress import Bar, Stop
from lomix_search.utils.terminal import Terminal, plain

TELL_EVERY = 20
"""Steps whose numbers wait on a GPU to be fetched together. What is not finite is said as much later."""


class Loop:
    """Takes all steps that are left.

    Args:
        stepper: Takes one step.
        validation: Scores the network now and then.
        log: Takes the numbers of every step.
        stop: Knows whether somebody asked the run to stop.
        say: Show progress, and say what happens.
    """

    def __init__(self, stepper: Stepper, validation: Validator, log: Tracker, stop: Stop, say: bool) -> None:
        self.state: TrainingState = stepper.state
        self.stepper, self.validation, self.log, self.stop, self.say = stepper, validation, log, stop, say
        self._waiting: list[tuple[TakenStep, Numbers]] = []
        self._total = math.nan

    def run(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the steps; stop early when patience is at its end, and leave when asked to, after a checkpoint.

        Args:
            batches: Images and labels of every step that is left.
        """
        state = self.state
        kept, began = train_mode(state.net), time.monotonic()
        if kept:
            self._say(f"{len(kept)} modules of the network stay in eval mode, as they were given.")
        with Bar(self.say, state.plan.search.steps, state.step) as advance:
            for images, labels in () if state.finished else batches:
                self._take(images, labels, began)
                if told := self.validation.validate_if_due(self.log):
                    self._say(f"step {state.step}: {told}")
                self._save_if_due()
                advance(state.step, self._progress())
                if state.finished:
                    break
                if self.stop.asked:
                    self.stop.leave(state.folder, state.step, is_main())
        if state.stopped_early and state.step < state.plan.search.steps:
            best = f"best val Dice {state.best_dice:.3f} at step {state.best_step}"
            self._say(f"Stopped early at step {state.step}: {best}")

    def _progress(self) -> str:
        """Say what is known already: the loss last told, the best score so far."""
        known = {"loss": self._total, "best val Dice": self.state.best_dice}
        return "  ".join(f"{name} {value:.3f}" for name, value in known.items() if not math.isnan(value))

    def _take(self, images: Tensor, labels: Tensor, began: float) -> None:
        """Take one step; fetch what was said since the last time, if it is time."""
        started = time.monotonic()
        step = self.stepper.take(images, labels)
        now = time.monotonic()
        times: Numbers = {"train/seconds": round(now - began, 3), "train/step_seconds": round(now - started, 5)}
        self._waiting.append((step, times))
        self.stop.asked = self._asked()
        if self._time_to_tell():
            self._tell()

    def _time_to_tell(self) -> bool:
        """Say whether the numbers are wanted now: before a validation or checkpoint, or because enough wait."""
        state, plan = self.state, self.state.plan.search
        every = TELL_EVERY if self.stepper.on_device else 1
        due = state.step % plan.validate_every == 0 or self._save_due()
        return due or len(self._waiting) >= every or bool(self._waiting[-1][0].seen)

    def _tell(self) -> None:
        """Log the numbers of the steps that wait, and say what is worth a line."""
        waiting, self._waiting = self._waiting, []
        for (step, times), found in zip(waiting, fetch([step for step, _ in waiting]), strict=True):
            self._total = found.total
            self.stepper.count(step, found)
            numbers = self._numbers(step, found) | times | step.seen
            self.log.log(step.number, numbers)
            for key in ("mixture/warning", "train/skipped"):
                if key in numbers:
                    self._say(f"step {step.number}: {numbers[key]}")

    def _numbers(self, step: TakenStep, found: Fetched) -> Numbers:
        spread, warning = self.state.monitor.look([max(0.0, w) for w in found.weights])
        return {
            "train/loss": found.total,
            "train/lr": step.rate,
            "mixture/total": spread.total,
            "mixture/entropy": spread.entropy,
            "mixture/effective_maps": spread.effective_maps,
            "mixture/per_map": found.losses,
            "mixture/weights": found.weights,
            **({"mixture/warning": warning} if warning else {}),
            **({} if found.norm is None else {"train/grad_norm": found.norm}),
        }

    def _save_due(self) -> bool:
        """Say whether to write a checkpoint: every so many steps, at the end, and before the run is left."""
        state = self.state
        return bool(state.step % state.plan.search.checkpoint_every == 0 or state.finished or self.stop.asked)

    def _save_if_due(self) -> None:
        if self._save_due():
            self._tell()
            self.state.save()

    def _asked(self) -> int | None:
        """Say whether to stop, which all processes do after the same step."""
        if size() == 1:
            return self.stop.asked
        return int(largest_over_processes(torch.tensor(self.stop.asked or 0, device=self.state.device))) or None

    def _say(self, line: str) -> None:
        if self.say:
            Terminal().print(plain(line))  # wrapped where the terminal ends
