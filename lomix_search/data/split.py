"""Who is trained on, validated on and tested on: always whole patients, always repeatable.

A split file is TOML with its source beside it::

    source = "where this split comes from"
    train = ["case0005", "train/*", "group:train"]
    val = []                # when left out, a seeded share of the training patients
    test = ["case0001"]

An item is a patient, a case, a pattern of case names, or ``group:`` with the set that the raw folder named.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lomix_search.data.subsets import nested_share
from lomix_search.errors import DataError, nearest
from lomix_search.utils.files import read_toml
from lomix_search.utils.schema import Frozen, build_typed


class Sorted(Protocol):
    """What a split must know of a case: its name, whose it is, and the set that its raw folder named."""

    @property
    def name(self) -> str:
        """Of the case."""
        ...

    @property
    def patient(self) -> str:
        """Whose it is."""
        ...

    @property
    def group(self) -> str:
        """The set that its raw folder named, or empty."""
        ...


class SplitFile(Frozen):
    """A split as written in its file.

    Args:
        source: Where it comes from.
        train: Items to train on.
        val: Items to validate on; empty for a share of the training patients.
        test: Items to test on.
    """

    source: str
    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Names of the cases of each set; no patient is in two.

    Args:
        train: To train on.
        val: To select on.
        test: To report.
        unused: In none of them.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitPlan:
    """How to split.

    Args:
        file: A split file; None draws one by patient.
        seed: Of everything that is drawn.
        val_fraction: Share of training patients to validate on, where the file names none.
        test_fraction: Share of all patients to test on, without a file.
        folds: k of k-fold cross-validation over training and validation patients.
        fold: Which fold validates, from 0; None for no cross-validation.
        label_fraction: Share of the training patients whose labels are used; smaller shares are subsets of larger ones.
        leave_out: Test on this patient and train on all others, whatever the file says.
        items: What a split file says that is not written yet.
    """

    file: Path | None = None
    seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    folds: int = 5
    fold: int | None = None
    label_fraction: float = 1.0
    leave_out: str = ""
    items: SplitFile | None = None


def make_split(entries: Iterable[Sorted], plan: SplitPlan) -> Split:
    """Assign every case to a set.

    Args:
        entries: The prepared cases.
        plan: How.

    Returns:
        The split.

    Raises:
        DataError: a patient in two sets, an item that names nothing, or a set that would be empty.
    """
    cases = {entry.name: entry for entry in entries}
    if plan.leave_out:
        train, val, test = _left_out(cases, plan.leave_out)
    elif plan.items is not None:
        train, val, test = _listed(cases, plan.items, "the split")
    elif plan.file is None:
        train, val, test = _drawn(cases, plan)
    else:
        train, val, test = _listed(cases, read_split(plan.file), str(plan.file))
    if plan.fold is not None:
        train, val = _folded(cases, [*train, *val], plan)
    elif not val:
        train, val = _held_out(cases, train, plan.val_fraction, (plan.seed, 1))
    _check_patients(cases, {"train": train, "val": val, "test": test})
    used = {*train, *val, *test}
    few = _first(cases, train, plan.label_fraction, plan.seed)
    split = Split(tuple(few), tuple(val), tuple(test), tuple(name for name in cases if name not in used))
    for name in ("train", "val"):
        if not getattr(split, name):
            raise DataError(
                f"the {name} set is empty.",
                seen=f"{len(cases)} cases of {len({e.patient for e in cases.values()})} patients",
                hint="more patients, another split file, or data.val_fraction=0.2",
            )
    return split


def read_split(path: Path) -> SplitFile:
    """Read a split file.

    Args:
        path: TOML.

    Returns:
        Its content.

    Raises:
        DataError: no such file, or faults in it.
    """
    return build_typed(SplitFile, read_toml(path, DataError), str(path), DataError)


def _listed(cases: Mapping[str, Sorted], file: SplitFile, path: str) -> tuple[list[str], list[str], list[str]]:
    faults, sets = list[str](), []
    for items in (file.train, file.val, file.test):
        found = {item: _matching(cases, item) for item in items}
        faults += [item for item, names in found.items() if not names]
        sets.append(sorted({name for names in found.values() for name in names}))
    if faults:
        more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise DataError(
            f"{path}: {len(faults)} of its items are not in the prepared data.",
            seen=", ".join(faults[:8]) + more,
            hint="prepare the missing files, or take a split of your own: lomix cp the recipe and edit split.toml",
        )
    return sets[0], sets[1], sets[2]


def _matching(cases: Mapping[str, Sorted], item: str) -> list[str]:
    if item.startswith("group:"):
        return [name for name, entry in cases.items() if entry.group == item.removeprefix("group:")]
    if item in cases:
        return [item]
    of_patient = [name for name, entry in cases.items() if entry.patient == item]
    return of_patient or fnmatch.filter(cases, item)


def _drawn(cases: Mapping[str, Sorted], plan: SplitPlan) -> tuple[list[str], list[str], list[str]]:
    train, test = _held_out(cases, list(cases), plan.test_fraction, (plan.seed, 0))
    share = min(0.9, plan.val_fraction / max(1e-9, 1 - plan.test_fraction))  # of all patients, not of those left
    train, val = _held_out(cases, train, share, (plan.seed, 1))
    return train, val, test


def _left_out(cases: Mapping[str, Sorted], patient: str) -> tuple[list[str], list[str], list[str]]:
    patients = {entry.patient for entry in cases.values()}
    if patient not in patients:
        raise DataError(f'leave_out = "{patient}": no such patient. {nearest(patient, patients)}')
    others = [name for name, entry in cases.items() if entry.patient != patient]
    return others, [], [name for name in cases if name not in set(others)]


def _held_out(
    cases: Mapping[str, Sorted], names: Sequence[str], fraction: float, seed: tuple[int, int]
) -> tuple[list[str], list[str]]:
    """Split off a share of the patients, at least one if the share is not 0."""
    patients = _shuffled(cases, names, seed)
    count = 0 if fraction == 0 else max(1, round(fraction * len(patients)))
    held = set(patients[:count])
    return [n for n in names if cases[n].patient not in held], [n for n in names if cases[n].patient in held]


def _folded(cases: Mapping[str, Sorted], names: Sequence[str], plan: SplitPlan) -> tuple[list[str], list[str]]:
    patients = _shuffled(cases, names, (plan.seed, 2))
    if not (plan.fold is not None and 0 <= plan.fold < plan.folds <= len(patients)):
        raise DataError(
            f"fold {plan.fold} of {plan.folds}: folds count from 0, and there are {len(patients)} patients.",
            hint="data.folds=5 data.fold=0",
        )
    held = set(patients[plan.fold :: plan.folds])
    return [n for n in names if cases[n].patient not in held], [n for n in names if cases[n].patient in held]


def _first(cases: Mapping[str, Sorted], names: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Keep the cases of a share of the patients, at least one; smaller shares are subsets of larger ones."""
    kept = nested_share(sorted({cases[name].patient for name in names}), fraction, (seed, 3))
    return [name for name in names if cases[name].patient in kept]


def _shuffled(cases: Mapping[str, Sorted], names: Iterable[str], seed: tuple[int, int]) -> list[str]:
    patients = sorted({cases[name].patient for name in names})
    return [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]


def _check_patients(cases: Mapping[str, Sorted], sets: Mapping[str, Sequence[str]]) -> None:
    where: dict[str, set[str]] = {}
    for name, members in sets.items():
        for member in members:
            where.setdefault(cases[member].patient, set()).add(name)
    if twice := {patient: found for patient, found in where.items() if len(found) > 1}:
        raise DataError(
            f"{len(twice)} patients are in two sets; what is learned from one would be tested on itself.",
            seen=[f"{patient}: {', '.join(sorted(found))}" for patient, found in list(twice.items())[:8]],
            hint="name each patient in one of train, val and test",
        )
