"""Checks of the data before the first training step: form, labels, whether they repeat, whether they are the same data.

Without them a fault would end a run at its first validation, or silently change its result. Datasets are read through
shallow copies, so that one that counts its reads starts as it was.
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from lomix_search.data.dataset import Item, Slices, check_label, check_masks
from lomix_search.data.nested_datasets import case_of, sources
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import UniformDataset
from lomix_search.errors import DataError, RunError

_SAMPLES = 4  # items of a set that are read

Fingerprint = Mapping[str, Any]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on several, augmentation rounds otherwise, and the same data would seem to be others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def check_some_items(items: UniformDataset) -> Fingerprint:
    """Look at a set to train with: some items, and all labels that lie in memory.

    Args:
        items: The set.

    Returns:
        What tells later whether it is the same set: the number of items, and hashes of the case names and of each item
        read. The hashes of items are left out where two readings differ, with a warning.

    Raises:
        DataError: an item has another form, or labels are outside the classes; names it.
    """
    if not len(items):
        raise DataError(f"the {items.what} set is empty.", hint="lomix validate RECIPE   # lists what was found")
    _check_labels_at_hand(items)
    prints: dict[str, str] = {}
    for index in _spread(len(items)):
        first, again = (_print(*_read(items, index)) for _ in range(2))
        if first != again:
            _warn_of_chance(items, index)
            prints = {}
            break
        prints[str(index)] = first
    return _summary(items) | {"read": prints}


@_one_thread()
def check_all_items(items: UniformDataset, classes: Sequence[str]) -> Fingerprint:
    """Look at every item of a set to validate with, which each validation reads.

    Args:
        items: The set.
        classes: Names, background first; the regions of multi-label items.

    Returns:
        As ``check_some_items`` does; one hash for all items.

    Raises:
        DataError: no item, one of another form, or labels outside the classes; names it.
        RunError: no item has any foreground, so that there is no Dice to choose by.
    """
    if not len(items):
        raise DataError(f"the {items.what} set is empty.", hint="val=None trains without validation")
    digest, foreground, seeded = hashlib.sha256(), False, Seeded(_copied(items.dataset), 0)
    for index in range(len(items)):
        image, label = items.checked(seeded[(0, index)], index)
        digest.update(_print(image, label).encode())
        foreground = foreground or bool(((label > 0) & (label != items.ignore_index)).any())
    if not foreground:
        raise RunError(
            f"the {items.what} set has no foreground: none of its {len(items)} items holds "
            f"{_listed(classes if items.multilabel else classes[1:])}, so that "
            "there is no Dice to choose the best network by.",
            hint="other validation items; or val=None, which trains without validation",
        )
    first = _print(*_read(items, 0))
    if first != _print(*_read(items, 0)):
        return _summary(items) | {"read": {}}
    return _summary(items) | {"read": {"all": digest.hexdigest()}}


def check_same_data(
    before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint], folder: Path, accept: bool
) -> None:
    """Check that a run goes on with the data it was started with.

    Args:
        before: What ``check_some_items`` and ``check_all_items`` returned then, by the name of the set.
        now: What they return now. A validation set may be added or dropped at a restart: training does not depend on
            it.
        folder: The run folder.
        accept: Go on with other data.

    Raises:
        RunError: a set has changed.
    """
    sets = [what for what in {**before, **now} if what != "validation" or what in before.keys() & now.keys()]
    found = [line for what in sets for line in _changes(what, before.get(what), now.get(what))]
    if found and not accept:
        raise data_changed(folder, found)


def data_changed(folder: Path, found: Sequence[str]) -> RunError:
    """Make the error for a run whose data are others than they were."""
    return RunError(
        f"the data have changed since the run in {folder} was started; its result would be of neither.",
        seen=list(found),
        hint=[
            "the data as they were; or another folder, to start again with these",
            "other_data=True   (lomix run … --resume search.other_data=true) to go on all the same",
        ],
    )


# -- small parts -------------------------------------------------------------------------------------------------------


def _read(items: UniformDataset, index: int) -> Item:
    """Read an item in a way that moves nothing: neither random states nor what a dataset notes of itself."""
    raw = Seeded(_copied(items.dataset), 0)[(0, index)]
    return items.checked(raw, index)


def _copied(dataset: Any) -> Any:
    """Return a shallow copy, with lists and dictionaries of its own, in which a dataset may note what it read."""
    try:
        other = copy.copy(dataset)
        for name, value in vars(other).items():
            if type(value) in (list, dict, set):
                setattr(other, name, copy.copy(value))
    except Exception:  # whatever a dataset that cannot be copied raises
        return dataset
    return other


def _print(image: Tensor, label: Tensor) -> str:
    """Hash an item. An image with NaN or infinite values says nothing about the data; its hash is marked."""
    image, label = image.contiguous(), label.contiguous()
    digest = hashlib.sha256(f"{image.dtype} {tuple(image.shape)} {tuple(label.shape)}".encode())
    if bool(image.isfinite().all()):
        digest.update(image.view(torch.uint8).numpy().tobytes())
    digest.update(label.numpy().tobytes())
    return digest.hexdigest()[:16] + ("" if bool(image.isfinite().all()) else " not finite")


def _summary(items: UniformDataset) -> dict[str, Any]:
    names = json.dumps([case_of(items, i) for i in range(len(items))])
    return {"items": len(items), "cases": hashlib.sha256(names.encode()).hexdigest()[:16]}


def _changes(what: str, before: Fingerprint | None, now: Fingerprint | None) -> Iterator[str]:
    if before is None or now is None:
        yield f"{what} set: {'one' if before else 'none'} before, {'one' if now else 'none'} now"
    elif before["items"] != now["items"]:
        yield f"{what} set: {before['items']} items before, {now['items']} now"
    elif before["cases"] != now["cases"]:
        yield f"{what} set: the items are of other cases"
    else:
        known = {key: one for key, one in before["read"].items() if key in now["read"] and "not" not in one}
        other = [key for key, one in known.items() if "not" not in now["read"][key] and now["read"][key] != one]
        if other:
            where = "some items" if other == ["all"] else f"item {', '.join(other)}"
            yield f"{what} set: {where} came out differently"


def _warn_of_chance(items: UniformDataset, index: int) -> None:
    warnings.warn(
        f"{items.what} item {index} came out differently when it was read twice with the same seed: the data set draws "
        "from a random generator that cannot be seeded, because it is made anew while an item is read, or lies outside "
        "of what the data set holds. The run will not repeat, nor resume bit for bit. Draw from the global generators "
        "of python, numpy or torch, or keep the generator as an attribute.",
        stacklevel=4,
    )


def _check_labels_at_hand(items: UniformDataset) -> None:
    """Check the labels that lie in memory and that no wrapper can change."""
    if items.num_classes is None:
        return
    for index in range(len(items)):
        label = _at_hand(items, index)
        if label is None:
            return
        if label.dtype.kind in "iub":
            name = f"{items.what} item {index}"
            if items.multilabel:
                check_masks(label, items.num_classes, name, items.ignore_index)
            else:
                check_label(label, max(2, items.num_classes), name, items.ignore_index)


def _at_hand(items: UniformDataset, index: int) -> NDArray[Any] | None:
    for source, number in sources(items, index):
        if type(source) in (UniformDataset, Subset, ConcatDataset):
            continue
        if isinstance(source, Slices) and isinstance(source.labels, np.ndarray):
            at_hand = not source.regions and not isinstance(source.labels, np.memmap)
            return source.labels[number] if at_hand else None
        if type(source) is TensorDataset and len(source.tensors) == 2 and source.tensors[1].device.type == "cpu":
            return source.tensors[1][number].numpy()
        return None
    return None


def _listed(classes: Sequence[str]) -> str:
    named = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
    return named if len(classes) == 1 else f"any of {named}"


def _spread(number: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, number - 1, min(_SAMPLES, number))}) if number else []
