"""Blocks of volumes to train on: where they are cut, and how they are read without reading the rest.

An item is a case; which block of it is drawn when it is read. So the order of items is that of cases, and a block is
repeated by the draw that :class:`~lomix_search.data.seeding.Seeded` gives. A third of the blocks lie round a voxel of
some class, each class as often as any other, as nnU-Net draws them; the others lie anywhere. Blocks never leave their
volume unless it is smaller: it then lies in the middle, round it the image is 0 and the label background.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Array
from lomix_search.data.dataset import Augment, Slices, block
from lomix_search.data.regions import Regions
from lomix_search.errors import DataError

_PLACES = 1000  # voxels of each label that are kept
FOREGROUND = 1 / 3
"""Share of blocks that lie round a voxel of a class."""


class Patches(Slices):
    """Blocks drawn from volumes.

    Args:
        images: One array (C, slices, rows, columns) a case; of memory maps only blocks are read.
        labels: One array (slices, rows, columns) of raw label values a case.
        cases: Their names.
        size: Slices, rows and columns of a block.
        numbers: Turns raw label values into class numbers.
        places: ``index -> (n, 4)``: what ``foreground_voxels`` found in a case.
        values: Raw label values of the classes 1, 2, …
        num_classes: As for ``Slices``, like all below.
        names: As for ``Slices``.
        ignore_index: As for ``Slices``.
        augment: As for ``Slices``; blocks are cut so much larger as its attribute ``margin`` says, if it has one.
        regions: As for ``Slices``.

    Raises:
        DataError: the sequences differ in length.
    """

    def __init__(
        self,
        images: Sequence[NDArray[Any]],
        labels: Sequence[NDArray[Any]],
        cases: Sequence[str],
        *,
        size: Sequence[int],
        numbers: Callable[[Array], Array],
        places: Callable[[int], Array],
        values: Sequence[int],
        num_classes: int,
        names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        augment: Augment | None = None,
        regions: Regions | None = None,
    ) -> None:
        super().__init__(
            images,
            labels,
            cases,
            num_classes=num_classes,
            names=names,
            ignore_index=ignore_index,
            augment=augment,
            regions=regions,
        )
        self.size, self.numbers, self.places, self.values = tuple(size), numbers, places, tuple(values)
        self.margin = tuple(getattr(augment, "margin", (0,) * len(self.size)))

    def _read(self, index: int) -> tuple[Array, Array]:
        """Draw a block from numpy's global random state and read it."""
        image, label = self.images[index], self.labels[index]
        if image.shape[1:] != label.shape:
            raise DataError(
                f"{self.names[index]}: image {image.shape[1:]} and label {label.shape} differ in shape.",
                hint="save image and label on one grid, with the same number of voxels on each axis",
            )
        corner = self._corner(index, label.shape)
        outer = [n + 2 * more for n, more in zip(self.size, self.margin, strict=True)]
        begin = [first - more for first, more in zip(corner, self.margin, strict=True)]
        return block(image, begin, outer), self.numbers(block(label, begin, outer))

    def _corner(self, index: int, shape: Sequence[int]) -> list[int]:
        """Draw where the block begins."""
        centre = self._voxel(index) if np.random.rand() < FOREGROUND else None
        corner = []
        for axis, (own, wanted) in enumerate(zip(shape, self.size, strict=True)):
            room = own - wanted
            if room <= 0:
                corner.append(-(-room // 2))  # as sliding windows have it
            elif centre is None:
                corner.append(int(np.random.randint(room + 1)))
            else:
                corner.append(int(np.clip(centre[axis] - wanted // 2, 0, room)))
        return corner

    def _voxel(self, index: int) -> Array | None:
        """Draw a voxel of a class, each class of the case as often as any other; None where it has none."""
        places = self.places(index)
        known = [value for value in self.values if (places[:, 0] == value).any()]
        if not known:
            return None
        of_class = places[places[:, 0] == known[np.random.randint(len(known))], 1:]
        return np.asarray(of_class[np.random.randint(len(of_class))])


def foreground_voxels(label: Array) -> Array:
    """Note where each label of a volume lies.

    Args:
        label: (slices, rows, columns), raw label values in the form of training.

    Returns:
        (n, 4) int32: label value, slice, row, column; at most 1000 voxels of each label above 0, the same each time.
    """
    rng, found = np.random.default_rng(0), []
    for value in np.unique(label[label > 0]):
        places = np.flatnonzero(label == value)
        if len(places) > _PLACES:
            places = np.sort(rng.choice(places, _PLACES, replace=False))
        found.append(np.stack([np.full(len(places), value), *np.unravel_index(places, label.shape)], 1))
    return np.concatenate(found).astype(np.int32) if found else np.zeros((0, 4), np.int32)
