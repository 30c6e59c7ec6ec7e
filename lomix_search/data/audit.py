"""What is odd about a dataset as a whole: cases that are constant, empty, there twice, or lack a class."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.dataset import Slices
from lomix_search.data.manifest import READERS, Entry
from lomix_search.errors import DataError

_LINES = 8  # of cases that are there twice; more would hide the rest


@dataclass(frozen=True)
class CaseFacts:
    """What one case holds.

    Args:
        name: Of the case.
        part: The set that it is in.
        classes: Class numbers that its label holds; 0 is the background. Of regions, their number and one.
        images: Hashes of its images, by what to call each; those of one value are left out.
        labels: Hashes of its labels likewise.
        constant: Its images have one value each.
        alike: An image and its label are the same picture with other numbers.
    """

    name: str
    part: str
    classes: frozenset[int]
    images: Mapping[str, str]
    labels: Mapping[str, str]
    constant: bool = False
    alike: bool = False

    @property
    def called(self) -> str:
        """Its name and set, for a line of text."""
        return f"{self.name} ({self.part})"

    def and_(self, other: "CaseFacts") -> "CaseFacts":
        """Return what both hold, as one case."""
        return CaseFacts(
            self.name,
            self.part,
            self.classes | other.classes,
            {**self.images, **other.images},
            {**self.labels, **other.labels},
            self.constant and other.constant,
            self.alike or other.alike,
        )


@dataclass(frozen=True)
class Tally:
    """How many pixels a set holds.

    Args:
        of_class: Of each class, the background first; of overlapping regions, those outside of all regions first.
        counted: All that count.
    """

    of_class: Array
    counted: int


def audit(cases: Sequence[CaseFacts], classes: Sequence[str], noun: str = "class") -> list[str]:
    """Say what is odd.

    Args:
        cases: Of all sets.
        classes: Names by class number, or of regions; the background first.
        noun: What to call one of them: ``class``, ``region``.

    Returns:
        One line a kind of finding, with the names of the cases.
    """
    odd = {
        "the image has one value; nothing can be seen in it": [c.called for c in cases if c.constant],
        "image and label are one picture; there is nothing to learn": [c.called for c in cases if c.alike],
        "the label is empty": [c.called for c in cases if not c.classes - {0}],
    }
    found = [f"{_named(names)}: {what}." for what, names in odd.items() if names]
    filled = [c for c in cases if c.classes - {0}]
    for number, name in list(enumerate(classes))[1:]:
        lacking = [c.called for c in filled if number not in c.classes]
        if len(lacking) == len(filled):
            found.append(f"{noun} {name!r} is in no case of any set.")
        elif lacking and len(classes) > 2:
            found.append(f"{noun} {name!r} is lacking in {len(lacking)} of {len(cases)} cases: {_named(lacking)}.")
    return [*found, *_twice(cases)]


def facts_of_entry(
    entry: Entry, part: str, root: Path, numbers_of: Callable[[int], frozenset[int]], look: bool = True
) -> CaseFacts:
    """Return what a prepared case holds.

    Args:
        entry: Of the manifest.
        part: The set that it is in.
        root: The prepared folder.
        numbers_of: Class numbers of a raw label value; of overlapping regions, several.
        look: Open its arrays; otherwise only what the manifest says is known.

    Returns:
        The facts.
    """
    numbers = frozenset[int]().union(*(numbers_of(value) for value in entry.labels))
    image, label = (_mapped(root / "cases" / entry.name / f"{of}.npy") if look else None for of in ("image", "label"))
    constant = image is not None and _constant(image)
    images = {} if constant else {entry.name: entry.files.get("image.npy", "")}
    labels = {entry.name: entry.files.get("label.npy", "")} if len(entry.labels) > 1 else {}
    alike = image is not None and label is not None and not constant and _alike(image, label)
    return CaseFacts(entry.name, part, numbers, images, labels, constant, alike)


def facts_of_items(part: Slices, name: str, classes: int) -> tuple[list[CaseFacts], Tally, list[str]]:
    """Read every item of a set once, without augmentation.

    Args:
        part: The set.
        name: train, val or test.
        classes: Number of names: the background and every class, or every region.

    Returns:
        CaseFacts of each case, pixels of each class, and the first line of every error.
    """
    plain, tally, faults = copy.copy(part), Tally(np.zeros(classes, np.int64), 0), []
    plain.augment = None
    facts: dict[str, CaseFacts] = {}
    for index in range(len(plain)):
        try:
            image, masks = (tensor.numpy() for tensor in plain[index])
        except DataError as error:
            faults.append(str(error).splitlines()[0])
            continue
        found = _tally(masks, classes, part)
        tally, counts = Tally(tally.of_class + found.of_class, tally.counted + found.counted), found.of_class
        label = (masks == 1).sum(0) if part.multilabel else masks
        numbers, called = frozenset(np.flatnonzero(counts).tolist()), part.names[index]
        constant = _constant(image[None])
        images = {} if constant else {called: _hash(image)}
        labels = {called: _hash(masks)} if np.ptp(label) else {}
        one = CaseFacts(part.case(index), name, numbers, images, labels, constant, _alike(image[None], label[None]))
        facts[one.name] = facts[one.name].and_(one) if one.name in facts else one
    return list(facts.values()), tally, faults


def _tally(label: Array, classes: int, part: Slices) -> Tally:
    """Count the pixels of a label, or of the masks of a multi-label item."""
    if part.multilabel:
        inside, counted = (label == 1).reshape(len(label), -1), label[0] != part.ignore_index
        outside = int(counted.sum() - inside.any(0).sum())
        return Tally(np.array([outside, *inside.sum(1)], np.int64), int(counted.sum()))
    counts = np.bincount(label[label >= 0].ravel(), minlength=classes)[:classes]
    return Tally(counts, int(counts.sum()))


def old_entries(entries: Iterable[Entry]) -> list[str]:
    """Say which cases were prepared by an earlier version, or have no checksum.

    Args:
        entries: Of a manifest.

    Returns:
        At most one line of each kind.
    """
    known = sorted(entries, key=lambda entry: entry.name)
    bare = [e.name for e in known if not {"image.npy", "label.npy"} <= set(e.files)]
    old = [e.name for e in known if e.reading.partition(" ")[0] != READERS]
    lines = (
        [f"{_named(bare)}: no checksum of the arrays is on file; a damaged file would not be noticed."] if bare else []
    )
    if old:
        lines.append(
            f"{_named(old)}: prepared by an earlier version, which read some files in another way; "
            "lomix prepare into the same folder makes these cases again."
        )
    return lines


def _twice(cases: Sequence[CaseFacts]) -> list[str]:
    """Say which images, and which labels of different images, are there more than once."""
    lines = []
    for images in _groups((c, c.images) for c in cases):
        owners = {c.name: c for c, _ in images}
        parts = {c.part for c in owners.values()}
        if len(owners) < 2 and len(parts) < 2:
            continue
        where = ", ".join(f"{name} ({c.part})" for c, name in images[:5])
        where += f" and {len(images) - 5} more" if len(images) > 5 else ""
        told = "what is learned from one is tested on the other" if len(parts) > 1 else "one counts twice"
        lines.append(f"{where} have the same image; {told}.")
    of_image = {name: digest for c in cases for name, digest in c.images.items()}
    for labels in _groups((c, c.labels) for c in cases):
        names = [name for _, name in labels]
        if len({c.name for c, _ in labels}) > 1 and len({of_image.get(name) for name in names}) > 1:
            lines += [f"{_named(names)}: different images have the same label, to the pixel."]
    more = [f"and {len(lines) - _LINES} more of the same content"] if len(lines) > _LINES else []
    return [*lines[:_LINES], *more]


def _groups(pairs: Iterable[tuple[CaseFacts, Mapping[str, str]]]) -> list[list[tuple[CaseFacts, str]]]:
    found: dict[str, list[tuple[CaseFacts, str]]] = {}
    for case, hashes in pairs:
        for name, digest in hashes.items():
            if digest:
                found.setdefault(digest, []).append((case, name))
    return [members for members in found.values() if len(members) > 1]


def _mapped(path: Path) -> Array | None:
    """Return an array on disk; None where it cannot be read, which the hashes tell."""
    try:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return mapped


def _constant(image: Array) -> bool:
    """Whether each channel of (slices, channels, …) has one value; ends at the first slice that has two."""
    first = image[0].reshape(image.shape[1], -1)[:, :1]
    return all(bool((plane.reshape(len(first), -1) == first).all()) for plane in image)


def _alike(image: Array, label: Array) -> bool:
    """Whether in the slice with most label every value of the image stands for one of the label, and the reverse."""
    number = max(range(len(label)), key=lambda n: int(np.count_nonzero(label[n])))
    first, second = np.asarray(image[number, 0]).ravel(), np.asarray(label[number]).ravel()
    values = np.unique(second)
    if len(values) < 2 or len(np.unique(first[: 1 << 12])) > len(values):
        return False
    pairs = np.unique(np.stack([first.astype(float), second.astype(float)]), axis=1)
    return bool(pairs.shape[1] == len(values) == len(np.unique(first)))


def _hash(values: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes() + str(values.shape).encode()).hexdigest()


def _named(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
