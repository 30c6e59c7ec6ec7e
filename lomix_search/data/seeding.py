"""Items that depend on nothing but a key: random states are set before an item is read, and put back after."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Dataset

from lomix_search.data.dataset import Item
from lomix_search.data.random_generators import RandomGenerators
from lomix_search.data.sampler import Draw


class Seeded(Dataset[Item]):
    """A data set whose items depend on nothing but (seed, draw, index).

    Whatever the worker, the order or the step at which a run was resumed: python's, numpy's and torch's global random
    states, and those of generators that the data set holds itself, such as MONAI's random transforms, are set from the
    key, the item is read, and the states are put back as they were.

    Args:
        dataset: Any map-style data set.
        seed: The run's seed.
    """

    def __init__(self, dataset: Dataset[Item], seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self._own = RandomGenerators(dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: Draw) -> Item:
        """Return ``dataset[index]`` as it comes out at this draw.

        Args:
            key: (draw, index); the draw number tells repeated uses of one item apart.

        Returns:
            What the wrapped data set returns.
        """
        draw, index = key
        with seeded(self.seed, draw, index), self._own.seeded(self.seed, draw, index, 1):
            return self.dataset[index]


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Set the global random states of python, numpy and torch (CPU) from a key, and restore them at the end.

    Args:
        *key: Non-negative integers, e.g. (seed, draw, index).

    Yields:
        Nothing.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
