"""Some items as a network segmented them: images, truths and predictions are kept with the run to look at later."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lomix_search.data.dataset import Slices
from lomix_search.errors import RunError
from lomix_search.evaluation.region_files import by_size, paint
from lomix_search.evaluation.score_items import predict_classes
from lomix_search.evaluation.windows import reader_for
from lomix_search.instrumentation.modes import evaluating
from lomix_search.instrumentation.outputs import reader_of
from lomix_search.utils.files import write_bytes

IGNORED = 255
"""Stands in ``truth`` where a label is ignored."""
_BYTE = np.dtype(np.uint8)


@dataclass(frozen=True)
class PredictedSlices:
    """Slices as a network saw them.

    Args:
        images: (N, H, W), or (N, H, W, 3) for colour; uint8, each stretched to 0 … 255.
        truth: (N, H, W) uint8 class numbers; 255 where a label is ignored. Of regions that may overlap, masks
            (N, R, H, W) of 0 and 1.
        predictions: The same without 255.
        names: What to call each slice.
        classes: Names, background first; the regions of masks.
    """

    images: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predictions: NDArray[np.uint8]
    names: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def multilabel(self) -> bool:
        """Whether the labels are masks of regions."""
        return self.truth.ndim == 4

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of what is painted, by number from 1."""
        return self.classes if self.multilabel else self.classes[1:]

    def painted(self) -> "PredictedSlices":
        """Return the same with one number a pixel to look at: of regions, the smallest ones lie on top."""
        if not self.multilabel:
            return self
        order = by_size(self.truth.swapaxes(0, 1))
        truth, predictions = (paint(masks.swapaxes(0, 1), order) for masks in (self.truth, self.predictions))
        truth = np.where(self.truth[:, 0] == IGNORED, IGNORED, truth).astype(np.uint8)
        return replace(self, truth=truth, predictions=predictions, classes=("background", *self.classes))

    def differences(self) -> NDArray[np.uint8]:
        """Return where predictions differ: (N, H, W), 1 where something was missed, 2 added, 3 another class or both.

        Pixels that count nowhere are 0.
        """
        truth, found = self.truth, self.predictions
        if self.multilabel:
            missed, added = ((truth == 1) & (found == 0)).any(1), ((truth == 0) & (found == 1)).any(1)
            both: NDArray[np.uint8] = (missed + 2 * added).astype(np.uint8)
            return both
        wrong = (truth != found) & (truth != IGNORED)
        return np.where(wrong, np.where(found == 0, 1, np.where(truth == 0, 2, 3)), 0).astype(np.uint8)

    def some(self, number: int) -> "PredictedSlices":
        """Return some of the slices, evenly spread.

        Args:
            number: How many; all where there are fewer.
        """
        kept = _spread(len(self.names), number)
        names = tuple(self.names[i] for i in kept)
        return replace(
            self, images=self.images[kept], truth=self.truth[kept], predictions=self.predictions[kept], names=names
        )

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file, atomically."""
        buffer = io.BytesIO()
        text = {"names": np.array(self.names, np.str_), "classes": np.array(self.classes, np.str_)}
        np.savez_compressed(
            buffer, images=self.images, truth=self.truth, predictions=self.predictions, allow_pickle=False, **text
        )
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "PredictedSlices":
        """Read what ``save`` wrote; nothing in it is executed.

        Args:
            path: The file.

        Returns:
            The slices.

        Raises:
            RunError: the file is damaged or another one.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = [file[name] for name in ("images", "truth", "predictions")]
                names, classes = (tuple(str(text) for text in file[name]) for name in ("names", "classes"))
            found = cls(arrays[0], arrays[1], arrays[2], names, classes)
            found.check()
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, EOFError) as cause:
            raise RunError(
                f"{path} is damaged or holds no slices.",
                seen=str(cause),
                hint="delete it, and run the same command again: it is made anew",
            ) from None
        return found

    def check(self) -> None:
        """Check that the arrays fit each other.

        Raises:
            ValueError: they do not.
        """
        arrays = {"images": self.images, "truth": self.truth, "predictions": self.predictions}
        shape = (len(self.names), *self.truth.shape[-2:])
        whole = (shape[0], len(self.classes), *shape[1:]) if self.multilabel else shape
        fits = shape[0] > 0 and self.truth.shape == self.predictions.shape == whole and len(shape) == 3
        if not fits or self.images.shape not in (shape, (*shape, 3)) or {a.dtype for a in arrays.values()} != {_BYTE}:
            seen = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
            raise ValueError(f"{seen}, {len(self.names)} names")


