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
from lomix_search.data.dataset import Augment, Item, Slices, Splits
from lomix_search.data.manifest import Entry, Manifest, read_manifest
from lomix_search.data.split import Plan, Split, make_split
from lomix_search.data.volumes import Case
from lomix_search.errors import DataError, nearest
from lomix_search.typed import Frozen

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


def load(settings: Settings) -> Splits:
    """Open prepared data; nothing is read before it is needed.

    Args:
        settings: Keys of ``[data]``.

    Returns:
        Slices of the training size for the three sets, and whole cases of ``val`` and ``test`` at native size.

    Raises:
        DataError: not prepared, prepared at another size, without one of the classes, or the split does not fit.
    """
    manifest = read_manifest(settings.root)
    table, split = class_table(manifest, settings.classes), make_split(manifest.cases, settings.plan())
    if settings.size not in (None, manifest.size):
        raise DataError(
            f"{settings.root} was prepared at {manifest.size} × {manifest.size}, and the recipe wants {settings.size}.",
            hint=f"lomix prepare {manifest.benchmark} RAW {settings.root} --size {settings.size}",
        )
    opened = Opened(Path(settings.root), manifest, table, settings.normalize)
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


def class_table(manifest: Manifest, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return the class number of each raw label value.

    Args:
        manifest: Names the raw values.
        classes: Names of classes 1, 2, …

    Returns:
        256 class numbers; labels without a class are background.

    Raises:
        DataError: a class that the data does not have.
    """
    value_of = {name: value for value, name in manifest.labels.items()}
    if missing := [name for name in classes if name not in value_of]:
        raise DataError(
            f"the prepared {manifest.benchmark} data has no label {missing[0]!r}. {nearest(missing[0], value_of)}",
            hint="data.classes = [" + ", ".join(f'"{name}"' for name in value_of) + "]",
        )
    table = np.zeros(256, np.uint8)
    table[[value_of[name] for name in classes]] = np.arange(1, len(classes) + 1)
    return table


@dataclass(frozen=True)
class Opened:
    """A prepared folder with one recipe's classes and normalisation.

    Args:
        root: The folder.
        manifest: What it holds.
        table: Class number of each raw label value.
        normalize: As in the settings.
    """

    root: Path
    manifest: Manifest
    table: NDArray[np.uint8]
    normalize: str

    def slices(self, names: Sequence[str], num_classes: int, augment: str) -> Slices:
        """Return all slices of some cases.

        Args:
            names: Of the cases.
            num_classes: With the background.
            augment: Name of a scheme.

        Returns:
            The slices, case by case.
        """
        index = [(name, z) for name in names for z in range(self.entries[name].shape[0])]
        folder, size = self.root / "cases", self.manifest.size
        finish = Finish(augmentation(augment), self.manifest.intensity == "picture", self.normalize)
        return Slices(
            Planes(folder, f"image_{size}.npy", index),
            Planes(folder, f"label_{size}.npy", index, self.table),
            [name for name, _ in index],
            num_classes=num_classes,
            names=[f"{self.root}: {name}, slice {z}" for name, z in index],
            augment=finish,
        )

    def case(self, name: str) -> Case:
        """Read one whole case at native size.

        Args:
            name: Of the case.

        Returns:
            The case: image float32 as the network takes it, label in class numbers.
        """
        entry, folder = self.entries[name], self.root / "cases" / name
        image = np.asarray(_open(str(folder / "image.npy")))
        finish = Finish(None, self.manifest.intensity == "picture", self.normalize)
        finished = finish(torch.from_numpy(image.astype(np.float32)), torch.zeros(0))[0].numpy()
        label = self.table[np.asarray(_open(str(folder / "label.npy")))]
        return Case(name, finished, label, entry.spacing, entry.origin, entry.patient)

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
        table: Maps values, where given.
    """

    folder: Path
    file: str
    places: Sequence[tuple[str, int]]
    table: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """Read one slice."""
        name, number = self.places[index]
        plane = _open(str(self.folder / name / self.file))[number]
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


def _open(path: str) -> Array:
    """Map an array into memory; it is read as it is used. A file that was prepared anew is mapped anew."""
    try:
        now = Path(path).stat()
        return _mapped(path, (now.st_ino, now.st_mtime_ns, now.st_size))
    except (OSError, ValueError) as cause:
        raise DataError(
            f"{path} cannot be read; the prepared folder was changed or cut short.",
            seen=str(cause),
            hint="run lomix prepare again; it remakes what is missing",
        ) from None


@lru_cache(maxsize=128)  # one open file each
def _mapped(path: str, identity: tuple[int, int, int]) -> Array:
    mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
