"""A user's items in the one form that everything here computes with, or refused by name.

    (image, label): floating (C, *spatial), int64 (*spatial); of several labels a pixel int64 (R, *spatial) of 0 and 1

Accepted beside that: a dictionary with "image" and "label", as MONAI's; numpy arrays and tensors of any kind, MONAI's
MetaTensor; labels of any integer type or bool, and floating ones that hold whole numbers; labels with an axis for their
one channel, (1, *spatial); one-hot labels. Nothing is scaled, moved or rounded: what would need a guess is an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lomix_search.data.case import size_in_words
from lomix_search.data.dataset import Item, check_label, check_masks, check_whole
from lomix_search.data.nested_datasets import truth_of, window_of
from lomix_search.data.seeding import Seeded
from lomix_search.errors import DataError

_PAIR = 'return image, label   # or {"image": image, "label": label}'


class UniformDataset(Dataset[Item]):
    """A dataset whose items have the one form.

    Args:
        dataset: Any map-style dataset, or a list of items.
        what: What to call it in an error: ``"training"``, ``"validation"``.
        num_classes: C; labels are 0 … C−1, or 0 and 1 if it is 1; None does not look at them.
        ignore_index: Label value that counts nowhere.
        dtype: Of the images.
        multilabel: Labels are masks (R, *spatial), R = ``num_classes``, which may overlap.

    Raises:
        DataError: it has no items that can be asked for by number.
    """

    def __init__(
        self,
        dataset: Any,
        what: str,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        dtype: torch.dtype = torch.float32,
        multilabel: bool = False,
    ) -> None:
        _check_kind(dataset, what)
        self.dataset, self.what, self.dtype, self.multilabel = dataset, what, dtype, multilabel
        self.num_classes, self.ignore_index = num_classes, ignore_index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """Return one item, checked.

        Args:
            index: 0 … len − 1.

        Returns:
            The image and the label.

        Raises:
            DataError: it is of another form, or labels are outside the classes; names the item.
        """
        return self.checked(self.dataset[index], index)

    def truth(self, index: int) -> Any:
        """Return what a prediction for an item is scored against, where the dataset inside tells."""
        return truth_of(self.dataset, index)

    @property
    def window(self) -> tuple[int, ...] | None:
        """Size of the blocks by which items are predicted, where the dataset inside tells."""
        return window_of(self.dataset)

    def checked(self, raw: Any, index: int) -> Item:
        """Return an item that was read, in the one form."""
        name = f"{self.what} item {index}"
        one, other = _pair(raw, name)
        image, label = _tensor(one, f"{name}: the image"), _tensor(other, f"{name}: the label")
        if image.is_complex():
            raise DataError(f"{name}: the image is complex; real values are needed.", hint="image = image.abs()")
        if self.multilabel:
            label = _masks(image, label, self.num_classes)
        else:
            label = self._one_label_a_pixel(image, label, name)
        _check_sizes(image, label, name, self.multilabel)
        label = _whole(label, name)
        self._check_values(label, name)
        return image.to(self.dtype), label

    def _one_label_a_pixel(self, image: Tensor, label: Tensor, name: str) -> Tensor:
        """Take the axis of channels off a label: of its one channel, or one-hot; others would need a choice."""
        if label.ndim != image.ndim:
            return label
        if label.shape[0] == 1:
            return label[0]
        ones, number = label == 1, label.shape[0]
        fits = (ones | (label == 0)).all(0) & (ones.sum(0) == 1)
        ignored = torch.zeros_like(fits) if self.ignore_index is None else (label == self.ignore_index).all(0)
        if not bool((fits | ignored).all()):
            masks = f"MixtureLoss(…, num_classes={number}, multilabel=True)   # if it is masks that may overlap"
            raise DataError(
                f"{name}: image and label have as many axes, and the label is not one-hot.",
                seen=_both(image, label),
                hint=["image = image[None]   # if the image has no axis for channels", masks],
            )
        if self.num_classes is not None and number != max(2, self.num_classes):
            raise DataError(
                f"{name}: the label is one-hot of {number} classes; there are {max(2, self.num_classes)}.",
                seen=_both(image, label),
                hint="labels.argmax(0)   # one number a pixel",
            )
        return ones.to(torch.uint8).argmax(0).where(~ignored, self.ignore_index or 0)

    def _check_values(self, label: Tensor, name: str) -> None:
        if self.num_classes is None:
            return
        if self.multilabel:
            check_masks(label.numpy(), self.num_classes, name, self.ignore_index)
        else:
            check_label(label.numpy(), max(2, self.num_classes), name, self.ignore_index)


def same_size_batches(
    items: Seeded, numbers: Sequence[int], batch_size: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Read items in turn, at most ``batch_size`` neighbours of one size at a time.

    Args:
        items: A ``UniformDataset`` set, seeded, so that reading it moves no random state and repeats.
        numbers: Which items.
        batch_size: How many at a time.

    Yields:
        Their numbers, images (B, C, *spatial) and labels (B, *spatial).
    """
    group: list[tuple[int, Item]] = []
    for number in numbers:
        item = items[(0, number)]
        if group and (len(group) == batch_size or _sizes(item) != _sizes(group[0][1])):
            yield [i for i, _ in group], *default_collate([one for _, one in group])
            group = []
        group.append((number, item))
    if group:
        yield [i for i, _ in group], *default_collate([one for _, one in group])


