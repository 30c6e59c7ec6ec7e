"""A prepared folder's arrays: slices for training, whole cases for evaluation, each read when it is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lomix_search.data.augment import augmentation
from lomix_search.data.case import Array, Case
from lomix_search.data.dataset import Augment, Item, Slices, Truth
from lomix_search.data.kinds.class_table import ClassTable, PreparedLabels
from lomix_search.data.manifest import Entry, Manifest, check_file, check_size
from lomix_search.errors import DataError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for networks pretrained on it


@dataclass(frozen=True)
class PreparedFolder:
    """A prepared folder with one recipe's labels and normalisation.

    Args:
        root: The folder.
        manifest: What it holds.
        labels: What is made of the raw labels.
        normalize: As in the settings.
    """

    root: Path
    manifest: Manifest
    labels: PreparedLabels
    normalize: str

    def slices(self, names: Sequence[str], augment: str) -> Slices:
        """Return all slices of some cases.

        Args:
            names: Of the cases.
            augment: Name of a scheme.

        Returns:
            The slices, case by case.
        """
        folder, size, table = self.root / "cases", self.manifest.size, self.labels.table
        for name in names:
            check_size(folder / name / f"label_{size}.npy", self.entries[name], size)
        index = [(name, z) for name in names for z in range(self.entries[name].shape[0])]
        finish = FinishItem(augmentation(augment), self.manifest.intensity == "picture", self.normalize)
        hashes = {name: self.entries[name].files for name in names}
        native = PreparedSlices(folder, "label.npy", index, hashes, table)

        def truth(number: int) -> Truth:
            entry = self.entries[index[number][0]]
            return Truth(torch.from_numpy(np.array(native[number], np.int64)), self._by_corners(entry))

        return Slices(
            PreparedSlices(folder, f"image_{size}.npy", index, hashes),
            PreparedSlices(folder, f"label_{size}.npy", index, hashes, table),
            [name for name, _ in index],
            num_classes=self.labels.num_classes,
            names=[f"{self.root}: {name}, slice {z}" for name, z in index],
            ignore_index=self.labels.ignore_index,
            augment=finish,
            truths=truth,
            regions=self.labels.regions,
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
        finish = FinishItem(None, picture, self.normalize)
        native, small = (
            finish(
                torch.from_numpy(np.array(open_array(folder / f"{file}.npy", entry.files), np.float32)), torch.zeros(0)
            )[0].numpy()
            for file in ("image", f"image_{size}")
        )
        label = self.labels.table[np.asarray(open_array(folder / "label.npy", entry.files))]
        corners = self._by_corners(entry)
        written = (entry.spacing, entry.origin, entry.patient)
        return Case(name, native, label, *written, small=small, corners=corners, values=self.values_of(entry))

    def _by_corners(self, entry: Entry) -> bool:
        """Say whether a case was resized as earlier versions resized volumes, but not pictures."""
        return not entry.resize and self.manifest.intensity != "picture"

    def values_of(self, entry: Entry) -> tuple[int, ...]:
        """Return what a case's raw file writes for class 0, 1, …; binary masks of benchmarks are kept as 0/1."""
        own = {int(label): int(value) for label, value in entry.origin.get("values", ())}
        as_stored = self.manifest.benchmark == "own" and entry.resize
        if "size" in entry.origin and not own and not as_stored and set(self.manifest.labels) == {1}:
            own = {1: 255}
        return tuple(own.get(value, value) for value in (0, *self.labels.table.values))

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """The manifest's entries by name."""
        return {entry.name: entry for entry in self.manifest.cases}


@dataclass(frozen=True)
class PreparedCases(Sequence[Case]):
    """Whole cases, each read when it is asked for.

    Args:
        read: Reads a case by name.
        names: Which.
    """

    read: Callable[[str], Case]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """Return one case, or the part of the sequence that a slice names."""
        if isinstance(index, slice):
            return replace(self, names=self.names[index])
        return self.read(self.names[index])

    def __iter__(self) -> Iterator[Case]:
        return (self.read(name) for name in self.names)


@dataclass(frozen=True)
class PreparedSlices(Sequence[Array]):
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
        plane = open_array(self.folder / name / self.file, self.hashes[name])[number]
        return plane if self.table is None else self.table[plane]


@dataclass(frozen=True)
class FinishItem:
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
        """FinishItem an image (…, C, rows, columns) and its label."""
        image = image / 255 if self.picture else image
        if self.scheme is not None:
            image, label = self.scheme(image, label)
        if self.normalize == "imagenet":
            mean, std = torch.tensor(_MEAN)[:, None, None], torch.tensor(_STD)[:, None, None]
            image = (image - mean) / std
        return image, label


def open_array(path: Path, hashes: Mapping[str, str]) -> Array:
    """Map an array into memory; it is read as it is used, after its hash was compared once in this process.

    Args:
        path: The file.
        hashes: sha256 of the files of its case, by name.

    Returns:
        The array.

    Raises:
        DataError: it is missing, damaged, or not the one that was prepared.
    """
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
