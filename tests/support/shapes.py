"""A small data set of shapes, and a network, loss and settings to search on it."""

import copy
import functools
import os

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

import lomix_search as lomix
from lomix_search.instrumentation.instrumented import Instrumented
from support.zoo import SmallUNet

CLASSES = ("background", "disc", "square")
REGIONS = {"either": (1, 2), "disc": (1,), "square": (2,)}


class Shapes(Dataset[tuple[Tensor, Tensor]]):
    """A bright disc and a dim square at random places, with noise drawn anew each time from numpy's global state."""

    def __init__(self, n: int = 12, noise: float = 0.1) -> None:
        self.n, self.noise = n, noise

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        place = np.random.default_rng(index)
        label = np.zeros((16, 16), np.int64)
        y, x = place.integers(0, 11, 2)
        label[y : y + 5, x : x + 5] = 2
        cy, cx = place.integers(4, 12, 2)
        rows, columns = np.ogrid[:16, :16]
        label[(rows - cy) ** 2 + (columns - cx) ** 2 < 12] = 1
        image = np.choose(label, [0.0, 1.0, 0.5]) + self.noise * np.random.randn(16, 16)
        return torch.from_numpy(image[None].astype(np.float32)), torch.from_numpy(label)


class ShapeRegions(Shapes):
    """The same with masks (3, 16, 16) of ``REGIONS``."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return image, torch.stack([torch.isin(label, torch.tensor(values)) for values in REGIONS.values()])


def build(space: str = "lomix") -> tuple[Instrumented, lomix.MixtureLoss]:
    """Return the same network and loss each time, and the same global random state after it: copies of the first."""
    net, loss, state = _built(space)
    torch.set_rng_state(state)
    return copy.deepcopy(net), copy.deepcopy(loss)


@functools.cache
def _built(space: str) -> tuple[Instrumented, lomix.MixtureLoss, Tensor]:
    torch.manual_seed(3)
    net = lomix.instrument(SmallUNet(width=8), torch.zeros(1, 1, 16, 16))
    return net, lomix.MixtureLoss(lomix.SearchSpace.load(space), len(net.stages), 3), torch.get_rng_state()


class Interrupting(Shapes):
    """Sends this process a signal while an item is read, once."""

    def __init__(self, number: int, after: int) -> None:
        super().__init__()
        self.number, self.left = number, after

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


class SickAt(Shapes):
    """Items whose image is NaN in some of the reads."""

    def __init__(self, *reads: int) -> None:
        super().__init__()
        self.reads, self.read = reads, 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        self.read += 1
        return (torch.full_like(image, torch.nan) if self.read in self.reads else image), label
