"""Regions that overlap, such as whole tumour ⊃ core ⊃ enhancing tumour: from a class map to one mask each, and back.

    regions = {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}

Each region is a channel of its own (multi-label). Training, validation and evaluation make their masks by
``region_masks`` alone, so that all of them mean the same by a region.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.errors import DataError, nearest

Regions = Mapping[str, tuple[int, ...]]
"""By name of a region, the label values that belong to it; the order is that of the channels."""

GivenRegions = Mapping[str, Sequence[int | str]]
"""The same as a recipe may write it: label values, or names of classes."""


def region_masks(label: Any, regions: Regions, ignore_index: int | None = None) -> Array:
    """Make the mask of every region.

    Args:
        label: Class numbers (*shape), integers of any type.
        regions: Names and values of the regions.
        ignore_index: Label value of pixels that count nowhere.

    Returns:
        (R, *shape): 1 inside a region, 0 outside, and ``ignore_index`` in every channel of a pixel that counts nowhere;
        uint8, or the smallest type that holds ``ignore_index``.
    """
    label, kind = np.asarray(label), _holding(ignore_index)
    if label.size and label.dtype.kind in "iu" and label.min() >= 0 and (top := int(label.max())) < _TABLE:
        table = _masks_of(
            np.arange(top + 1), regions, ignore_index, kind
        )  # five times as fast as looking at each pixel
        return np.stack([row[label] for row in table])
    return _masks_of(label, regions, ignore_index, kind)


def _masks_of(label: Array, regions: Regions, ignore_index: int | None, kind: Any) -> Array:
    masks = np.stack([np.isin(label, values) for values in regions.values()]).astype(kind)
    if ignore_index is not None:
        masks[:, label == ignore_index] = ignore_index
    return masks


def class_map(masks: Array, order: Sequence[tuple[int, int]]) -> Array:
    """Make one label of predicted regions: the way back of ``region_masks``.

    Args:
        masks: (R, *shape), true or 1 inside.
        order: What ``painting_order`` returned; regions painted later win.

    Returns:
        Class numbers (*shape), in the smallest unsigned type that holds them.
    """
    label = np.zeros(masks.shape[1:], np.min_scalar_type(max((value for _, value in order), default=0)))
    for channel, value in order:
        label[masks[channel] == 1] = value
    return label


def painting_order(regions: Regions, written: Sequence[int] = ()) -> tuple[tuple[int, int], ...] | None:
    """Say in which order regions are painted over one another so that a class map comes out.

    Args:
        regions: Names and values of the regions.
        written: The value that each region is written as; they are painted in the order of the regions then, as
            nnU-Net's ``regions_class_order`` says. Found out when left out.

    Returns:
        (channel, label value), the largest region first: the value is the one that none of the smaller regions within
        it has. None where no class map can say what the regions say: two of them cross, or a region has no value of
        its own or several, between which its mask does not tell.
    """
    if written:
        return tuple(enumerate(written))
    sets = [frozenset(values) for values in regions.values()]
    order = sorted(range(len(sets)), key=lambda i: -len(sets[i]))
    painted: list[tuple[int, int]] = []
    for place, i in enumerate(order):
        smaller = [sets[j] for j in order[place + 1 :]]
        if any(other & sets[i] and not other < sets[i] for other in smaller):
            return None
        own = sets[i].difference(*smaller)
        if len(own) != 1:
            return None
        painted += [(i, value) for value in own]
    return tuple(painted) or None


def faults_of_order(regions: Regions, written: Sequence[int]) -> list[str]:
    """Say what is wrong with the values that regions are written as.

    Args:
        regions: Names and values of the regions.
        written: One value for each, in their order, in which they are painted over one another.

    Returns:
        One line each: another number of values than of regions, a value that its region has not or that stands for two
        regions, a region that is painted over whole.
    """
    if len(written) != len(regions):
        return [f"{len(written)} values for {len(regions)} regions ({', '.join(regions)})"]
    names, faults = list(regions), []
    for place, (name, value) in enumerate(zip(names, written, strict=True)):
        own = regions[name]
        if value not in own:
            faults.append(f"region {name!r} would be written as {value}, which it does not have ({_listed(own)})")
        faults += [
            f"{names[other]!r} and {name!r} would both be written as {value}"
            for other in range(place)
            if written[other] == value
        ]
        faults += [
            f"{name!r} lies in {later!r}, which would be painted over it"
            for later in names[place + 1 :]
            if set(own) <= set(regions[later])
        ]
    return faults


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def read_regions(
    given: GivenRegions, labels: Mapping[int, str], ignore: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Read a table of regions.

    Args:
        given: Label values or names of classes by name of the region.
        labels: Names of the label values that the data have, the background not among them.
        ignore: Label value of pixels that count nowhere.

    Returns:
        The label values of each region, in the order of the table.

    Raises:
        DataError: unknown classes or values, an empty region, two regions of one name or of the same values, the
            background or the ignored value in a region; all faults at once.
    """
    if faults := list(_faults(given, labels, ignore)):
        known = ", ".join(f"{value} ({name})" for value, name in sorted(labels.items()))
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise DataError(
            "\n".join([f"data.regions has {count}.", *(f"  {fault}" for fault in faults)]),
            seen=f"labels {known}",
            hint='[data.regions]\n"whole tumour" = [1, 2, 3]   # label values, or names of classes',
        )
    value_of = {name: value for value, name in labels.items()}
    return {
        name.strip(): tuple(part if isinstance(part, int) else value_of[part] for part in parts)
        for name, parts in given.items()
    }


