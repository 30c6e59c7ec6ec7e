"""Items that depend on nothing but a key: random states are set before an item is read, and put back after."""

from torch.utils.data import Dataset

from lomix_search.data.dataset import Item
from lomix_search.data.random_generators import RandomGenerators
from lomix_search.data.sampler import Draw
from lomix_search.utils.random import seeded


class Seeded(Dataset[Item]):
    """A dataset whose items depend on nothing but (seed, draw, index).

    Whatever the worker, the order or the step at which a run was resumed: python's, numpy's and torch's global random
    states, and those of generators that the dataset holds itself, such as MONAI's random transforms, are set from the
    key, the item is read, and the states are put back as they were.

    Args:
        dataset: Any map-style dataset.
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
            What the wrapped dataset returns.
        """
        draw, index = key
        with seeded(self.seed, draw, index), self._own.seeded(self.seed, draw, index, 1):
            return self.dataset[index]
