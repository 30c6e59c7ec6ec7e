"""The batches that a search trains on, from the step it stands at to the last; each process gets its share of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from lomix_search.data.sampler import Batches, Draw, Order
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import collate
from lomix_search.mixture.weighting import Lookahead
from lomix_search.training.datasets import DividedDatasets
from lomix_search.training.state import TrainingState
from lomix_search.utils.distributed import share


def training_batches(state: TrainingState, items: DividedDatasets) -> DataLoader[tuple[Tensor, Tensor]]:
    """Make the loader of all steps that are left; batches and augmentations follow from the seed and the step alone.

    Args:
        state: The plan, and the step where the search stands.
        items: What to train on. What was set aside for looks joins once these are over.

    Returns:
        Images (B, C, *spatial) and labels (B, *spatial), this process's share of each batch.
    """
    plan, train = state.plan.search, items.train
    order = Order(len(train), plan.batch_size, plan.seed)  # type: ignore[arg-type]
    if items.aside is None:
        parts = [order.batches(state.step, plan.steps)]
    else:
        train = ConcatDataset([train, items.aside])
        turn = _end_of_looks(state)
        parts = [order.batches(state.step, turn), replace(order, n=len(train)).batches(turn, plan.steps)]
    return DataLoader(
        Seeded(train, plan.seed),
        batch_sampler=_Shares(parts),
        collate_fn=collate,
        num_workers=plan.workers,
        pin_memory=state.device.type == "cuda",
        persistent_workers=plan.workers > 0,
        # The loader draws a seed for its workers; from a generator of its own, so that the global one stays put.
        generator=torch.Generator().manual_seed(plan.seed),
    )


def _end_of_looks(state: TrainingState) -> int:
    """Return the first step that trains on all items, or the step where the search stands if that is later."""
    weighting, steps = state.loss.weighting, state.plan.search.steps
    assert isinstance(weighting, Lookahead)
    return min(max(state.step, weighting.looks_end(steps)), steps)


@dataclass(frozen=True)
class _Shares:
    """This process's share of each batch of one part of training after the other: a DataLoader's ``batch_sampler``."""

    parts: Sequence[Batches]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[list[Draw]]:
        return (list(share(keys)) for keys in chain.from_iterable(self.parts))
