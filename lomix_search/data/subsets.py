"""Parts of a training set: a fraction of its labels, a part kept aside. Whole cases where there are enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, Subset

from lomix_search.data.nested_datasets import owners_of, sources
from lomix_search.errors import RunError

_Items = Dataset[tuple[Tensor, Tensor]]


def set_aside(train: _Items, part: float, seed: int) -> tuple[_Items, _Items]:
    """Cut off a part of the training items: whole cases, so that no patient is on both sides.

    Where one case is more than twice the part, as with two patients, single items are cut off instead: training would
    lose too many labels.

    Args:
        train: The training items; ``case_of`` tells whose each is.
        part: How much to cut off, in (0, 1); at least one case or item, and all but one at most.
        seed: The same seed cuts the same.

    Returns:
        What is left, and what was cut off.

    Raises:
        RunError: there is only one item.
    """
    owners = owners_of(train)
    if 2 * part * len(set(owners)) < 1:
        owners = [str(i) for i in range(len(owners))]
    number = len(set(owners))
    if number < 2:
        raise RunError(
            f"weighting lookahead keeps a part of the training items aside; there are {len(owners)}.",
            hint="more training items, or another weighting: weighting.name=anneal",
        )
    chosen = _choose(owners, min(max(1, round(part * number)), number - 1), seed, 1)
    sides = [i for i in range(len(owners)) if i not in chosen], sorted(chosen)
    return Subset(train, sides[0]), Subset(train, sides[1])


def label_fraction(train: _Items, part: float, seed: int) -> _Items:
    """Keep a part of the training items, as if the others had no labels.

    Smaller parts are subsets of larger ones of the same seed.

    Args:
        train: The training items, as for ``set_aside``.
        part: How much to keep, in (0, 1]; at least one case or item.
        seed: The same seed keeps the same.

    Returns:
        The items kept; the set itself for 1.
    """
    if part == 1:
        return train
    owners = owners_of(train)
    kept = nested_share(list(dict.fromkeys(owners)), part, (seed, 2))
    return Subset(train, [i for i, owner in enumerate(owners) if owner in kept])


def nested_share(groups: Sequence[str], part: float, seed: tuple[int, int]) -> set[str]:
    """Keep a part of the labels by whole groups: the rule of ``data.label_fraction`` and ``search.label_fraction``.

    Args:
        groups: Patients or cases, each once.
        part: How much to keep, in (0, 1]; at least one group.
        seed: Of the order of the groups. Smaller parts are subsets of larger ones of the same seed.

    Returns:
        The first groups of that order.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    return {groups[i] for i in order[: max(1, round(part * len(groups)))]}


def check_apart(held_out: _Items, others: Mapping[str, _Items | None]) -> None:
    """Check that held-out items are of no other set.

    Items are told apart by identity: the innermost dataset, however nested, and the index in it; names and cases of
    ``Slices``.

    Args:
        held_out: The held-out items.
        others: The other sets by what to call them.

    Raises:
        RunError: no items, or some that are also elsewhere.
    """
    mine = _identities(held_out)
    if not mine:
        raise RunError("the held-out set is empty.", hint="weighting.held_out=0.2")
    for what, other in others.items():
        if shared := mine & (_identities(other) if other is not None else set()):
            raise RunError(
                f"{len(shared)} held-out items are {what} items too; the looks of lookahead need items of their own.",
                hint="leave held_out out: a part of the training items is then kept aside",
            )


def _choose(owners: list[str], count: int, seed: int, purpose: int) -> set[int]:
    """Draw so many owners; return the numbers of their items."""
    groups = list(dict.fromkeys(owners))
    order = np.random.default_rng((seed, purpose)).permutation(len(groups))
    chosen = {groups[i] for i in order[:count]}
    return {i for i, owner in enumerate(owners) if owner in chosen}


def _identities(items: Any) -> set[tuple[Any, ...]]:
    """Tell the items of a dataset by where they lie at last, however deep."""
    return {_identity(*list(sources(items, i))[-1]) for i in range(len(items))}


def _identity(items: Any, index: int) -> tuple[Any, ...]:
    names = getattr(items, "names", None)
    return (items.case(index), names[index]) if names is not None else (id(items), index)
