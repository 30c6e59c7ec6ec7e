"""The best ladder against trying all of them."""

import itertools

import numpy as np

from lomix_search.instrumentation.stages.candidates import SAME, Level
from lomix_search.instrumentation.stages.ladder import WIDTH, best_ladder, viterbi


def of_all(single, pairs):
    """The sum of each path, by the places of its steps."""
    paths = itertools.product(*(range(len(values)) for values in single))
    return {
        path: sum(values[at] for values, at in zip(single, path, strict=True))
        + sum(pair[a, b] for pair, a, b in zip(pairs, path, path[1:], strict=False))
        for path in paths
    }


def test_the_best_path_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(1, 5, size=4)
        single = [rng.normal(size=n) for n in counts]
        pairs = [rng.normal(size=(a, b)) for a, b in itertools.pairwise(counts)]
        path, value = viterbi(single, pairs)
        sums = of_all(single, pairs)
        assert tuple(path) == max(sums, key=sums.get) and np.isclose(value, max(sums.values()))


def test_probabilities_are_shares_of_all_ladders():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=WIDTH + len(SAME)) / 8
    levels = [
        Level((*"ab"[: n - 1], None), rng.integers(0, 2, (n, WIDTH)).astype(float), rng.integers(0, 2, (n, len(SAME))))
        for n in (3, 2, 3)
    ]
    single = [level.unary @ weights[:WIDTH] for level in levels]
    pairs = [(a.alike[:, None] == b.alike).astype(float) @ weights[WIDTH:] for a, b in itertools.pairwise(levels)]
    sums = {path: np.exp(value) for path, value in of_all(single, pairs).items()}
    best, reading = max(sums, key=sums.get), best_ladder(levels, weights)
    chosen = [level.nodes[at] for level, at in zip(levels, best, strict=True)]
    assert reading.nodes == tuple(node for node in chosen if node)
    assert np.isclose(reading.probability, sums[best] / sum(sums.values()))
    shares = [sum(v for path, v in sums.items() if path[i] == best[i]) / sum(sums.values()) for i in range(len(levels))]
    assert np.allclose(reading.by_level, shares)
