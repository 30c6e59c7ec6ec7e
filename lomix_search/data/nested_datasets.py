"""Follow an item of a nested dataset inwards, by one rule: which item of which dataset it is, and of which case."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, Subset

from lomix_search.errors import DataError

_DEEPEST = 64  # levels; a dataset that holds itself ends there


def case_of(items: Any, index: int) -> str:
    """Name the case (a patient or volume) that an item belongs to. An item whose case is unknown is a case of its own.

    The name comes from the first dataset on the way in that tells, by a method ``case(index)`` or, where the items lie
    in a list of dictionaries as in MONAI, by their key ``"case"``.

    Args:
        items: A dataset, however nested: see ``sources``.
        index: 0 … len − 1.

    Returns:
        The name; the index in figures where none is known.

    Raises:
        DataError: the cases inside a dataset are known, but not which of its items is which.
    """
    return next((name for source in sources(items, index) if (name := _told(*source)) is not None), str(index))


def truth_of(items: Any, index: int) -> Any:
    """Return what a prediction for an item is scored against; None: its own label.

    Args:
        items: A dataset; ``Subset`` and ``ConcatDataset`` are followed. Other wrappers may have changed the items:
            then what it holds says nothing about them.
        index: 0 … len − 1.

    Returns:
        What the dataset inside says, if it has a method ``truth(index)``.
    """
    if callable(tell := getattr(items, "truth", None)):
        return tell(index)
    inner = _within(items, index) if isinstance(items, Subset | ConcatDataset) else []
    return truth_of(*inner[0]) if inner else None


def window_of(items: Any) -> tuple[int, ...] | None:
    """Return the size of the blocks by which items are predicted; None: whole, as most are.

    Args:
        items: A dataset; followed as by ``truth_of``, and through the wrappers of this library.

    Returns:
        What the dataset inside says, if it has an attribute ``window``.
    """
    if (window := getattr(items, "window", None)) is not None:
        return tuple(window)
    inner = _within(items, 0) if isinstance(items, Subset | ConcatDataset) and len(items) else []
    return window_of(inner[0][0]) if inner else None


def knows_cases(items: Any) -> bool:
    """Say whether the case of the first item is known."""
    return any(_told(*source) is not None for source in sources(items, 0))


def owners_of(items: Any) -> list[str]:
    """Name the case of each item; each is a case of its own where all are of one case, or no case is known."""
    found = [case_of(items, i) for i in range(len(items))]
    return found if len(set(found)) > 1 else [str(i) for i in range(len(items))]


def sources(items: Any, index: int) -> Iterator[tuple[Any, int]]:
    """Follow an item inwards: through ``Subset``, ``ConcatDataset``, ``StackDataset``, MONAI's and a user's wrappers.

    A user's wrapper is followed if it holds the dataset inside, under any name, and has the same length: its items are
    then taken to be those inside, in their order. A wrapper of another length must tell by ``indices`` or by a
    ``case(index)`` of its own.

    Args:
        items: The outermost dataset.
        index: Of an item in it.

    Yields:
        (dataset, index) from the outside in; of datasets side by side, one after the other.

    Raises:
        DataError: a wrapper of another length around items whose cases are known.
    """
    yield from _follow(items, int(index), 0)


def _follow(items: Any, index: int, depth: int) -> Iterator[tuple[Any, int]]:
    yield items, index
    if depth < _DEEPEST:
        for inner, number in _within(items, index):
            yield from _follow(inner, number, depth + 1)


def _within(items: Any, index: int) -> list[tuple[Any, int]]:
    """Return where an item lies one level further in; nothing at the innermost."""
    held = [one for one in _held(items) if _length(one) is not None]
    if not held:
        return []
    if isinstance(items, ConcatDataset) or hasattr(items, "cumulative_sizes"):
        part = bisect_right(items.cumulative_sizes, index)
        return [(held[part], index - (items.cumulative_sizes[part - 1] if part else 0))]
    inner, length = held[0], _length(items)
    if len(held) == 1 and (picked := getattr(items, "indices", None)) is not None:
        return [(inner, int(picked[index]))]
    if each := getattr(items, "samples_per_image", None):  # MONAI's PatchDataset
        return [(inner, index // each)]
    same = [one for one in held if length is None or _length(one) == length or _is_zip(items)]
    if not same and any(_length(one) and knows_cases(one) for one in held):
        raise DataError(
            f"{type(items).__name__} holds a data set whose cases are known; which of its items is which is not.",
            seen=f"{length} items around {_length(inner)}",
            hint="def case(self, index): return self.dataset.case(…)   # in the class, or an attribute `indices`",
        )
    return [(one, index) for one in same]


def _held(items: Any) -> list[Any]:
    """Return the datasets that a dataset is made of."""
    attributes = _attributes(items)
    parts = attributes.get("datasets", attributes.get("data"))
    parts = list(parts.values()) if isinstance(parts, Mapping) else parts
    if isinstance(parts, list | tuple) and parts and all(_is_data(part) for part in parts):
        return list(parts)
    named = [attributes[name] for name in ("dataset", "data") if _is_data(attributes.get(name))]
    return named[:1] or [value for value in attributes.values() if isinstance(value, Dataset)]


def _is_data(value: Any) -> bool:
    return isinstance(value, Dataset) or callable(getattr(value, "case", None))


def _is_zip(items: Any) -> bool:
    """MONAI's ZipDataset ends with the shortest of its datasets; its items are theirs all the same."""
    return type(items).__name__ == "ZipDataset"


def _told(items: Any, index: int) -> str | None:
    """Return what a dataset itself says about the case of an item."""
    if callable(case := getattr(items, "case", None)):
        return str(case(index))
    data = items if isinstance(items, list | tuple) else _attributes(items).get("data")
    if isinstance(data, list | tuple) and len(data) == _length(items):
        item = data[index]
        if isinstance(item, Mapping) and isinstance(item.get("case"), str | int):
            return str(item["case"])
    return None


def _attributes(items: Any) -> dict[str, Any]:
    return getattr(items, "__dict__", {})


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None
