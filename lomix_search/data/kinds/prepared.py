"""Data that ``lomix prepare`` has written: slices for training, whole cases for evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from lomix_search.data.augment import augmentation
from lomix_search.data.dataset import Augment, Item, Slices, Splits, Truth
from lomix_search.data.manifest import Entry, Manifest, check_file, check_size, read_manifest
from lomix_search.data.readers.volumes import Case
from lomix_search.data.split import Plan, Split, make_split
from lomix_search.errors import DataError, nearest
from lomix_search.utils.schema import Frozen

Array = NDArray[Any]
Share = Annotated[float, Field(ge=0, lt=1)]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for networks pretrained on it


class Settings(Frozen):
    """Keys of ``[data]`` for this kind.

    Args:
        root: Folder that ``lomix prepare`` wrote; relative to the recipe if it is there, else to the current one.
        classes: Names of the foreground classes, in the order of their numbers 1, 2, …; the rest is background.
        split: A split file beside the recipe; ``"random"`` draws one by patient.
        size: Rows and columns; must be what was prepared.
        augment: Augmentation of the training slices.
        normalize: ``imagenet`` for RGB networks pretrained there; none leaves 0 … 1.
        seed: Of drawn splits and subsets.
        val_fraction: Share of training patients to validate on, where the split file names none.
        test_fraction: Share of patients to test on, for a random split.
        folds: k of k-fold cross-validation.
        fold: Which fold validates, from 0.
        label_fraction: Share of the training patients to use, in nested subsets.
        leave_out: Test on this patient alone and train on all others.
    """

    root: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    split: str = "random"
    size: Annotated[int, Field(ge=16)] | None = None
    augment: Literal["none", "paper", "chest_ct"] = "paper"
    normalize: Literal["none", "imagenet"] = "none"
    seed: Annotated[int, Field(ge=0)] = 0
    val_fraction: Share = 0.1
    test_fraction: Share = 0.1
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    leave_out: str = ""

    @field_validator("classes")
    @classmethod
    def _of_one_name(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in classes if name == "background" or classes.count(name) > 1}):
            raise ValueError(f"{', '.join(map(repr, twice))} is there twice; each class needs a name of its own")
        return classes

    def plan(self) -> Plan:
        """Return how to split."""
        file = None if self.split == "random" else Path(self.split)
        drawn = (self.seed, self.val_fraction, self.test_fraction, self.folds, self.fold)
        return Plan(file, *drawn, self.label_fraction, self.leave_out)


def load(settings: Settings, ignore_index: int | None = None) -> Splits:
    """Open prepared data; nothing is read before it is needed.

    Args:
        settings: Keys of ``[data]``.
        ignore_index: As the recipe's ``[loss]`` has it. Above the class numbers it is a raw label value, whose pixels
            keep it; else the number of a class.

    Returns:
        Slices of the training size for the three sets, and whole cases of ``val`` and ``test`` at native size.

    Raises:
        DataError: not prepared, prepared at another size, without one of the classes, or the split does not fit.
    """
    manifest = read_manifest(settings.root)
    table, split = class_table(manifest, settings.classes, ignore_index), make_split(manifest.cases, settings.plan())
    if settings.size not in (None, manifest.size):
        raise DataError(
            f"{settings.root} was prepared at {manifest.size} × {manifest.size}, and the recipe wants {settings.size}.",
            hint=f"lomix prepare {manifest.benchmark} RAW {settings.root} --size {settings.size}",
        )
    opened = Opened(Path(settings.root), manifest, table, settings.normalize, ignore_index)
    classes = ("background", *settings.classes)
    train = opened.slices(split.train, len(classes), settings.augment)
    val, test = (opened.slices(names, len(classes), "none") for names in (split.val, split.test))
    volumes = {"val": Cases(opened, split.val), "test": Cases(opened, split.test)}
    return Splits(train, val, test, classes, manifest.cases[0].shape[1], volumes=volumes)


def splits_of(settings: Settings) -> tuple[Manifest, Split]:
    """Return what was prepared and who belongs where, without opening any array.

    Args:
        settings: Keys of ``[data]``.

    Returns:
        The manifest and the split.

    Raises:
        DataError: as :func:`load`.
    """
    manifest = read_manifest(settings.root)
    return manifest, make_split(manifest.cases, settings.plan())


@dataclass(frozen=True)
class ClassTable:
    """The class number of each raw label value; values without a class are background.

    Args:
        values: Raw values of classes 1, 2, …
        ignored: Raw value that stays what it is, because its pixels count nowhere.
    """

    values: tuple[int, ...]
    ignored: int | None = None

    def __getitem__(self, label: Any) -> Any:
        """Return the class numbers of raw labels (integers of any type), in the smallest type that holds them."""
        label = np.asarray(label)
        if label.dtype in (np.uint8, np.uint16):
            return self._narrow[label]
        numbers = np.zeros(label.shape, self._narrow.dtype)
        for number, value in self._pairs:
            numbers[label == value] = number
        return numbers

    @cached_property
    def _narrow(self) -> Array:
        """Class numbers of all labels of 16 bits."""
        table = np.zeros(2**16, np.min_scalar_type(max(number for number, _ in self._pairs)))
        for number, value in self._pairs:
            if value < len(table):
                table[value] = number
        return table

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        """(class number, raw value) of what is not background."""
        kept = [] if self.ignored is None else [(self.ignored, self.ignored)]
        return [*enumerate(self.values, 1), *kept]


def class_table(manifest: Manifest, classes: Sequence[str], ignore_index: int | None = None) -> ClassTable:
    """Return the class number of each raw label value.

    Args:
        manifest: Names the raw values.
        classes: Names of classes 1, 2, …
        ignore_index: As :func:`load`.

    Returns:
        What is indexed with raw labels.

    Raises:
        DataError: a class that the data does not have, or a name that means two classes or two labels.
    """
    value_of = {name: value for value, name in manifest.labels.items()}
    if missing := [name for name in classes if name not in value_of]:
        raise DataError(
            f"the prepared {manifest.benchmark} data has no label {missing[0]!r}. {nearest(missing[0], value_of)}",
            hint="data.classes = [" + ", ".join(f'"{name}"' for name in value_of) + "]",
        )
    for what, names in (
        ("data.classes", classes),
        ("the prepared data", [n for n in manifest.labels.values() if n in classes]),
    ):
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise DataError(f"{what} names {twice[0]!r} twice; a name means one class.", seen=", ".join(names))
    values = tuple(value_of[name] for name in classes)
    ignored = ignore_index if ignore_index is not None and ignore_index > len(classes) else None
    if ignored in values:
        raise DataError(
            f"label {ignored} is {classes[values.index(ignored)]!r} in data.classes; loss.ignore_index leaves it out.",
            hint="take the name out of data.classes, or loss.ignore_index out of the recipe",
        )
    return ClassTable(values, ignored)


@dataclass(frozen=True)
class Opened:
    """A prepared folder with one recipe's classes and normalisation.

    Args:
        root: The folder.
        manifest: What it holds.
        table: Class number of each raw label value.
        normalize: As in the settings.
        ignore_index: As :func:`load`.
    """

    root: Path
    manifest: Manifest
    table: ClassTable
    normalize: str
    ignore_index: int | None = None

    def slices(self, names: Sequence[str], num_classes: int, augment: str) -> Slices:
        """Return all slices of some cases.

        Args:
            names: Of the cases.
            num_classes: With the background.
            augment: Name of a scheme.

        Returns:
            The slices, case by case.
        """
        folder, size = self.root / "cases", self.manifest.size
        for name in names:
            check_size(folder / name / f"label_{size}.npy", self.entries[name], size)
        index = [(name, z) for name in names for z in range(self.entries[name].shape[0])]
        finish = Finish(augmentation(augment), self.manifest.intensity == "picture", self.normalize)
        hashes = {name: self.entries[name].files for name in names}
        native = Planes(folder, "label.npy", index, hashes, self.table)

        def truth(number: int) -> Truth:
            entry = self.entries[index[number][0]]
            return Truth(torch.from_numpy(np.array(native[number], np.int64)), self._by_corners(entry))

        return Slices(
            Planes(folder, f"image_{size}.npy", index, hashes),
            Planes(folder, f"label_{size}.npy", index, hashes, self.table),
            [name for name, _ in index],
            num_classes=num_classes,
            names=[f"{self.root}: {name}, slice {z}" for name, z in index],
            ignore_index=self.ignore_index,
            augment=finish,
            truths=truth,
        )

    def case(self, name: str) -> Case:
        """Read one whole case at native size.

        Args:
            name: Of the case.

        Returns:
            The case: image float32 as the network takes it, at native size and at that of training, label in class
            numbers.
        """
        entry, folder, size = self.entries[name], self.root / "cases" / name, self.manifest.size
        picture = self.manifest.intensity == "picture"
        finish = Finish(None, picture, self.normalize)
        native, small = (
            finish(torch.from_numpy(np.array(_open(folder / f"{file}.npy", entry.files), np.float32)), torch.zeros(0))[
                0
            ].numpy()
            for file in ("image", f"image_{size}")
        )
        label = self.table[np.asarray(_open(folder / "label.npy", entry.files))]
        corners = self._by_corners(entry)
        written = (entry.spacing, entry.origin, entry.patient)
        return Case(name, native, label, *written, small=small, corners=corners, values=self._values(entry))

    def _by_corners(self, entry: Entry) -> bool:
        """Say whether a case was resized as earlier versions resized volumes, but not pictures."""
        return not entry.resize and self.manifest.intensity != "picture"

    def _values(self, entry: Entry) -> tuple[int, ...]:
        """Return what the raw file writes for class 0, 1, …; binary masks of benchmarks are kept as 0/1."""
        own = {int(label): int(value) for label, value in entry.origin.get("values", ())}
        as_stored = self.manifest.benchmark == "own" and entry.resize
        if "size" in entry.origin and not own and not as_stored and set(self.manifest.labels) == {1}:
            own = {1: 255}
        return tuple(own.get(value, value) for value in (0, *self.table.values))

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """The manifest's entries by name."""
        return {entry.name: entry for entry in self.manifest.cases}


