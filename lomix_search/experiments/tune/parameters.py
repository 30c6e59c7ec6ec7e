"""Between a recipe's ranges and Optuna's parameters: what is drawn, what it means in the recipe, where to start."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lomix_search.recipe.overrides import split_key
from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.sections import LossSection, OptimizerSection, SearchSection, SpaceSection, WeightingSection
from lomix_search.recipe.tuning import TuneRange, TuneSection

PAPER = {
    "space": SpaceSection(),
    "loss": LossSection(),
    "weighting": WeightingSection(),
    "optimizer": OptimizerSection(),
    "search": SearchSection(),
}
"""The defaults of these sections are the paper's."""
_MISSING = object()


def suggest(trial: Any, tune: TuneSection) -> dict[str, Any]:
    """Draw the values of a trial.

    Args:
        trial: Of Optuna.
        tune: The ranges.

    Returns:
        Values by dotted key; None where a condition switches a key off.
    """
    values: dict[str, Any] = {}
    for key in tune.ordered():
        values[key] = _suggest(trial, key, tune.ranges[key]) if tune.active(key, values) else None
    return values


def decode(params: Mapping[str, Any], tune: TuneSection) -> dict[str, Any]:
    """Read the values of a recorded trial.

    Args:
        params: ``trial.params``.
        tune: The ranges it was drawn from.

    Returns:
        As :func:`suggest`.
    """
    values: dict[str, Any] = {}
    for key in tune.ordered():
        values[key] = _decoded(params, key, tune.ranges[key]) if tune.active(key, values) else None
    return values


def encode(values: Mapping[str, Any], tune: TuneSection) -> dict[str, Any]:
    """Turn values into the parameters that :func:`suggest` would have drawn, for Optuna's queue.

    Args:
        values: By dotted key; those that are not tuned, outside their range or None are passed over.
        tune: The ranges.

    Returns:
        Parameters.
    """
    params: dict[str, Any] = {}
    for key, value in values.items():
        if key not in tune.ranges or value is None or not tune.ranges[key].holds(value):
            continue
        if (parts := tune.ranges[key].subset_of) is not None:
            params |= {f"{key}[{part}]": part in value for part in parts}
        else:
            params[key] = _label(value) if tune.ranges[key].choices is not None else value
    return params


def starting_points(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameters of the first trials.

    Args:
        recipe: The recipe.

    Returns:
        The recipe's own values; the paper's, if they differ and all of them lie in their ranges; then ``tune.first``.
    """
    tune, content = recipe.tune, recipe.model_dump(by_alias=True)
    own = _values(content, tune)
    points = [encode(tune.settle(own), tune)]
    paper = _paper(own, tune)
    if paper is not None:
        points.append(encode(tune.settle(paper), tune))
    points += [encode(point, tune) for point in tune.first]
    return [point for i, point in enumerate(points) if point not in points[:i]]


def _paper(own: Mapping[str, Any], tune: TuneSection) -> dict[str, Any] | None:
    """Return the recipe's values with the paper's in their place; None if a range leaves out one of them."""
    paper = _values({name: section.model_dump() for name, section in PAPER.items()}, tune)
    if not all(tune.ranges[key].holds(value) for key, value in paper.items()):
        return None
    return {**own, **paper}


def _values(content: Mapping[str, Any], tune: TuneSection) -> dict[str, Any]:
    """Return what some sections say about the tuned keys; a list of parts that is not set stands for all of them."""
    values = {}
    for key, given in tune.ranges.items():
        value = _look_up(content, key)
        if value is None and given.subset_of is not None:
            value = list(given.subset_of)
        if value is not _MISSING and value is not None:
            values[key] = value
    return values


def _look_up(content: Mapping[str, Any], key: str) -> Any:
    value: Any = content
    for part in split_key(key):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    return list(value) if isinstance(value, tuple) else value


def _suggest(trial: Any, key: str, given: TuneRange) -> Any:
    if given.subset_of is not None:
        return [part for part, name in _parts(key, given) if trial.suggest_categorical(name, [False, True])]
    if given.choices is not None:
        labels = {_label(choice): choice for choice in given.choices}
        return labels[trial.suggest_categorical(key, list(labels))]
    low, high, step = given.low, given.high, given.step
    assert low is not None and high is not None, "a range without choices has both ends"
    if given.integer:
        whole = 1 if step is None else int(step)
        return trial.suggest_int(key, int(low), int(high), log=given.log, step=whole)
    return trial.suggest_float(key, low, high, log=given.log, step=step)


def _decoded(params: Mapping[str, Any], key: str, given: TuneRange) -> Any:
    if given.subset_of is not None:
        return [part for part, name in _parts(key, given) if params.get(name)]
    if given.choices is not None:
        return {_label(choice): choice for choice in given.choices}[params[key]]
    return params[key]


def _parts(key: str, given: TuneRange) -> Iterator[tuple[str | int, str]]:
    for part in given.subset_of or ():
        yield part, f"{key}[{part}]"


def _label(choice: Any) -> Any:
    """Return what Optuna stores for a choice: it knows scalars only."""
    return json.dumps(choice) if isinstance(choice, list | tuple) else choice
