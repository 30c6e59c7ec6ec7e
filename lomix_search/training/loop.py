"""The loop around the steps: batches in; numbers, validations and checkpoints out, until all steps are taken."""

import time
from collections.abc import Iterable

import torch
from torch import Tensor

from lomix_search.instrumentation.modes import train_mode
from lomix_search.training.state import TrainingState
from lomix_search.training.step import Numbers, Stepper
from lomix_search.training.trackers import Tracker
from lomix_search.training.validation import Validator
from lomix_search.utils.distributed import is_main, largest_over_processes, size
from lomix_search.utils.progress import Bar, Stop


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
                total = self._take(images, labels, began)
                self.validation.validate_if_due(self.log)
                self._save_if_due()
                advance(state.step, f"loss {total:.3f}  best val Dice {state.best_dice:.3f}")
                if state.finished:
                    break
                if self.stop.asked:
                    self.stop.leave(state.folder, state.step, is_main())
        if state.stopped_early and state.step < state.plan.search.steps:
            best = f"best val Dice {state.best_dice:.3f} at step {state.best_step}"
            self._say(f"Stopped early at step {state.step}: {best}")

    def _take(self, images: Tensor, labels: Tensor, began: float) -> float:
        """Take one step, log its numbers, say what is worth a line, and return the total."""
        started, state = time.monotonic(), self.state
        loss, seen = self.stepper.take(images, labels)
        total = float(loss)
        numbers = self._numbers(total, time.monotonic() - began) | seen
        self.log.log(state.step, numbers | {"train/step_seconds": round(time.monotonic() - started, 5)})
        for key in ("mixture/warning", "train/skipped"):
            if key in numbers:
                self._say(f"step {state.step}: {numbers[key]}")
        return total

    def _numbers(self, total: float, seconds: float) -> Numbers:
        per_map = self.state.loss.per_map
        weights = per_map.weights.tolist()
        spread, warning = self.state.monitor.look([max(0.0, w) for w in weights])
        return {
            "train/loss": total,
            "train/lr": self.state.optimizer.param_groups[0]["lr"],
            "train/seconds": round(seconds, 3),
            "mixture/total": spread.total,
            "mixture/entropy": spread.entropy,
            "mixture/effective_maps": spread.effective_maps,
            "mixture/per_map": per_map.losses.tolist(),
            "mixture/weights": weights,
            **({"mixture/warning": warning} if warning else {}),
        }

    def _save_if_due(self) -> None:
        """Write a checkpoint every so many steps, at the end, and before the run is left."""
        state = self.state
        self.stop.asked = self._asked()
        if state.step % state.plan.search.checkpoint_every == 0 or state.finished or self.stop.asked:
            state.save()

    def _asked(self) -> int | None:
        """Say whether to stop, which all processes do after the same step."""
        if size() == 1:
            return self.stop.asked
        return int(largest_over_processes(torch.tensor(self.stop.asked or 0, device=self.state.device))) or None

    def _say(self, line: str) -> None:
        if self.say:
            print(line, flush=True)
