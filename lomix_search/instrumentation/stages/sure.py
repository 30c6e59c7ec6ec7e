"""How sure the stages are: a second reading of the same ladder, by scores instead of rules, and whether both agree."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import fx

from lomix_search.instrumentation.stages.candidates import NONE_TRAITS, SAME, TRAITS, level_candidates
from lomix_search.instrumentation.stages.decoder import Ladder
from lomix_search.instrumentation.stages.ladder import best_ladder
from lomix_search.instrumentation.stages.operations import Operation, kind, weighted

RIGHT_IF_AGREED, RIGHT_IF_NOT = 0.95, 0.25
"""Share of right ladders in the list that was labelled before either reading was tried; docs/zoo.md has the counts."""

_KEEPS = {
    Operation.DROPOUT,
    Operation.CLONE,
    Operation.FORM,
    Operation.RESHAPE,
    Operation.TRANSPOSE,
    Operation.UNSQUEEZE,
}
"""What gives back the same map in eval mode."""


@dataclasses.dataclass(frozen=True)
class Opinion:
    """What a second reading says of the stages.

    Args:
        sure: Whether it finds the same stages.
        probability: How often stages are right of which it says this.
        other: The names of its stages, coarse to fine; empty where it agrees.
        apart: Numbers, from 0, of the stages that it does not have.
    """

    sure: bool
    probability: float
    other: tuple[str, ...] = ()
    apart: tuple[int, ...] = ()


def second_reading(ladder: Ladder) -> tuple[fx.Node, ...]:
    """Return the stages with the highest score, coarse to fine.

    Args:
        ladder: The data flow and its levels.

    Returns:
        Values of the flow; fewer than two where the scores see no ladder.
    """
    if not ladder.levels:
        return ()
    return best_ladder(level_candidates(ladder.flow, ladder.levels, ladder.head), stage_weights()).nodes


def opinion(first: Sequence[fx.Node], second: Sequence[fx.Node], names: Sequence[str]) -> Opinion:
    """Compare two readings.

    Args:
        first: The stages, coarse to fine.
        second: Those of the second reading.
        names: By which the second reading's stages are tapped.

    Returns:
        Whether they are the same maps.
    """
    mine, theirs = [map_itself(node) for node in first], [map_itself(node) for node in second]
    if mine == theirs:
        return Opinion(True, RIGHT_IF_AGREED)
    return Opinion(False, RIGHT_IF_NOT, tuple(names), tuple(i for i, node in enumerate(mine) if node not in theirs))


@functools.cache
def stage_weights() -> NDArray[np.float64]:
    """Return the fitted weights of all features, as benchmarks/fit_stage_scores.py wrote them."""
    table = json.loads((pathlib.Path(__file__).parent / "weights.json").read_text())
    return np.array([table[name] for name in feature_names()])


def feature_names() -> list[str]:
    """Return the names of all features, in the order of their weights."""
    stages = [f"{place}: {trait}" for place in ("any level", "the coarsest", "the finest") for trait in TRAITS]
    none = [f"{place}: {trait}" for place in ("between", "the coarsest", "the finest") for trait in NONE_TRAITS]
    return [*stages, *none, *(f"as the next level: {one}" for one in SAME)]


def map_itself(node: fx.Node) -> fx.Node:
    """Return the map of which a value is another form."""
    while len(node.all_input_nodes) == 1 and not weighted(node) and kind(node) in _KEEPS:
        (node,) = node.all_input_nodes
    return node
