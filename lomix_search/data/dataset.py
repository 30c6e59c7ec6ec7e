"""What a recipe's data come out as: three sets of items with labels, cases and names."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lomix_search.data.case import Case, size_in_words
from lomix_search.data.regions import GivenRegions, Regions, pack_masks, read_regions, region_masks, unpack_masks
from lomix_search.errors import DataError

Item = tuple[Tensor, Tensor]
Augment = Callable[[Tensor, Tensor], Item]


@dataclass(frozen=True)
class Splits:
    """What a recipe's data section gives: three sets and what is known about their labels.

    Args:
        train: Items with augmentation.
        val: Items without, taken out of the training data; never out of the test data.
        test: Items without augmentation.
        classes: Class names by label value, the background first; of multi-label data the names of the regions, without
            a background, in the order of the channels.
        channels: Image channels.
        spacing: Millimetres between voxels: slices, rows, columns; empty where it is unknown or differs between cases.
        volumes: The whole cases of ``"val"`` and ``"test"`` at native size, which evaluation scores; each is read when
            it is asked for.
        regions: The label values of each region, where items and cases hold class numbers of which regions are made;
            empty otherwise.
        multilabel: Labels are masks that may overlap, one for each of ``classes``; true wherever there are regions.
        ignore_index: Label value of pixels that count nowhere; None leaves it to ``loss.ignore_index``.
        written: Label value that each region is written as, in the order of painting; empty: found out.
        patients: Whose a case is, by the name of the case; a case that is not named is a patient of its own.
    """

    train: "Slices"
    val: "Slices"
    test: "Slices"
    classes: tuple[str, ...]
    channels: int
    spacing: tuple[float, ...] = ()
    volumes: Mapping[str, Sequence[Case]] = field(default_factory=dict)
    regions: Regions = field(default_factory=dict)
    multilabel: bool = False
    ignore_index: int | None = None
    written: tuple[int, ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that sets, classes and regions fit each other."""
        for what in ("train", "val", "test"):
            part = getattr(self, what)
            if not isinstance(part, Slices):
                raise DataError(
                    f"Splits: {what} is a {type(part).__name__}; a recipe's sets are Slices, with names and cases.",
                    hint="Slices(images, labels, cases, num_classes=…); search(…) takes any data set",
                )
        object.__setattr__(self, "multilabel", self.multilabel or bool(self.regions))
        if self.regions and tuple(self.regions) != self.classes:
            raise DataError(
                "Splits: classes and regions have different names; the regions are what is learned.",
                seen=f"classes {', '.join(self.classes)}; regions {', '.join(self.regions)}",
                hint="Splits(…, classes=tuple(regions), regions=regions)",
            )
        if self.multilabel and self.ignore_index in (0, 1):
            raise DataError(
                f"label {self.ignore_index} cannot be ignored: masks of regions are 0 outside and 1 inside.",
                hint="loss.ignore_index=255   # and 255 in the labels; of prepared data: data.ignore",
            )
        if any(part.multilabel != self.multilabel for part in (self.train, self.val, self.test)):
            raise DataError(
                "Splits: some sets have one class a pixel, others masks that may overlap.",
                hint="Slices(…, regions=regions) for each set, and Splits(…, regions=regions)",
            )

    def with_regions(self, given: GivenRegions) -> "Splits":
        """Return the same data with regions to learn instead of classes.

        Args:
            given: By name of a region, the classes that belong to it, by name or number; its order is that of channels.

        Returns:
            The multi-label data.

        Raises:
            DataError: a table with faults; all are listed.
        """
        regions = read_regions(given, dict(list(enumerate(self.classes))[1:]), self.ignore_index)
        parts = {what: copy.copy(getattr(self, what)) for what in ("train", "val", "test")}
        for part in parts.values():
            part.regions, part.multilabel = regions, True
        return replace(self, classes=tuple(regions), regions=regions, written=(), **parts)


@dataclass(frozen=True)
class Truth:
    """What a prediction for an item is scored against, where that is another map than the item's label.

    Args:
        label: Class numbers at the case's own size, (rows, columns); of multi-label items masks (R, …).
        corners: As for :func:`~lomix_search.data.resizing.resize_scores`.
    """

    label: Tensor
    corners: bool = False


