"""``lomix validate``: everything that can be known about a recipe before an hour is spent on it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Group
from torch import nn

from lomix_search.data.audit import audit, facts_of_entry, facts_of_items, old_entries
from lomix_search.data.block_fit import BlockFit
from lomix_search.data.dataset import Slices, Splits
from lomix_search.data.kinds.class_table import PreparedLabels
from lomix_search.data.kinds.prepared import PreparedSettings, block_fit_of, measured_outside, splits_of
from lomix_search.data.manifest import Entry, verify
from lomix_search.data.split import Split
from lomix_search.errors import DataError, LomixError, LossError
from lomix_search.instrumentation.outputs import channels_for, reader_of
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.terminal import Table, plain

_RARE = 0.0005  # share of pixels below which a class hardly trains
_FLAT = 4.0  # slice distance over pixel size above which 3D networks suffer


@dataclass(frozen=True)
class SetRow:
    """What one set holds.

    Args:
        name: train, val or test.
        cases: Number of cases.
        patients: Number of patients.
        slices: Number of slices.
    """

    name: str
    cases: int
    patients: int
    slices: int


@dataclass(frozen=True)
class ClassRow:
    """How much of one class the training and test data hold.

    Args:
        name: The class.
        pixels: Share of the training pixels.
        cases: Training cases that have it.
        test_cases: Test cases that have it.
    """

    name: str
    pixels: float
    cases: int
    test_cases: int


@dataclass(frozen=True)
class RecipeFindings:
    """What was found in a recipe and its data.

    Args:
        recipe: Its name.
        sets: Train, val, test.
        classes: All classes, the background first; or all regions, which may overlap.
        spacing: Smallest and largest spacing in mm, by axis, and that of training, in words; empty where unknown.
        warnings: What is unusual and may be meant so.
        faults: What cannot be right.
        multilabel: The classes are regions that may overlap.
        padding: How many training volumes are smaller than a block, in words; empty where none is.
    """

    recipe: str
    sets: tuple[SetRow, ...]
    classes: tuple[ClassRow, ...]
    spacing: str
    warnings: tuple[str, ...]
    faults: tuple[str, ...]
    multilabel: bool = False
    padding: str = ""

    def check(self) -> None:
        """Raise if anything cannot be right.

        Raises:
            DataError: all faults, one a line.
        """
        if self.faults:
            count = f"{len(self.faults)} fault{'s' if len(self.faults) > 1 else ''}"
            raise DataError("\n".join([f"{self.recipe} has {count}.", *(f"  {fault}" for fault in self.faults)]))

    def __rich__(self) -> Group:
        """Lay out sets, classes, spacing and warnings; the faults are what ``check`` tells."""
        sets = Table("set", "cases", "patients", "slices", title=self.recipe, title_justify="left")
        for row in self.sets:
            sets.add_row(row.name, *(str(value) for value in (row.cases, row.patients, row.slices)))
        classes = Table("region" if self.multilabel else "class", "training pixels", "training cases", "test cases")
        for c in self.classes:
            classes.add_row(c.name, f"{c.pixels:.3%}", str(c.cases), str(c.test_cases))
        spacing = [f"spacing: {self.spacing}"] if self.spacing else []
        spacing += [f"padding: {self.padding}"] if self.padding else []
        words = [*spacing, *(f"warning: {w}" for w in self.warnings)]
        return Group(sets, classes, *map(plain, words if words or self.faults else ["no fault"]))


def validate_recipe(recipe: Recipe, *, hashes: bool = True, network: bool = True) -> RecipeFindings:
    """Check files, splits, labels, spacing, class balance, and that the network takes the images.

    Args:
        recipe: The recipe.
        hashes: Open every prepared file and compare it with its sha256 (about a second a gigabyte).
        network: Build the network and run it on one image.

    Returns:
        What was found.

    Raises:
        LomixError: the data cannot be opened.
    """
    splits = recipe.build_data()
    if recipe.data.kind == "prepared":
        found = _of_prepared(recipe, PreparedSettings.model_validate(recipe.data.settings), hashes, splits)
    else:
        found = _of_items(recipe.name, splits)
    faults = [*found.faults, *(_network_faults(recipe, splits) if network else [])]
    warnings = [*found.warnings, *_balance(found.classes, found.sets, _noun(splits))]
    return replace(found, warnings=tuple(warnings), faults=tuple(faults), multilabel=splits.multilabel)


def data_notes(recipe: Recipe) -> list[str]:
    """Return what is to be known of a recipe's data before it is trained on them, one line each."""
    prepared = recipe.data.kind == "prepared"
    return _outside(PreparedSettings.model_validate(recipe.data.settings)) if prepared else []


