"""Predicting whole cases with bounded memory: slice by slice, or by sliding windows."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lomix_search.data.case import Array, Case
from lomix_search.data.preparation import scores_on_grid
from lomix_search.data.resizing import resize_images, resize_labels, resize_scores
from lomix_search.evaluation.windows import windowed
from lomix_search.instrumentation.modes import evaluating
from lomix_search.instrumentation.outputs import Reader, probabilities, reader_of


@dataclass(frozen=True)
class InferenceOptions:
    """How whole cases are predicted.

    Args:
        size: Rows and columns that the network was trained on, one number where they are equal. None: slices are fed
            as they are.
        resize: How the prediction gets back to the case's size: class numbers by nearest neighbour, or logits linearly.
        batch_size: Slices or windows at a time.
        window: Sliding window: (rows, columns) in every slice, or (slices, rows, columns) for a 3D network.
        overlap: Share that neighbouring windows have in common, in [0, 1).
        flips: Average the probabilities over flips of rows and columns.
        device: Where the network runs; by default where its parameters are.
    """

    size: int | tuple[int, int] | None = None
    resize: Literal["nearest", "linear"] = "linear"
    batch_size: int = 8
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    flips: bool = False
    device: torch.device | str | None = None

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Rows and columns that the network was trained on."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class Prediction:
    """A predicted case.

    Args:
        label: Class numbers, (slices, rows, columns), in the smallest unsigned type that holds every class.
        foreground: 1 − probability of the background, the same shape; None unless it was asked for.
    """

    label: Array
    foreground: NDArray[np.float32] | None = None


@torch.no_grad()
def predict_case(
    network: nn.Module, case: Case, how: InferenceOptions, foreground: bool = False, read: Reader | None = None
) -> Prediction:
    """Predict one case. Only ``batch_size`` slices of logits exist at a time.

    A 3D window needs those of the whole volume as the network sees it; they are brought to the case's own grid some
    slices at a time.

    Args:
        network: The network; one channel of logits means a binary task by the logistic function.
        case: The case; its image is scaled as the network takes it.
        how: Sizes, windows and flips.
        foreground: Also return the foreground probability.
        read: What :func:`lomix_search.instrumentation.outputs.reader_of` made of the network; made anew when left out.

    Returns:
        Class numbers at the case's own size.

    Raises:
        RunError: the network returns nothing that can be read as logits, or values that are not finite.
    """
    read = reader_of(network) if read is None else read
    device = next((p.device for p in network.parameters()), None) if how.device is None else torch.device(how.device)
    with evaluating(network):
        if how.window is not None and len(how.window) == 3:
            volume = _volume(read, case, how, device)
            slabs = scores_on_grid(volume, case.label.shape)
            parts = [_decide(probabilities(slab[None])[0], foreground) for slab in slabs]
        else:
            parts = [_slices(read, case, batch, how, device, foreground) for batch in _batches(case, how.batch_size)]
    label = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts if part[1] is not None]) if foreground else None
    return Prediction(label, scores)


def _batches(case: Case, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, len(case.image), size)]


def _slices(
    read: Reader, case: Case, batch: slice, how: InferenceOptions, device: torch.device | None, foreground: bool
) -> tuple[Array, NDArray[np.float32] | None]:
    """Predict some slices (n, C, rows, columns) at their own size."""
    native, (given, corners) = case.image.shape[2:], _given(case, batch, how.pixels)
    images = torch.from_numpy(np.array(given, np.float32)).to(device)
    if how.resize == "linear":
        probability = _average(read, images, how, lambda logits: resize_scores(logits.float(), native, corners=corners))
        return _decide(probability.movedim(0, 1), foreground)
    probability = _average(read, images, how)
    label, scores = _decide(probability.movedim(0, 1), foreground)
    back = None if scores is None else resize_labels(scores, native, corners=corners)
    return resize_labels(label, native, corners=corners), back


def _given(case: Case, batch: slice, size: tuple[int, int] | None) -> tuple[Array, bool]:
    """Return slices as the network saw them in training, and whether their corner pixels lie on those of the case."""
    if size is None or case.image.shape[2:] == size:
        return case.image[batch], False
    if case.small is not None and case.small.shape[2:] == size:
        return case.small[batch], case.corners
    return resize_images(np.asarray(case.image[batch], np.float32), size, picture="size" in case.origin), False


def _volume(read: Reader, case: Case, how: InferenceOptions, device: torch.device | None) -> Tensor:
    """Predict with a 3D network: logits (C, slices, rows, columns) on its own grid, gathered on the CPU.

    They, not probabilities, are averaged over flips and brought to another grid: as validation does it, and nnU-Net.
    """
    given = case.small if case.dims == 3 and case.small is not None else case.image
    volume = torch.from_numpy(np.ascontiguousarray(given.swapaxes(0, 1), np.float32))[None].to(device)
    axes = _flips(how)
    total = sum(_logits(read, volume.flip(a), how).float().flip(a) for a in axes)
    assert isinstance(total, Tensor)
    return (total / len(axes))[0].cpu()


def _flips(how: InferenceOptions) -> list[tuple[int, ...]]:
    """Return the axes of each flip that is averaged over; of none, one that is none."""
    return [axes for n in range(3) for axes in itertools.combinations((-2, -1), n)] if how.flips else [()]


def _average(
    read: Reader, images: Tensor, how: InferenceOptions, resized: Callable[[Tensor], Tensor] = lambda t: t
) -> Tensor:
    """Average probabilities over the flips of rows and columns; logits are resized, as in training."""
    axes = _flips(how)
    total = sum(probabilities(resized(_logits(read, images.flip(a), how))).flip(a) for a in axes)
    assert isinstance(total, Tensor)
    return total / len(axes)


def _logits(read: Reader, images: Tensor, how: InferenceOptions) -> Tensor:
    if how.window is None:
        return read(images)
    return windowed(read, how.window, how.batch_size, how.overlap)(images)


def _decide(probability: Tensor, foreground: bool) -> tuple[Array, NDArray[np.float32] | None]:
    """Turn (classes, n, rows, columns) into class numbers and foreground probability (n, rows, columns)."""
    label = probability.argmax(0).cpu().numpy().astype(np.min_scalar_type(len(probability) - 1))
    return label, (1 - probability[0]).cpu().numpy() if foreground else None
