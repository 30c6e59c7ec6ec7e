"""Validation during a search: scores of the network as it is, and the best network so far in ``best.pt``."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from lomix_search.errors import RunError
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.evaluation.score_items import score_items
from lomix_search.instrumentation.modes import undisturbed
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.state import TrainingState
from lomix_search.training.trackers import Tracker
from lomix_search.utils.distributed import is_main, on_main, same_over_processes

OnValidate = Callable[[int, float], None]
"""Called after a validation with the step and the mean Dice."""


class Validator:
    """Scores a network on the validation items; without any, it never has something to do.

    Args:
        state: The search.
        items: The validation items.
        classes: Class names, the background first; the regions of a multi-label loss.
        on_validate: Called after each validation, on process 0; what it raises is raised on all.
    """

    def __init__(
        self,
        state: TrainingState,
        items: Dataset[tuple[Tensor, Tensor]] | None,
        classes: Sequence[str],
        on_validate: OnValidate | None = None,
    ) -> None:
        self.state, self.items, self.classes, self.on_validate = state, items, classes, on_validate
        self._scored: tuple[int, DiceResult] | None = None  # the last validation and its step

    def validate_if_due(self, log: Tracker) -> str:
        """Validate every so many steps and after the last one.

        Args:
            log: Takes the scores.

        Returns:
            What is worth a line; mostly nothing.
        """
        plan, step = self.state.plan.search, self.state.step
        if self.items is not None and (step % plan.validate_every == 0 or step == plan.steps):
            return self._validate(self.items, log)
        return ""

    def last_score(self) -> DiceResult | None:
        """Return the score of the network as it is, which the last validation may have found already."""
        if self.items is None:
            return None
        if self._scored and self._scored[0] == self.state.step:
            return self._scored[1]
        return self._score(self.items)

    def check_best(self) -> None:
        """Look for the best network so far of a run that goes on; should it be lost, the next one takes its place."""
        state = self.state
        if math.isnan(state.best_dice) or state.finished:
            return
        if fault := on_main(lambda: _fault(state.folder / "best.pt")):
            if is_main():
                best = f"the best network so far, of step {state.best_step} with Dice {state.best_dice:.3f}, is lost"
                warnings.warn(f"{fault}\n  {best}; the next validation takes its place.", stacklevel=4)
            state.best_dice, state.best_step = math.nan, state.step

    def _validate(self, items: Dataset[tuple[Tensor, Tensor]], log: Tracker) -> str:
        """Score the validation items; keep the network if it is the best so far. Return what is worth a line."""
        state, result = self.state, self._score(items)
        warning = state.silent.look(result.silent)
        scores = {"val/dice": result.mean, **{f"val/dice/{k}": v for k, v in result.per_class.items()}}
        log.log(state.step, {**scores, **({"val/warning": warning} if warning else {})})
        if is_better(result.mean, state.best_dice):
            state.best_dice, state.best_step = result.mean, state.step
            on_main(lambda: state.write_network("best.pt"))
        if (on_validate := self.on_validate) is not None:
            with undisturbed(state.net):  # what a callback draws, and the modes it sets, are its own
                on_main(lambda: on_validate(state.step, result.mean))
        return warning

    def _score(self, items: Dataset[tuple[Tensor, Tensor]]) -> DiceResult:
        """Score the validation items, each process its share; nothing of the training moves."""
        state = self.state
        with undisturbed(state.net):
            same_over_processes(state.net.buffers())  # running statistics of batch norms differ
            batch_size, ignore_index = state.plan.search.batch_size, state.loss.ignore_index
            result = score_items(state.net, items, self.classes, batch_size, ignore_index, state.loss.multilabel)
        self._scored = state.step, result
        return result


def is_better(dice: float, best: float) -> bool:
    """Tell whether a score is the best so far: NaN never is, and any number is better than none."""
    return dice > best or (math.isnan(best) and not math.isnan(dice))


def _fault(path: Path) -> str:
    try:
        read_tensors(path)
    except RunError as fault:
        return str(fault)
    return ""