class Slices(Dataset[Item]):
    """Images with label maps, each belonging to a case (a patient or volume).

    An item is ``(image, label)``: float32 ``(C, *spatial)`` and int64 ``(*spatial)``; of multi-label sets, masks
    ``(R, *spatial)`` of 0 and 1. Augmentation draws from numpy's global random state at the moment of the call; wrap
    the set in :class:`Seeded` to make that repeatable.

    Args:
        images: One array ``(C, *spatial)`` an item; anything indexable, e.g. an array, a memory map, a lazy sequence.
        labels: One integer array ``(*spatial)`` an item; ``(R, *spatial)`` with ``multilabel``.
        cases: Name of the case of each item.
        num_classes: C; labels are 0 … C−1, or ``ignore_index``. With ``multilabel`` alone: R.
        names: What to call each item in an error; its case and number when left out.
        ignore_index: Label value that means "do not count".
        augment: ``(image, label) -> (image, label)``, or None.
        truths: ``index -> Truth``: labels at the size that evaluation scores at, as ``labels`` are; None where the
            items' own have it.
        regions: Make these masks of the class numbers, after augmentation.
        multilabel: The labels are masks already, 1 inside and 0 outside.
        window: Size of the blocks that a network sees at a time, where items are whole volumes; None: whole items.

    Raises:
        DataError: the three sequences differ in length.
    """

    def __init__(
        self,
        images: Sequence[NDArray[Any]] | NDArray[Any],
        labels: Sequence[NDArray[Any]] | NDArray[Any],
        cases: Sequence[str],
        *,
        num_classes: int,
        names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        augment: Augment | None = None,
        truths: Callable[[int], Truth] | None = None,
        regions: Regions | None = None,
        multilabel: bool = False,
        window: tuple[int, ...] | None = None,
    ) -> None:
        if not len(images) == len(labels) == len(cases):
            raise DataError(
                f"{len(images)} images, {len(labels)} labels and {len(cases)} case names do not pair up.",
                hint="Slices(images, labels, cases): one label and one case name for each image",
            )
        self.images, self.labels, self.cases = images, labels, tuple(cases)
        self.num_classes, self.ignore_index, self.augment, self.truths = num_classes, ignore_index, augment, truths
        self.regions, self.multilabel = dict(regions or {}), multilabel or bool(regions)
        self.window = window
        self.names = tuple(names) if names is not None else tuple(f"{case}, item {i}" for i, case in enumerate(cases))

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Item:
        """Return one item, augmented if the set augments.

        Args:
            index: 0 … len − 1.

        Returns:
            The image, float32 (C, *spatial), and the label, int64 (*spatial), or masks (R, *spatial).

        Raises:
            DataError: NaN or infinite pixels, labels that are not integers or outside the classes, or shapes that do
                not fit each other; the message names the item.
        """
        image, label = self._read(index)
        self._check(image, label, self.names[index])
        label = pack_masks(label, self.ignore_index) if self._packs else label
        item = torch.from_numpy(np.array(image, np.float32)), torch.from_numpy(np.array(label, np.int64))
        image_, label_ = self.augment(*item) if self.augment is not None else item
        return image_, self._as_learned(label_)

    def example(self) -> Item:
        """Return what a network sees of the first item: the item, or a block from its middle."""
        image, label = self[0]
        if self.window is None:
            return image, label
        own = label.shape[-len(self.window) :]
        corner = [int((have - wanted) / 2) for have, wanted in zip(own, self.window, strict=True)]
        seen = [block(part.numpy(), corner, self.window) for part in (image, label)]
        return torch.from_numpy(seen[0]), torch.from_numpy(seen[1])

    def _read(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the image and the label of an item."""
        return np.asarray(self.images[index]), np.asarray(self.labels[index])

    def case(self, index: int) -> str:
        """Return the name of the case that an item belongs to."""
        return self.cases[index]

    def truth(self, index: int) -> Truth | None:
        """Return what a prediction for an item is scored against; None: its label."""
        known = self.truths(index) if self.truths is not None else None
        if known is None or not self.regions:
            return known
        return replace(known, label=torch.from_numpy(region_masks(known.label, self.regions, self.ignore_index)))

    @property
    def _packs(self) -> bool:
        """Whether masks are moved by an augmentation, which takes one label a pixel."""
        return self.multilabel and not self.regions and self.augment is not None

    def _as_learned(self, label: Tensor) -> Tensor:
        """Turn a label that may have been augmented into what is learned: class numbers or masks."""
        if self.regions:
            return torch.from_numpy(region_masks(label, self.regions, self.ignore_index))
        if self._packs:
            return torch.from_numpy(unpack_masks(label.numpy(), self.num_classes, self.ignore_index))
        return label

    def _check(self, image: NDArray[Any], label: NDArray[Any], name: str) -> None:
        masks = self.multilabel and not self.regions
        if image.shape[1:] != (label.shape[1:] if masks else label.shape):
            raise DataError(
                f"{name}: image and label have different shapes.",
                seen=f"image {size_in_words(image.shape[1:])}, label {size_in_words(label.shape)}",
                hint="multi-label: one mask for each region, (R, *spatial)" if masks else "",
            )
        if not np.isfinite(image).all():
            count = int((~np.isfinite(image)).sum())
            raise DataError(
                f"{name}: the image has NaN or infinite pixels; all must be finite.",
                seen=f"{count} of {image.size} pixels",
                hint="image = numpy.nan_to_num(image, nan=image_background)   # or leave the slice out",
            )
        check = check_masks if masks else check_label
        check(label, self.num_classes, name, self.ignore_index)


def block(values: NDArray[Any], corner: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Cut a block out of an array; what lies outside of the array is 0. Of an array on disk, only the block is read.

    Args:
        values: (…, *spatial).
        corner: First voxel along each spatial axis; may lie outside.
        size: Voxels along each spatial axis.

    Returns:
        (…, *size), a copy.
    """
    own = values.shape[values.ndim - len(size) :]
    low = [max(0, first) for first in corner]
    high = [min(end, first + n) for end, first, n in zip(own, corner, size, strict=True)]
    made = np.zeros((*values.shape[: values.ndim - len(size)], *size), values.dtype)
    if all(a < b for a, b in zip(low, high, strict=True)):
        there: tuple[Any, ...] = (..., *(slice(a, b) for a, b in zip(low, high, strict=True)))
        bounds = zip(low, high, corner, strict=True)
        here: tuple[Any, ...] = (..., *(slice(a - first, b - first) for a, b, first in bounds))
        made[here] = values[there]
    return made


def check_whole(label: NDArray[Any], name: str) -> None:
    """Check that a label map holds whole numbers, of whatever type.

    Args:
        label: Any shape.
        name: What to call it in the message.

    Raises:
        DataError: fractions, NaN or infinite values; the message shows some.
    """
    if label.dtype.kind in "iub":
        return
    floating = label.dtype.kind == "f"
    odd = ~np.isfinite(label) | (label != np.round(label)) if floating else np.ones(label.shape, bool)
    if odd.any():
        raise DataError(
            f"{name}: the label is {label.dtype}; class numbers must be integers.",
            seen=f"values such as {', '.join(f'{value:g}' for value in np.unique(label[odd])[:5])}",
            hint="resize and turn labels by the nearest neighbour, so that they keep their class numbers",
        )


def check_label(label: NDArray[Any], num_classes: int, name: str, ignore_index: int | None = None) -> None:
    """Check that a label map holds whole class numbers.

    Args:
        label: Any shape.
        num_classes: C; allowed are 0 … C−1 and ``ignore_index``.
        name: What to call it in the message.
        ignore_index: Label value that means "do not count".

    Raises:
        DataError: labels that are not whole numbers, or outside the classes; the message lists them.
    """
    check_whole(label, name)
    if label.size and (label.min() < 0 or label.max() >= num_classes):
        found = [int(v) for v in np.unique(label)]
        values = [v for v in found if not 0 <= v < num_classes and v != ignore_index]
        if values:
            raise DataError(
                f"{name}: label {', '.join(map(str, values[:8]))} outside the classes 0 … {num_classes - 1}.",
                hint=_hints(values, set(found) - {ignore_index}, num_classes),
            )


def _hints(outside: list[int], found: set[int], num_classes: int) -> list[str]:
    """Say what to do with label values outside the classes; none of it may lose what somebody drew.

    By custom 255 and values below 0 mark pixels without a label, and 255 is the foreground of a mask of 0 and 255. Any
    other value is a class of its own.
    """
    marks, more = [v for v in outside if v < 0 or v == _WHITE], [v for v in outside if 0 <= v != _WHITE]
    hints = []
    if num_classes == 2 and len(outside) == 1 and outside[0] > 0 and 1 not in found:
        one = outside[0]
        hints = [f"label = (label == {one}).astype('uint8')   # if every mask is of 0 and {one}: its foreground is 1"]
    if more and max(more) < _WHITE:
        hints.append(
            f"{max(more) + 1} classes, all of them named, in the network too   # if {max(more)} is one of them"
        )
    return [*hints, *(f"loss.ignore_index={v}   # if {v} marks pixels without a label" for v in marks[-1:])]


def check_masks(masks: NDArray[Any], number: int, name: str, ignore_index: int | None = None) -> None:
    """Check the masks of a multi-label item.

    Args:
        masks: (R, *spatial): 1 inside, 0 outside, ``ignore_index`` in every channel where a pixel counts nowhere.
        number: R, as many as there are regions.
        name: What to call it in the message.
        ignore_index: Value of pixels that count nowhere.

    Raises:
        DataError: another number of channels, other values, or pixels that are ignored in some channels only.
    """
    check_whole(masks, name)
    if len(masks) != number:
        raise DataError(
            f"{name}: the label has {len(masks)} masks; there are {number} regions.",
            seen=f"label {size_in_words(masks.shape)}",
            hint="one mask for each region, (R, *spatial), in the order of their names",
        )
    ignored = np.zeros(masks.shape, bool) if ignore_index is None else masks == ignore_index
    if ((masks != 0) & (masks != 1) & ~ignored).any():
        values = sorted({int(v) for v in np.unique(masks)} - {0, 1, ignore_index})
        white = values == [_WHITE] and not (masks == 1).any()
        raise DataError(
            f"{name}: masks hold {', '.join(map(str, values[:8]))}; 1 is inside a region and 0 outside.",
            hint=f"masks = (masks == {_WHITE}).astype('uint8')   # if every mask is of 0 and {_WHITE}"
            if white
            else "class numbers become regions by a table: [data.regions], or regions=… of Slices",
        )
    if (ignored.any(0) & ~ignored.all(0)).any():
        raise DataError(
            f"{name}: some pixels hold {ignore_index}, which counts nowhere, in a part of the masks only.",
            hint=f"masks[:, (masks == {ignore_index}).any(0)] = {ignore_index}   # if these pixels count nowhere",
        )


_WHITE = 255
