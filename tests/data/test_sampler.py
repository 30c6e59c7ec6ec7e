"""The order of the items: each once an epoch, reshuffled, repeatable."""

import numpy as np
import pytest

from lomix_search.data.sampler import Order
from lomix_search.errors import DataError


def test_order_covers_an_epoch_once_and_reshuffles() -> None:
    order = Order(12, 4, seed=0)
    epochs = [[i for step in range(e * 3, e * 3 + 3) for _, i in order.batch(step)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    draws = [draw for step in range(9) for draw, _ in order.batch(step)]
    assert draws == list(range(36))
    assert Order(12, 4, seed=1).batch(0) != order.batch(0)


def test_order_drops_the_rest_of_an_epoch() -> None:
    order = Order(10, 4, seed=0)
    assert order.steps_per_epoch == 2
    one, two = ({i for step in steps for _, i in order.batch(step)} for steps in ((0, 1), (2, 3)))
    assert len(one) == len(two) == 8 and one != two


def test_order_wraps_when_a_batch_needs_more_than_there_is() -> None:
    batch = Order(3, 8, seed=0).batch(5)
    assert len(batch) == 8
    assert sorted(np.bincount([i for _, i in batch])) == [2, 3, 3]


def test_order_of_nothing() -> None:
    with pytest.raises(DataError, match="the training set is empty"):
        Order(0, 4, 0)
