"""The best ladder: of each level one candidate or none, by the sum of their scores, solved exactly."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import fx

from lomix_search.instrumentation.stages.candidates import NONE_TRAITS, TRAITS, Level

Scores = NDArray[np.float64]

_NEVER = -1e9

WIDTH = 3 * (len(TRAITS) + len(NONE_TRAITS))
"""Number of weights of single candidates; SAME has one more for each."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """A ladder and how it compares with others.

    Args:
        nodes: The stages, coarse to fine; levels without one are left out.
        probability: Of this ladder among all, by the scores.
        by_level: Of this choice in each level among all choices there; levels without a stage count too.
    """

    nodes: tuple[fx.Node, ...]
    probability: float
    by_level: tuple[float, ...]


def scores(levels: Sequence[Level], weights: Scores) -> tuple[list[Scores], list[Scores]]:
    """Return the score of each candidate, and of each pair of candidates of neighbouring levels."""
    single = [level.unary @ weights[:WIDTH] for level in levels]
    pairs = [
        (a.alike[:, None, :] == b.alike[None, :, :]).astype(np.float64) @ weights[WIDTH:]
        for a, b in itertools.pairwise(levels)
    ]
    return single, pairs


def best_ladder(levels: Sequence[Level], weights: Scores) -> Reading:
    """Return the ladder with the highest score.

    Args:
        levels: Coarse to fine.
        weights: WIDTH + number of SAME.

    Returns:
        The ladder and its probabilities.
    """
    single, pairs = scores(levels, weights)
    path, best = viterbi(single, pairs)
    forward, backward = _sums(single, pairs), _sums(single[::-1], [pair.T for pair in pairs[::-1]])[::-1]
    total = float(np.logaddexp.reduce(forward[-1]))
    each = [f + b - s - total for f, b, s in zip(forward, backward, single, strict=True)]
    chosen = [level.nodes[at] for level, at in zip(levels, path, strict=True)]
    by_level = tuple(float(np.exp(min(0.0, one[at]))) for one, at in zip(each, path, strict=True))
    return Reading(tuple(n for n in chosen if n is not None), float(np.exp(best - total)), by_level)


def log_share(levels: Sequence[Level], weights: Scores, marks: Sequence[NDArray[np.bool_]]) -> float:
    """Return the log of the share of some ladders among all, by the scores.

    Args:
        levels: Coarse to fine.
        weights: WIDTH + number of SAME.
        marks: For each level which candidates those ladders may have.

    Returns:
        At most 0.
    """
    single, pairs = scores(levels, weights)
    marked = [np.where(mark, score, _NEVER) for mark, score in zip(marks, single, strict=True)]
    some, every = (float(np.logaddexp.reduce(_sums(one, pairs)[-1])) for one in (marked, single))
    return min(0.0, some - every)


def viterbi(single: Sequence[Scores], pairs: Sequence[Scores]) -> tuple[list[int], float]:
    """Return the path with the highest sum, one place for each step, and the sum."""
    value, back = single[0], list[NDArray[np.int64]]()
    for here, pair in zip(single[1:], pairs, strict=True):
        ways = value[:, None] + pair
        back.append(ways.argmax(0))
        value = ways.max(0) + here
    path = [int(value.argmax())]
    for came in reversed(back):
        path.append(int(came[path[-1]]))
    return path[::-1], float(value.max())


def _sums(single: Sequence[Scores], pairs: Sequence[Scores]) -> list[Scores]:
    """Log of the sum of all paths that end at each place of each step."""
    found = [single[0]]
    for here, pair in zip(single[1:], pairs, strict=True):
        found.append(np.logaddexp.reduce(found[-1][:, None] + pair, axis=0) + here)
    return found
