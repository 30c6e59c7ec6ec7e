"""A prepared folder's volumes: blocks for training, whole ones for validation and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lomix_search.data.augment import augmentation, volume_augmentation
from lomix_search.data.block_fit import STEP, BlockFit
from lomix_search.data.case import Array, Case, size_in_words
from lomix_search.data.dataset import Augment, Slices, Truth
from lomix_search.data.kinds.class_table import ClassTable
from lomix_search.data.kinds.prepared_arrays import PreparedFolder, open_array
from lomix_search.data.manifest import Entry
from lomix_search.data.patches import Patches
from lomix_search.data.preparation import flat_axis, training_shape
from lomix_search.errors import DataError

_LARGEST = 128


@dataclass(frozen=True)
class VolumeOptions:
    """What a recipe says of blocks.

    Args:
        size: Slices, rows and columns of a block.
        augment: Name of a scheme for the training blocks.
        flip: Axes that may be mirrored.
    """

    size: tuple[int, int, int]
    augment: str
    flip: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedVolumes:
    """Volumes of a prepared folder with one recipe's classes and blocks.

    Args:
        opened: The folder.
        options: What the recipe says of blocks.
    """

    opened: PreparedFolder
    options: VolumeOptions

    def patches(self, names: Sequence[str]) -> Patches:
        """Return blocks of some cases, to train on.

        Args:
            names: Of the cases.

        Returns:
            One item a case: another block of it each time.
        """
        opened, labels = self.opened, self.opened.labels
        places = _Arrays(opened, "foreground.npy", names)
        return Patches(
            _Arrays(opened, "image_volume.npy", names),
            _Arrays(opened, "label_volume.npy", names),
            names,
            size=self.options.size,
            numbers=labels.table.__getitem__,
            places=places.__getitem__,
            values=labels.table.values,
            num_classes=labels.num_classes,
            names=[f"{opened.root}: {name}" for name in names],
            ignore_index=labels.ignore_index,
            augment=self._augment,
            regions=labels.regions,
        )

    def wholes(self, names: Sequence[str]) -> Slices:
        """Return whole volumes of some cases, to validate on: predicted block by block, scored on their own grid.

        Args:
            names: Of the cases.

        Returns:
            One item a case, at the spacing of training.
        """
        opened, labels = self.opened, self.opened.labels
        native = _Arrays(opened, "label.npy", names, labels.table)

        def truth(number: int) -> Truth:
            return Truth(torch.from_numpy(np.array(native[number], np.int64)))

        return Slices(
            _Arrays(opened, "image_volume.npy", names),
            _Arrays(opened, "label_volume.npy", names, labels.table),
            names,
            num_classes=labels.num_classes,
            names=[f"{opened.root}: {name}" for name in names],
            ignore_index=labels.ignore_index,
            truths=truth,
            regions=labels.regions,
            window=self.options.size,
        )

    @cached_property
    def _augment(self) -> Augment | None:
        if self.options.augment != "volume":
            return augmentation(self.options.augment)
        spacing = self.opened.manifest.preparation.spacing
        return volume_augmentation(self.options.size, self.options.flip, flat=flat_axis(spacing))


def fit_of_blocks(opened: PreparedFolder, size: tuple[int, int, int], names: Sequence[str]) -> BlockFit:
    """Return how blocks fit some cases.

    Args:
        opened: The folder.
        size: Of a block.
        names: Of the cases.

    Returns:
        The fit; no array is opened.
    """
    how = opened.manifest.preparation
    cases = {name: opened.entries[name] for name in names}
    return BlockFit(size, {name: training_shape(one.shape, one.spacing, how) for name, one in cases.items()})


def suggested_patch(entries: Sequence[Entry], opened: PreparedFolder) -> tuple[int, int, int]:
    """Return a size of blocks that holds most of a volume, as far as memory allows.

    Args:
        entries: The cases.
        opened: Their folder.

    Returns:
        Multiples of 16 from 16 to 128, near the median size at the spacing of training.
    """
    how = opened.manifest.preparation
    shapes = [training_shape(entry.shape, entry.spacing, how) for entry in entries]
    median = np.median(np.array(shapes), 0)
    slices, rows, columns = (int(np.clip(STEP * np.ceil(n / STEP), STEP, _LARGEST)) for n in median)
    return slices, rows, columns


def check_block(size: int | tuple[int, ...] | None, opened: PreparedFolder) -> tuple[int, int, int]:
    """Check that a recipe says how large blocks are.

    Args:
        size: Its ``data.size``.
        opened: The prepared folder.

    Returns:
        Slices, rows and columns.

    Raises:
        DataError: it names no block.
    """
    if isinstance(size, tuple) and len(size) == 3:
        return size[0], size[1], size[2]
    entries = opened.manifest.cases
    raise DataError(
        f"{opened.root} holds volumes; data.size must be the block that training sees: slices, rows, columns.",
        seen=f"data.size = {size}; the first volume is {size_in_words((entries[0].shape[0], *entries[0].shape[2:]))}",
        hint=f"data.size={list(suggested_patch(entries, opened))}",
    )


def volume_case(opened: PreparedFolder, name: str) -> Case:
    """Read one whole volume.

    Args:
        opened: The folder.
        name: Of the case.

    Returns:
        The case: image as it is scaled, on its own grid and (``small``) at the spacing of training, mapped from disk;
        label in class numbers.
    """
    entry, folder = opened.entries[name], opened.root / "cases" / name
    native, small = (open_array(folder / f"{file}.npy", entry.files) for file in ("image", "image_volume"))
    label = opened.labels.table[np.asarray(open_array(folder / "label.npy", entry.files))]
    written = (entry.spacing, entry.origin, entry.patient)
    return Case(name, native, label, *written, small=small, values=opened.values_of(entry), dims=3)


@dataclass(frozen=True)
class _Arrays(Sequence[Array]):
    """One array of each of several cases, mapped from disk; images with their channels first."""

    opened: PreparedFolder
    file: str
    names: Sequence[str]
    table: ClassTable | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """Map one array; with a table, read it as class numbers."""
        name = self.names[index]
        array = open_array(self.opened.root / "cases" / name / self.file, self.opened.entries[name].files)
        if self.file.startswith("image"):
            return array.swapaxes(0, 1)
        return array if self.table is None else self.table[np.asarray(array)]