def collate(items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    """Stack the items of a batch.

    Args:
        items: Images and labels.

    Returns:
        Images (B, C, *spatial) and labels (B, *spatial).

    Raises:
        DataError: they differ in size.
    """
    sizes = list(dict.fromkeys(_sizes(item) for item in items))
    if len(sizes) > 1:
        raise DataError(
            "the items of a batch differ in size; all must be of one.",
            seen=[f"image {_shown(image)}, label {_shown(label)}" for image, label in sizes[:4]],
            hint="crop, pad or resize them in the data set; or batch_size=1",
        )
    images, labels = default_collate(list(items))
    return images, labels


def _check_kind(dataset: Any, what: str) -> None:
    if isinstance(dataset, DataLoader):
        raise DataError(
            f"the {what} set is a DataLoader; the data set inside is needed: batches and their order are made here.",
            seen=f"batch_size={dataset.batch_size}, around a {type(dataset.dataset).__name__}",
            hint=f"loader.dataset, batch_size={dataset.batch_size or 1}",
        )
    by_number = not isinstance(dataset, IterableDataset) or hasattr(type(dataset), "__len__")
    if not by_number or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"the {what} set is a {type(dataset).__name__}; its items must be countable and come by their number, so "
            "that a run repeats and resumes.",
            hint="a map-style data set: __len__ and __getitem__(index); or list(items)",
        )


def _pair(raw: Any, name: str) -> tuple[Any, Any]:
    """Return image and label of what a dataset returned."""
    if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], Mapping):  # of MONAI's crops, num_samples=1
        raw = raw[0]
    if isinstance(raw, Mapping):
        if "image" in raw and "label" in raw:
            return raw["image"], raw["label"]
        keys = ", ".join(map(repr, raw))
        raise DataError(f'{name}: a dictionary with the keys {keys}; "image" and "label" are needed.', hint=_PAIR)
    if isinstance(raw, list | tuple):
        if len(raw) == 2 and not any(isinstance(part, Mapping | list | tuple) for part in raw):
            return raw[0], raw[1]
        kinds = ", ".join(type(part).__name__ for part in raw[:4])
        hint = "num_samples=1 in the cropping transform" if any(isinstance(p, Mapping) for p in raw) else _PAIR
        raise DataError(f"{name}: {len(raw)} parts ({kinds}); an image and a label are needed.", hint=hint)
    raise DataError(f"{name}: a {type(raw).__name__}; an image and a label are needed.", hint=_PAIR)


def _tensor(part: Any, name: str) -> Tensor:
    """Return a plain tensor on the CPU, of the values as they are."""
    if isinstance(part, Tensor):
        part = part.detach().cpu().to_dense()
        return part if type(part) is Tensor else part.as_subclass(Tensor)
    try:
        array = np.asarray(part)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        raise DataError(f"{name} is a {type(part).__name__}; an array or tensor of numbers is needed.", hint=_PAIR)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # which torch knows, but does little with
        array = array.astype(np.float64 if array.max(initial=0) > np.iinfo(np.int64).max else np.int64)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))


def _masks(image: Tensor, label: Tensor, number: int | None) -> Tensor:
    """Give the mask of one region alone its axis; masks of several have it."""
    return label[None] if number == 1 and label.ndim == image.ndim - 1 else label


def _check_sizes(image: Tensor, label: Tensor, name: str, multilabel: bool) -> None:
    """Check that image and label show the same thing: the label may be coarser or finer, in the same proportions."""
    size, other = image.shape[1:], label.shape[1:] if multilabel else label.shape
    if 1 <= len(size) == len(other) <= 3 and label.numel() and image.numel():
        scale = other[0] / size[0]
        if size == other or all(a != b and abs(b - a * scale) <= 1 for a, b in zip(size, other, strict=True)):
            return
    hint = "label as (H, W), image as (C, H, W); volumes (D, H, W) and (C, D, H, W)"
    if multilabel:
        hint = "label as (R, H, W), one mask for each region, image as (C, H, W); volumes (R, D, H, W) and (C, D, H, W)"
    if image.shape[:-1] == label.shape:
        hint = "image = image.movedim(-1, 0)   # channels first"
    elif image.shape == label.shape:
        hint = "image = image[None]   # an axis for its one channel"
    raise DataError(
        f"{name}: image and label have different sizes; image (C, *spatial) and label "
        f"{'(R, *spatial)' if multilabel else '(*spatial)'} are needed.",
        seen=_both(image, label),
        hint=hint,
    )


def _whole(label: Tensor, name: str) -> Tensor:
    """Return class numbers as int64, if whole numbers is what they are."""
    if label.is_complex():
        raise DataError(f"{name}: the label is complex; class numbers are needed.", hint="label = label.real")
    if label.is_floating_point():
        known = label.dtype in (torch.float16, torch.float32, torch.float64)  # to numpy, which has no bfloat16
        check_whole((label if known else label.float()).numpy(), name)
    return label.long()


def _sizes(item: Item) -> tuple[torch.Size, torch.Size]:
    return item[0].shape, item[1].shape


def _both(image: Tensor, label: Tensor) -> str:
    return f"image {_shown(image.shape)}, label {_shown(label.shape)}"


def _shown(shape: Sequence[int]) -> str:
    return size_in_words(shape) or "a single number"