@dataclass(frozen=True)
class Cases(Sequence[Case]):
    """Whole cases, each read when it is asked for.

    Args:
        opened: Where from.
        names: Which.
    """

    opened: Opened
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """Return one case, or the part of the sequence that a slice names."""
        if isinstance(index, slice):
            return replace(self, names=self.names[index])
        return self.opened.case(self.names[index])

    def __iter__(self) -> Iterator[Case]:
        return (self.opened.case(name) for name in self.names)


@dataclass(frozen=True)
class Planes(Sequence[Array]):
    """Slices of many arrays on disk as one sequence.

    Args:
        folder: Holds one folder a case.
        file: The array in each.
        places: (case, slice) of every item.
        hashes: sha256 of the files of each case, by name.
        table: Maps values, where given.
    """

    folder: Path
    file: str
    places: Sequence[tuple[str, int]]
    hashes: Mapping[str, Mapping[str, str]]
    table: ClassTable | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """Read one slice."""
        name, number = self.places[index]
        plane = _open(self.folder / name / self.file, self.hashes[name])[number]
        return plane if self.table is None else self.table[plane]


@dataclass(frozen=True)
class Finish:
    """The last step of an item: augmentation in 0 … 1, then normalisation.

    Args:
        scheme: Augmentation, or None.
        picture: Values are 0 … 255.
        normalize: As in the settings.
    """

    scheme: Augment | None
    picture: bool
    normalize: str

    def __call__(self, image: Tensor, label: Tensor) -> Item:
        """Finish an image (…, C, rows, columns) and its label."""
        image = image / 255 if self.picture else image
        if self.scheme is not None:
            image, label = self.scheme(image, label)
        if self.normalize == "imagenet":
            mean, std = torch.tensor(_MEAN)[:, None, None], torch.tensor(_STD)[:, None, None]
            image = (image - mean) / std
        return image, label


def _open(path: Path, hashes: Mapping[str, str]) -> Array:
    """Map an array into memory; it is read as it is used, after its hash was compared once in this process."""
    return _mapped(str(path), check_file(str(path), hashes.get(path.name, "")))


@lru_cache(maxsize=128)  # one open file each
def _mapped(path: str, state: tuple[int, int, int]) -> Array:
    """Map one state of a file; prepared again, it is another."""
    try:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as cause:
        raise DataError(
            f"{path} cannot be read; the prepared folder was changed or cut short.",
            seen=str(cause),
            hint="run lomix prepare again; it remakes what is missing",
        ) from None
    return mapped
