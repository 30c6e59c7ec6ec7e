"""How sure the stages are: a second reading of the same ladder, by scores instead of rules, and whether both agree."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import fx

from lomix_search.instrumentation.stages.candidates import NONE_TRAITS, SAME, TRAITS, level_candidates
from lomix_search.instrumentation.stages.decoder import Ladder
from lomix_search.instrumentation.stages.ladder import best_ladder, log_share
from lomix_search.instrumentation.stages.named_maps import NamedMap
from lomix_search.instrumentation.stages.operations import Operation, kind, weighted

SURE = 0.8
"""The least probability that is called sure: by it 71 in 100 ladders held out are, of which 97 in 100 were right."""

TAKEN = 0.98
"""The share of all ladders from which on the second reading is used where the first differs; docs/zoo.md says why."""

_ROUNDING = 1e-6

_ALWAYS, _AGREED, _SHARE, LEAST = 3.71, 0.57, 1.2, -4.0
"""A logistic curve: of nothing, of agreement, and of the log of the share that the scores give the stages, no less than
the last. Fitted to whether ladders of ten lists were right that were labelled before anything was tried on them, each
by the rules of before it was looked at and by scores fitted without it. docs/zoo.md has the counts."""

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
        sure: Whether that they are right is likely enough.
        probability: That they are right: by whether both readings agree, and how much likelier they are by the scores
            than all other ladders; calibrated.
        others: Its stages, coarse to fine; empty where it agrees.
        apart: Numbers, from 0, of the stages that it does not have.
    """

    sure: bool
    probability: float
    others: tuple[NamedMap, ...] = ()
    apart: tuple[int, ...] = ()

    @property
    def other(self) -> tuple[str, ...]:
        """The names of its stages."""
        return tuple(one.name for one in self.others)


@dataclasses.dataclass(frozen=True)
class SecondReading:
    """What the scores say of a ladder.

    Args:
        nodes: The stages with the highest score, coarse to fine; fewer than two where the scores see no ladder.
        own: Log of their share among all ladders.
        share: Log of the share of the first reading's stages; minus infinity where they are no candidates.
    """

    nodes: tuple[fx.Node, ...]
    own: float
    share: float

    @property
    def is_taken(self) -> bool:
        """Whether it is used instead of the first: all but certain of other stages, though it knows those of both."""
        return len(self.nodes) > 1 and self.own >= math.log(TAKEN) and -math.inf < self.share < self.own - _ROUNDING


def second_reading(ladder: Ladder, first: Sequence[fx.Node]) -> SecondReading:
    """Return the reading of the scores, and what they think of another.

    Args:
        ladder: The data flow and its levels.
        first: The stages of the other reading.

    Returns:
        Values of the flow.
    """
    if not ladder.levels:
        return SecondReading((), -math.inf, -math.inf)
    levels, weights = level_candidates(ladder.flow, ladder.levels, ladder.head), stage_weights()
    left, marks = [map_itself(node) for node in first], list[NDArray[np.bool_]]()
    for level in levels:
        here = [node is not None and map_itself(node) in left for node in level.nodes]
        here[-1] = not any(here)
        left = [
            one
            for one in left
            if one not in {map_itself(n) for n, on in zip(level.nodes, here, strict=True) if n and on}
        ]
        marks.append(np.array(here))
    best = best_ladder(levels, weights)
    share = -math.inf if left else log_share(levels, weights, marks)
    return SecondReading(best.nodes, math.log(max(best.probability, 1e-300)), share)


def opinion(first: Sequence[fx.Node], second: Sequence[fx.Node], others: Sequence[NamedMap], share: float) -> Opinion:
    """Compare two readings.

    Args:
        first: The stages, coarse to fine.
        second: Those of the second reading.
        others: How the second reading's stages are named.
        share: Log of the share that the second reading gives the first, as from :func:`second_reading`.

    Returns:
        Whether they are the same maps, and how likely the first is right.
    """
    mine, theirs = [map_itself(node) for node in first], [map_itself(node) for node in second]
    agreed = mine == theirs
    probability = probability_right(agreed, share)
    apart = () if agreed else tuple(i for i, node in enumerate(mine) if node not in theirs)
    return Opinion(probability >= SURE, probability, () if agreed else tuple(others), apart)


def probability_right(agreed: bool, share: float) -> float:
    """Return how likely stages are right.

    Args:
        agreed: Whether both readings agree.
        share: Log of the share that the second gives them among all ladders.

    Returns:
        0 … 1.
    """
    return 1 / (1 + math.exp(-(_ALWAYS + _AGREED * agreed + _SHARE * max(LEAST, share))))


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
