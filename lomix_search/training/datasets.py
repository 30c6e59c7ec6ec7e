"""The datasets of a search: brought into one form, looked at before the first step, a part set aside for looks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lomix_search.data.sanity import Fingerprint, check_all_items, check_some_items
from lomix_search.data.subsets import check_apart, label_fraction, set_aside
from lomix_search.data.uniform_dataset import UniformDataset
from lomix_search.errors import RunError
from lomix_search.mixture.weighting import Lookahead
from lomix_search.training.shrink import check_shrink
from lomix_search.training.state import TrainingState
from lomix_search.utils.random import same_random_state

_Items = Dataset[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class GivenDatasets:
    """The datasets as the user gave them, all in one form.

    Args:
        train: To train on.
        val: To validate on.
        held_out: For the weighting to look at.
    """

    train: UniformDataset
    val: UniformDataset | None
    held_out: UniformDataset | None

    def look(self, classes: Sequence[str]) -> dict[str, Fingerprint]:
        """Look at all of them before a step is taken.

        Args:
            classes: Class names, the background first.

        Returns:
            By the name of each dataset, what tells later whether it is still the same.

        Raises:
            DataError: items of a form that cannot be trained with, or labels outside the classes; names the item.
        """
        with same_random_state():
            found = {"training": check_some_items(self.train)}
            found |= {} if self.val is None else {"validation": check_all_items(self.val, classes)}
            return found | ({} if self.held_out is None else {"held-out": check_some_items(self.held_out)})


@dataclass(frozen=True)
class DividedDatasets:
    """The same items by what the search does with them.

    Args:
        train: To train on from the first step.
        aside: What joins them once the looks are over; None where nothing was set aside for so long.
        held_out: What the weighting looks at; None where it looks at nothing.
    """

    train: _Items
    aside: _Items | None = None
    held_out: _Items | None = None


def in_one_form(state: TrainingState, train: _Items, val: _Items | None, held_out: _Items | None) -> GivenDatasets:
    """Bring the items of every dataset into one form.

    Args:
        state: Network and loss, which say what an item must look like.
        train: To train on.
        val: To validate on.
        held_out: For the weighting to look at.

    Returns:
        The three.

    Raises:
        DataError: a dataset is refused.
    """
    dtype = next((p.dtype for p in state.net.parameters() if p.is_floating_point()), torch.float32)

    def one(items: _Items, what: str) -> UniformDataset:
        loss = state.loss
        return UniformDataset(items, what, loss.num_classes, loss.ignore_index, dtype, multilabel=loss.multilabel)

    return GivenDatasets(
        one(train, "training"),
        None if val is None else one(val, "validation"),
        None if held_out is None else one(held_out, "held-out"),
    )


def divide(state: TrainingState, given: GivenDatasets) -> DividedDatasets:
    """Check that settings and datasets fit; give the weighting its held-out items, if it wants any.

    Args:
        state: Loss and plan.
        given: The datasets.

    Returns:
        What to train on, what joins it later, what is looked at.

    Raises:
        RunError: a setting that these datasets or this loss cannot meet, or held-out items that are of another set too.
    """
    plan, weighting = state.plan.search, state.loss.weighting
    train = label_fraction(given.train, plan.label_fraction, plan.seed)
    if plan.shrink is not None:
        check_shrink(plan.shrink, state.loss)
    if plan.patience is not None and given.val is None:
        raise RunError(
            f"patience = {plan.patience} waits for a better validation Dice; there are no validation data.",
            hint="search(net, loss, train, val, …), or no patience",
        )
    if isinstance(weighting, Lookahead):
        return _with_held_out(weighting, train, given, plan.seed)
    if given.held_out is not None:
        raise RunError(
            f'held_out was given; the weighting "{weighting.name}" looks at no held-out items.',
            hint='MixtureLoss(…, weighting="lookahead")',
        )
    return DividedDatasets(train)


def _with_held_out(weighting: Lookahead, train: _Items, given: GivenDatasets, seed: int) -> DividedDatasets:
    """Take the held-out items that were given, or set a part of the training items aside."""
    held_out: _Items | None = given.held_out
    aside = None
    if held_out is None:
        train, held_out = set_aside(train, weighting.held_out, seed)
        aside = held_out if weighting.until < 1 else None
    check_apart(held_out, {"training": train, "validation": given.val})
    return DividedDatasets(train, aside, held_out)