def _outside(settings: PreparedSettings) -> list[str]:
    return [found] if (found := measured_outside(settings)) else []


def check_blocks(recipe: Recipe) -> None:
    """Refuse to train on blocks that are larger than every volume, before anything is trained.

    Args:
        recipe: The recipe.

    Raises:
        DataError: they are, along an axis that is named; or the data cannot be opened.
    """
    if recipe.data.kind == "prepared":
        fit = block_fit_of(PreparedSettings.model_validate(recipe.data.settings), recipe.loss.ignore_index)
        if fit is not None:
            fit.check("data.size=")


def _of_prepared(recipe: Recipe, settings: PreparedSettings, hashes: bool, splits: Splits) -> RecipeFindings:
    """Read what the manifest tells; arrays are opened for their hashes, and to find images of one value."""
    manifest, split = splits_of(settings)
    entries = {entry.name: entry for entry in manifest.cases}
    sets = {key: [entries[case] for case in getattr(split, key)] for key in ("train", "val", "test")}
    labels = settings.labels(manifest, recipe.loss.ignore_index)
    facts = [
        facts_of_entry(e, key, Path(settings.root), labels.numbers, hashes) for key, of in sets.items() for e in of
    ]
    rows = tuple(_set_row(key, members) for key, members in sets.items())
    classes = _class_rows(labels, sets["train"], sets["test"])
    used = [entry for members in sets.values() for entry in members]
    faults = [*verify(settings.root)] if hashes else []
    faults += [] if sets["test"] else ["the test set is empty"]
    fit = block_fit_of(settings, recipe.loss.ignore_index)
    faults += [fault] if (fault := _fault_of(fit)) else []
    warnings = [
        *_outside(settings),
        *_split_warnings(split, used),
        *old_entries(used),
        *audit(facts, labels.named, _noun(splits)),
    ]
    padding = fit.words if fit is not None else ""
    spacing = _spacing(used, manifest.preparation.spacing)
    return RecipeFindings(recipe.name, rows, classes, spacing, tuple(warnings), tuple(faults), padding=padding)


def _fault_of(fit: BlockFit | None) -> str:
    """Return why a size of blocks cannot be meant; empty where it can."""
    try:
        if fit is not None:
            fit.check("data.size=")
    except DataError as error:
        return " ".join(str(error).split())
    return ""


def _set_row(name: str, members: Sequence[Entry]) -> SetRow:
    return SetRow(name, len(members), len({e.patient for e in members}), sum(e.shape[0] for e in members))


def _class_rows(labels: PreparedLabels, train: Sequence[Entry], test: Sequence[Entry]) -> tuple[ClassRow, ...]:
    named = labels.named
    pixels, cases, all_pixels = np.zeros(len(named)), np.zeros((2, len(named)), int), 0
    for part, members in enumerate((train, test)):
        for entry in members:
            of_case = np.zeros(len(named))
            for value, count in entry.labels.items():
                numbers = labels.numbers(value)  # of overlapping regions, several
                of_case[list(numbers)] += count
                all_pixels += count if numbers and not part else 0
            pixels += of_case if not part else 0
            cases[part] += of_case > 0
    share = pixels / max(1, all_pixels)
    rows = [ClassRow(n, float(share[i]), int(cases[0, i]), int(cases[1, i])) for i, n in enumerate(named)]
    return tuple(rows[1:] if labels.regions else rows)


def _of_items(name: str, splits: Splits) -> RecipeFindings:
    """Read every item once and check labels and values on the way."""
    rows, faults, facts, tallies = [], [], {}, {}
    named = ("background", *splits.classes) if splits.multilabel else splits.classes
    for key in ("train", "val", "test"):
        part: Slices = getattr(splits, key)
        facts[key], tallies[key], wrong = facts_of_items(part, key, len(named))
        faults += wrong
        rows.append(SetRow(key, len(set(part.cases)), len(set(part.cases)), len(part)))
    share = tallies["train"].of_class / max(1, tallies["train"].counted)
    having = [[sum(n in c.classes for c in facts[key]) for key in ("train", "test")] for n in range(len(share))]
    classes = [ClassRow(n, float(share[i]), *having[i]) for i, n in enumerate(named)][1 if splits.multilabel else 0 :]
    spacing = " × ".join(f"{s:.3g}" for s in splits.spacing) + " mm" if splits.spacing else ""
    warnings = audit([case for of in facts.values() for case in of], named, _noun(splits))
    return RecipeFindings(name, tuple(rows), tuple(classes), spacing, tuple(warnings), tuple(faults))


