"""The order in which training meets the items: repeatable from a seed and a step number."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError

Draw = tuple[int, int]  # draw number, which tells repeated uses apart, and index of the item


@dataclass(frozen=True)
class Order:
    """Which items each training step sees: a pure function of (number of items, batch size, seed, step).

    Every epoch is a fresh permutation cut into full batches; what is left over at its end is dropped (other items each
    epoch). With fewer items than a batch needs, the permutation is repeated until the batch is full.

    Args:
        n: Number of items, at least 1.
        batch_size: Items in a batch, at least 1.
        seed: The run's seed.

    Raises:
        DataError: no items.
    """

    n: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise DataError("the training set is empty.", hint="lomix validate RECIPE   # lists what was found")

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, self.n // self.batch_size)

    def batch(self, step: int) -> list[Draw]:
        """Return the keys of one step.

        Args:
            step: 0, 1, 2, …

        Returns:
            ``batch_size`` pairs (draw, index); no two steps share a draw number.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        permutation = _permutation(self.n, self.seed, epoch)
        start = place * self.batch_size
        indices = [int(permutation[(start + i) % self.n]) for i in range(self.batch_size)]
        return [(step * self.batch_size + i, index) for i, index in enumerate(indices)]

    def batches(self, start: int, end: int) -> "Batches":
        """Return the batches of steps ``start`` … ``end − 1`` as the ``batch_sampler`` of a DataLoader."""
        return Batches(self, start, end)


@dataclass(frozen=True)
class Batches:
    """The batches of a range of steps; iterable again and again.

    Args:
        order: Where they come from.
        start: First step.
        end: One past the last step.
    """

    order: Order
    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __iter__(self) -> Iterator[list[Draw]]:
        return (self.order.batch(step) for step in range(self.start, self.end))


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(n)
