"""The ``[tune]`` section of a recipe: what ``lomix tune`` varies, and how the study goes about it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from lomix_search.errors import nearest
from lomix_search.recipe.bounds import Count, CountFromZero, Positive
from lomix_search.utils.schema import Frozen

_Scalar = str | int | float | bool
CostName = Literal["seconds", "memory", "map_pixels", "gflops"]
METRICS = ("val.dice.best", "val.dice.final")


MOST_TRIALS = 100_000
"""A study has a place for each trial from its start on."""


class TuneRange(Frozen):
    """What one tuned key may be: ``low`` and ``high``, or ``choices``, or ``subset_of``.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Draw on a logarithmic scale.
        integer: Draw whole numbers; ``int`` in the file.
        step: Draw only low, low + step, low + 2·step, …
        choices: The values to choose from; a choice may be a list, such as the widths of a network.
        subset_of: The value is a list of some of these, such as operators; each is in or out on its own.
        when: Vary the key only while other tuned keys have these values (one each, or a list of them); otherwise the
            key is left out of the recipe.
    """

    model_config = ConfigDict(populate_by_name=True)
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = Field(False, alias="int")
    step: Positive | None = None
    choices: tuple[_Scalar | list[Any], ...] | None = None
    subset_of: tuple[str | int, ...] | None = None
    when: dict[str, _Scalar | tuple[_Scalar, ...]] = Field(default_factory=dict)

    @field_validator("choices", "subset_of")
    @classmethod
    def _some(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and not values:
            raise ValueError("empty; at least one value is needed")
        if values is not None and any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError("holds a value twice")
        return values

    @model_validator(mode="after")
    def _one_kind(self) -> "TuneRange":
        ends = self.low is not None or self.high is not None
        if sum([ends, self.choices is not None, self.subset_of is not None]) != 1 or (
            ends and (self.low is None or self.high is None)
        ):
            raise ValueError("needs low and high, or choices, or subset_of; and one of them only")
        if self.low is not None and self.high is not None:
            self._check_ends(self.low, self.high)
        elif self.log or self.integer or self.step is not None:
            raise ValueError("log, int and step go with low and high")
        return self

    def _check_ends(self, low: float, high: float) -> None:
        if not low < high:
            raise ValueError(f"low = {low:g} must be below high = {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic range starts above 0; low = {low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.step is not None and self.step > high - low:
            raise ValueError(f"step = {self.step:g} is larger than high − low = {high - low:g}")
        if self.integer and any(value != int(value) for value in (low, high, self.step or 1)):
            raise ValueError("int = true needs whole numbers")

    def examples(self) -> tuple[Any, ...]:
        """Return values to try the range with: its two ends, every choice, or all of the set and none."""
        if self.choices is not None:
            return self.choices
        if self.subset_of is not None:
            return (list(self.subset_of), [])
        return tuple(int(v) if self.integer else v for v in (self.low, self.high) if v is not None)

    def holds(self, value: object) -> bool:
        """Return whether a value lies in the range.

        Args:
            value: Any value.

        Returns:
            Whether a study may take it.
        """
        if self.choices is not None:
            return value in self.choices
        if self.subset_of is not None:
            return isinstance(value, list | tuple) and set(value) <= set(self.subset_of)
        assert self.low is not None and self.high is not None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]


class SamplerSection(Frozen):
    """``[tune.sampler]``: which of Optuna's samplers proposes trials; ``sampler = "random"`` for short.

    Args:
        name: ``tpe`` (multivariate; the running trials of other workers count as bad ones), ``random`` or ``nsga2``.
        startup_trials: Trials drawn at random before TPE starts.
        population: Size of the population of nsga2.
    """

    name: Literal["tpe", "random", "nsga2"] = "tpe"
    startup_trials: Count = 5
    population: Annotated[int, Field(ge=2, lt=2**31)] = 20


class PrunerSection(Frozen):
    """``[tune.pruner]``: which of Optuna's pruners ends trials early; ``pruner = "median"`` for short.

    Args:
        name: ``none``; ``median``: a trial ends whose best validation Dice so far is below the median of the others at
            the same step; ``hyperband``: successive halving in several brackets.
        startup_trials: For median: number of trials that are finished before any is ended.
        warmup_steps: For median: optimizer steps before which no trial is ended.
        reduction_factor: For hyperband: one trial in this number goes on to the next rung.
    """

    name: Literal["none", "median", "hyperband"] = "none"
    startup_trials: CountFromZero = 5
    warmup_steps: CountFromZero = 0
    reduction_factor: Annotated[int, Field(ge=2, lt=2**31)] = 3


class TuneSection(Frozen):
    """``[tune]``: what ``lomix tune`` varies.

    Args:
        trials: Number of finished trials.
        direction: Whether a large or a small metric is good.
        metric: ``val.dice.best`` or ``val.dice.final``; never a score of test data.
        cost: A second goal, to be kept small: ``seconds`` (median of a step) and ``memory`` (peak, GiB) are measured
            and differ from machine to machine; ``map_pixels`` (million supervised map pixels a step) and ``gflops`` (of
            the network's forward pass of a batch, 10⁹) are counted and always the same. The study then has no single
            best trial but a front of them, and no pruner.
        limits: Largest allowed value of any of these; a trial above it ends and counts as infeasible.
        sampler: What proposes trials.
        pruner: What ends them early.
        patience: Stop the study after this number of finished trials without a better one.
        target: Stop the study when a trial reaches this metric.
        first: More points to start from, by dotted key, tried after the recipe's own values and the paper's.
        ranges: ``[tune.ranges."optimizer.lr"]``: a range for each dotted key of this recipe.
    """

    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = 20
    direction: Literal["maximize", "minimize"] = "maximize"
    metric: str = METRICS[0]
    cost: CostName | None = None
    limits: dict[CostName, Positive] = Field(default_factory=dict)
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    patience: Count | None = None
    target: float | None = None
    first: tuple[dict[str, Any], ...] = ()
    ranges: dict[str, TuneRange] = Field(default_factory=dict)

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"unknown. {nearest(metric, METRICS)}")
        return metric

    def faults(self) -> list[str]:
        """Return what does not fit together, one line a fault."""
        found = [fault for key in self.ranges for fault in self._when_faults(key)]
        if self.cost is not None and self.pruner.name != "none":
            found.append(
                f'tune.pruner = "{self.pruner.name}": Optuna prunes studies of one goal only; leave out tune.cost, or '
                'set tune.pruner = "none" and tune.limits.'
            )
        for i, point in enumerate(self.first):
            found += [
                f'tune.first[{i}]."{key}" = {value!r}: '
                + (f"not tuned. {nearest(key, self.ranges)}" if key not in self.ranges else "outside its range.")
                for key, value in point.items()
                if key not in self.ranges or not self.ranges[key].holds(value)
            ]
        return found

    def _when_faults(self, key: str) -> Iterator[str]:
        for other, wanted in self.ranges[key].when.items():
            where = f'tune.ranges."{key}".when."{other}"'
            if other not in self.ranges:
                yield f"{where}: not tuned itself. {nearest(other, self.ranges)}"
            elif key in self._premises(other, ()):
                yield f"{where}: the conditions go round in a circle."
            elif (choices := self.ranges[other].choices) is None:
                yield f"{where}: has no choices; a condition names one of them."
            else:
                yield from (f"{where} = {v!r}: none of {list(choices)}." for v in _several(wanted) if v not in choices)

    def _premises(self, key: str, seen: tuple[str, ...]) -> tuple[str, ...]:
        if key in seen:
            return seen
        for other in self.ranges[key].when if key in self.ranges else ():
            seen = self._premises(other, (*seen, key))
        return (*seen, key)

    def ordered(self) -> Iterator[str]:
        """Yield the tuned keys, each after those that it depends on."""
        told: set[str] = set()
        for key in self.ranges:
            for premise in self._closure(key):
                if premise not in told:
                    told.add(premise)
                    yield premise

    def _closure(self, key: str) -> list[str]:
        return [k for other in self.ranges[key].when for k in self._closure(other)] + [key]

    def active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Return whether a key is varied, given values of those that it depends on.

        Args:
            key: A tuned key.
            values: By dotted key; None where a key is not varied itself.

        Returns:
            Whether each of its conditions that ``values`` speaks of is met.
        """
        when = self.ranges[key].when
        return all(values[other] in _several(wanted) for other, wanted in when.items() if other in values)

    def settle(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values, with None for each tuned key that they switch off."""
        settled = dict(values)
        for key in self.ordered():
            if not self.active(key, settled):
                settled[key] = None
        return settled

    def example(self, key: str, value: object) -> dict[str, Any]:
        """Return a value of a key together with the choices that it depends on."""
        values: dict[str, Any] = {}
        for other, wanted in self.ranges[key].when.items():
            values |= self.example(other, _several(wanted)[0])
        return self.settle(values | {key: value})


def _several(wanted: _Scalar | tuple[_Scalar, ...]) -> tuple[_Scalar, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)