def _network_faults(recipe: Recipe, splits: Splits) -> list[str]:
    """Build the network and try it on one image."""
    try:
        network = recipe.build_network().eval()
        image, label = splits.val.example()
        with torch.no_grad():
            logits = reader_of(network)(image[None])
    except LomixError as error:
        first, *rest = str(error).splitlines()
        return ["\n".join([first, *(f"  {line}" for line in rest)])]
    except Exception as error:  # a network of the user's may raise anything
        return [f"network: does not run on {tuple(splits.val.example()[0].shape)}: {type(error).__name__}: {error}"]
    sigmoid = splits.multilabel or logits.shape[1] == 1
    return [*_shape_faults(network, logits, label, splits), *_loss_faults(recipe, logits.shape[1], sigmoid)]


def _loss_faults(recipe: Recipe, channels: int, sigmoid: bool) -> list[str]:
    """Check that the options of the loss fit the number of classes."""
    try:
        recipe.loss.terms.check_classes(channels, sigmoid)
    except LossError as error:
        return [f"loss: {line}" for line in str(error).splitlines()]
    return []


def _shape_faults(network: nn.Module, logits: torch.Tensor, label: torch.Tensor, splits: Splits) -> list[str]:
    name, channels, classes = type(network).__name__, logits.shape[1], len(splits.classes)
    spatial = label.shape[1:] if splits.multilabel else label.shape
    faults = []
    if channels not in channels_for(classes, splits.multilabel):
        what = "regions, one channel each" if splits.multilabel else "classes"
        faults.append(f"network: {name} returns {channels} channels; the data has {classes} {what}.")
    if logits.shape[2:] != spatial:
        faults.append(
            f"network: {name} returns {tuple(logits.shape[2:])} pixels for {tuple(spatial)}; "
            "they are resized in the loss, which costs detail."
        )
    return faults


def _spacing(entries: Iterable[Entry], wanted: Sequence[float]) -> str:
    """Return the spacings that cases come with, and the one that they are brought to."""
    known = np.array([entry.spacing for entry in entries if entry.spacing])
    if not known.size:
        return ""
    low, high = known.min(0), known.max(0)
    axes = (f"{a:.3g}" if f"{a:.3g}" == f"{b:.3g}" else f"{a:.3g}–{b:.3g}" for a, b in zip(low, high, strict=True))
    own, one = " × ".join(axes), " × ".join(f"{a:.3g}" for a in wanted)
    return f"{own} mm" if one in ("", own) else f"{own} mm, brought to {one} mm"


def _split_warnings(split: Split, used: Sequence[Entry]) -> list[str]:
    found = []
    if split.unused:
        found.append(f"{len(split.unused)} prepared cases are in no set: {', '.join(split.unused[:5])} …")
    unknown = [entry.name for entry in used if not entry.spacing and "size" not in entry.origin]
    if unknown:
        found.append(f"{len(unknown)} volumes have no spacing; distances will be in voxels, not millimetres.")
    spacings = np.array([entry.spacing for entry in used if entry.spacing])
    if spacings.size and (spacings.max(0) / spacings.min(0)).max() > 2:
        found.append("spacings differ more than twofold between cases; the same organ comes in different pixel sizes.")
    if spacings.size and np.median(spacings[:, 0] / spacings[:, 2]) > _FLAT:
        found.append("slices lie far apart compared with their pixels: a 2D network sees as much as a 3D one.")
    return found


def _noun(splits: Splits) -> str:
    return "region" if splits.multilabel else "class"


def _balance(classes: Sequence[ClassRow], sets: Sequence[SetRow], noun: str) -> list[str]:
    found = [f"{noun} {c.name!r} is in no training case; it cannot be learned." for c in classes if not c.cases]
    rare = [c for c in classes if c.cases and c.pixels < _RARE]
    found += [
        f"{noun} {c.name!r} fills {c.pixels:.4%} of the training pixels; Dice matters more than CE." for c in rare
    ]
    found += [f"{noun} {c.name!r} is in no test case." for c in classes if not c.test_cases and sets[2].cases]
    if sets[1].patients == 1:
        found.append("one patient validates; what is chosen by it may not hold for others.")
    return found