def look(
    net: nn.Module, items: Slices, classes: Sequence[str], most: int = 24, ignore_index: int | None = None
) -> PredictedSlices:
    """Predict some items, evenly spread. Of a volume, some slices are kept.

    Args:
        net: The network; its mode is put back.
        items: Items without augmentation.
        classes: Names, background first; the regions of multi-label items.
        most: Slices at most.
        ignore_index: Label value whose pixels count nowhere.

    Returns:
        What was seen.
    """
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    read = reader_for(items, reader_of(net, len(classes), items.multilabel), device)
    chosen, views = _spread(len(items), most), []
    with evaluating(net):
        for index in chosen:
            image, label = items[index]
            size: Sequence[int] = label.shape[1:] if items.multilabel else label.shape
            prediction = predict_classes(read, image[None], size, items.multilabel)[0].cpu().numpy()
            marked = label.numpy() if ignore_index is None else np.where(label == ignore_index, IGNORED, label.numpy())
            views += _views(image.numpy(), marked, prediction, items.names[index], max(1, most // len(chosen)))
    images, truth, predictions, names = zip(*views, strict=True)
    frame = tuple(np.max([t.shape[-2:] for t in truth], axis=0))  # pictures of several sizes share the largest frame
    shown = np.stack([_framed(array, frame, 0) for array in images])
    labels = [np.stack([_framed(array, frame, array.ndim - 2) for array in arrays]) for arrays in (truth, predictions)]
    return PredictedSlices(shown, labels[0], labels[1], names, tuple(classes))


def _views(
    image: NDArray[Any], label: NDArray[Any], prediction: NDArray[Any], name: str, slices: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], str]]:
    """Turn an item (C, H, W), or some slices of one (C, D, H, W), into pictures; labels may have an axis of regions."""
    picture = _stretched(image)
    if image.ndim == 3:
        return [(picture, _small(label), _small(prediction), name)]
    return [
        (picture[d], _small(label[..., d, :, :]), _small(prediction[..., d, :, :]), f"{name}, plane {d}")
        for d in _planes(label, slices)
    ]


def _planes(label: NDArray[Any], most: int) -> list[int]:
    """Choose planes of a volume (…, D, H, W): evenly spread over those with foreground; the fullest, if it is one."""
    full = ((label != 0) & (label != IGNORED)).reshape(-1, *label.shape[-3:]).any(0).sum((1, 2))
    if most == 1 and full.any():
        return [int(full.argmax())]
    candidates = np.flatnonzero(full) if full.any() else np.arange(len(full))
    return [int(candidates[i]) for i in _spread(len(candidates), most)]


def _stretched(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return one grey channel, or three colours last, in 0 … 255."""
    low, high = float(image.min()), float(image.max())
    scaled = ((image - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return np.moveaxis(scaled, 0, -1) if len(image) == 3 else scaled[0]


def _small(label: NDArray[Any]) -> NDArray[np.uint8]:
    return np.where((label < 0) | (label > 255), IGNORED, label).astype(np.uint8)


def _framed(array: NDArray[np.uint8], size: Sequence[int], first: int) -> NDArray[np.uint8]:
    """Pad rows and columns, which are the axes from ``first`` on, to a size."""
    missing = [(0, wanted - given) for wanted, given in zip(size, array.shape[first:], strict=False)]
    return np.pad(array, [*[(0, 0)] * first, *missing, *[(0, 0)] * (array.ndim - first - 2)])


def _spread(number: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, number - 1, min(most, number))}) if number else []
