"""Items that depend on nothing but their key, whatever the worker and the point of resuming."""

import random

import numpy as np
import pytest
import torch
from support.toy_slices import toy
from torch.utils.data import DataLoader

from lomix_search.data.dataset import Slices
from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded


def test_seeded_depends_on_the_key_alone() -> None:
    data = Seeded(toy("paper"), seed=3)
    first = [data[(draw, 4)] for draw in range(12)]
    np.random.rand(17)
    again = [data[(draw, 4)] for draw in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert len({one[0].numpy().tobytes() for one in first}) > 3, "every draw augments anew"
    other = Seeded(toy("paper"), seed=4)
    assert any(not torch.equal(first[draw][0], other[(draw, 4)][0]) for draw in range(12))


def test_seeded_restores_the_global_states() -> None:
    class Noisy(Slices):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            random.random(), np.random.rand(), torch.rand(1)
            return super().__getitem__(index)

    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    Seeded(Noisy(np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 2), int), ["a"], num_classes=1), 0)[(0, 0)]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_is_the_same_whatever_the_workers_and_the_resume_point(workers: int) -> None:
    data, order = Seeded(toy("chest_ct"), 1), Order(10, 4, seed=1)
    whole = list(DataLoader(data, batch_sampler=order.batches(0, 6)))
    rest = list(DataLoader(data, batch_sampler=order.batches(3, 6), num_workers=workers))
    assert len(whole) == 6 and len(rest) == 3
    for one, two in zip(whole[3:], rest, strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
