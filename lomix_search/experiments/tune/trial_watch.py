"""Follows the run of a trial: reports its validations to Optuna, measures its costs, and ends it at a limit."""

import math
from pathlib import Path

import optuna

from lomix_search.data.dataset import Splits
from lomix_search.errors import RunError
from lomix_search.experiments.run import Outcome
from lomix_search.experiments.tune.costs import Meter
from lomix_search.experiments.tune.samplers import note_limits
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.recipe.recipe import Recipe
from lomix_search.training.trackers import read_lines


class TrialWatch:
    """Follows a run on behalf of its trial."""

    def __init__(self, trial: optuna.Trial, recipe: Recipe, folder: Path) -> None:
        self.trial, self.recipe, self.tune, self.folder = trial, recipe, recipe.tune, folder
        self.meter = Meter(recipe.search.batch_size)
        self.reported: set[int] = set()

    def start(self, net: Instrumented, loss: MixtureLoss, splits: Splits) -> None:
        """Count the costs; report the validations of a run that goes on."""
        self.meter.start(net, loss, splits)
        self._check_limits()
        for line in read_lines(self.folder / "metrics.jsonl"):
            if isinstance(line.get("val/dice"), float):
                self._report(line["step"], line["val/dice"])

    def validated(self, step: int, dice: float) -> None:
        """Report a validation; end the run if the pruner or a limit says so."""
        self.trial.set_user_attr("step", step)  # refused once the trial was given to another worker
        self._report(step, dice)
        self.meter.look(self.folder)
        self._check_limits()
        if self.tune.cost is None and step < self.recipe.search.steps and self.trial.should_prune():
            self._note()
            raise optuna.TrialPruned(f"at step {step}")

    def finish(self, outcome: Outcome) -> float | tuple[float, float]:
        """Return what the study is about."""
        value = outcome.result.mixture.provenance.metrics[self.tune.metric]
        if not math.isfinite(value):
            raise RunError(f"{self.tune.metric} is {value}.", hint="is every class in the validation data?")
        self.meter.look(self.folder)
        self._note()
        return value if self.tune.cost is None else (value, self.meter.known[self.tune.cost])

    def _report(self, step: int, dice: float) -> None:
        if self.tune.cost is None and step not in self.reported:
            self.trial.report(dice, step)
        self.reported.add(step)

    def _check_limits(self) -> None:
        if any(excess > 0 for excess in self.meter.over(self.tune.limits).values()):
            self._note()
            raise optuna.TrialPruned("over its limit")

    def _note(self) -> None:
        """Record costs and limits; a trial ends after this."""
        known, over = self.meter.known, self.meter.over(self.tune.limits)
        for name, value in known.items():
            self.trial.set_user_attr(name, value)
        note_limits(self.trial, over)
        broken = [
            f"{name} {known[name]:.4g} > {known[name] - excess:.4g}" for name, excess in over.items() if excess > 0
        ]
        if broken:
            self.trial.set_user_attr("over_limit", ", ".join(broken))