def _faults(given: GivenRegions, labels: Mapping[int, str], ignore: int | None) -> Iterator[str]:
    if not given:
        yield "it names no region."
    names = [name.strip() for name in given]
    for name in dict.fromkeys(names):
        if not name:
            yield "a region has no name."
        elif names.count(name) > 1:
            yield f"two regions are named {name!r}; each needs a name of its own."
    for name, parts in given.items():
        yield from (f"{name!r}: {fault}" for fault in _faults_of_one(parts, labels, ignore))
    yield from _same_values(given, labels)


def _faults_of_one(parts: Sequence[int | str], labels: Mapping[int, str], ignore: int | None) -> Iterator[str]:
    if not parts:
        yield "it is empty; it needs a class at least."
    for part in dict.fromkeys(parts):
        value = next((v for v, name in labels.items() if name == part), None) if isinstance(part, str) else part
        if part == 0 or part == "background":
            yield "it holds the background, which is what lies outside of all regions."
        elif value is not None and value == ignore:
            yield f"it holds {part!r}, whose pixels count nowhere."
        elif value not in labels:
            yield f"no label {part!r}. {nearest(str(part), [*map(str, labels), *labels.values()])}"
        elif list(parts).count(part) > 1:
            yield f"it holds {part!r} twice."


def _same_values(given: GivenRegions, labels: Mapping[int, str]) -> Iterator[str]:
    """Name regions that are one and the same: a channel would be learned twice."""
    value_of = {name: value for value, name in labels.items()}
    known: dict[frozenset[Any], str] = {}
    for name, parts in given.items():
        values = frozenset(value_of.get(part, part) if isinstance(part, str) else part for part in parts)
        if values in known and values:
            yield f"{name!r} and {known[values]!r} hold the same labels; they are one region."
        known.setdefault(values, name)


def pack_masks(masks: Array, ignore_index: int | None = None) -> Array:
    """Write the masks of a pixel as one number, so that what moves a label moves all of them at once.

    Args:
        masks: (R, *shape) of 0, 1 and ``ignore_index``; at most 23 channels, so that single precision holds them.
        ignore_index: Value of pixels that count nowhere.

    Returns:
        int64 (*shape): channel r is bit r; 2^R where a pixel counts nowhere.

    Raises:
        DataError: more channels.
    """
    number = len(masks)
    if number > _MOST_PACKED:
        raise DataError(
            f"{number} overlapping masks cannot be augmented here; at most {_MOST_PACKED} can.",
            hint='augment = "none", or augment image and masks in the data set',
        )
    packed = sum((masks[r] == 1).astype(np.int64) << r for r in range(number))
    return np.asarray(packed if ignore_index is None else np.where(masks[0] == ignore_index, 1 << number, packed))


def unpack_masks(packed: Array, number: int, ignore_index: int | None = None) -> Array:
    """Do the reverse of ``pack_masks``.

    Args:
        packed: What it returned, moved.
        number: R.
        ignore_index: As there.

    Returns:
        (R, *shape), of the type that ``region_masks`` gives.
    """
    masks = np.stack([(packed >> r) & 1 for r in range(number)]).astype(_holding(ignore_index))
    if ignore_index is not None:
        masks[:, packed == 1 << number] = ignore_index
    return masks


_MOST_PACKED = 23
_TABLE = 1 << 16


def _holding(ignore_index: int | None) -> Any:
    """Return the smallest type for 0, 1 and the ignored value."""
    found = np.min_scalar_type(ignore_index or 0)
    return found if found.kind == "u" else np.promote_types(found, np.int8)
