"""Predicting whole cases with bounded memory: slice by slice, or by sliding windows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
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
from lomix_search.instrumentation.outputs import Reader, largest_channel, probabilities, reader_of


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
        multilabel: The channels are regions that may overlap, each with a probability of its own.
    """

    size: int | tuple[int, int] | None = None
    resize: Literal["nearest", "linear"] = "linear"
    batch_size: int = 8
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    flips: bool = False
    device: torch.device | str | None = None
    multilabel: bool = False

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Rows and columns that the network was trained on."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class Prediction:
    """A predicted case.

    Args:
        label: Class numbers, (slices, rows, columns), in the smallest unsigned type that holds every class;
            multi-label: masks (R, slices, rows, columns) of 0 and 1.
        foreground: 1 − probability of the background, the same shape; of each region, its own; None unless it was asked
            for.
        probabilities: (classes or R, slices, rows, columns) float32; None unless it was asked for.
    """

    label: Array
    foreground: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None


@torch.no_grad()
def predict_case(
    network: nn.Module | Sequence[nn.Module],
    case: Case,
    how: InferenceOptions,
    foreground: bool = False,
    read: Reader | Sequence[Reader] | None = None,
    *,
    all_classes: bool = False,
) -> Prediction:
    """Predict one case. Only ``batch_size`` slices of logits exist at a time.

    A 3D window needs those of the whole volume as the network sees it; they are brought to the case's own grid some
    slices at a time.

    Args:
        network: The network, or several whose probabilities are averaged; one channel of logits means a binary task by
            the logistic function.
        case: The case; its image is scaled as the network takes it.
        how: Sizes, windows and flips.
        foreground: Also return the foreground probability.
        read: What :func:`lomix_search.instrumentation.outputs.reader_of` made of each network; made anew when left out.
        all_classes: Also return the probability of each class.

    Returns:
        Class numbers at the case's own size.

    Raises:
        RunError: a network returns nothing that can be read as logits, or values that are not finite.
    """
    networks = [network] if isinstance(network, nn.Module) else list(network)
    readers = list(read) if isinstance(read, Sequence) else [read or reader_of(one) for one in networks]
    device = next((p.device for p in networks[0].parameters()), None) if how.device is None else how.device
    wanted = _Wanted(foreground, all_classes)
    with ExitStack() as modes:
        for one in networks:
            modes.enter_context(evaluating(one))
        if how.window is not None and len(how.window) == 3:
            return _joined(list(_volume(readers, case, how, device, wanted)), how)
        batches = _batches(case, how.batch_size)
        return _joined([_slices(readers, case, batch, how, device, wanted) for batch in batches], how)


@dataclass(frozen=True)
class _Wanted:
    foreground: bool
    all_classes: bool


def _joined(parts: Sequence[Prediction], how: InferenceOptions) -> Prediction:
    """Put slices together that were predicted in batches."""
    slices = 1 if how.multilabel else 0  # the axis of them
    foreground = [part.foreground for part in parts if part.foreground is not None]
    scores = [part.probabilities for part in parts if part.probabilities is not None]
    return Prediction(
        np.concatenate([part.label for part in parts], slices),
        np.concatenate(foreground, slices) if foreground else None,
        np.concatenate(scores, 1) if scores else None,
    )


def _batches(case: Case, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, len(case.image), size)]


def _slices(
    readers: Sequence[Reader],
    case: Case,
    batch: slice,
    how: InferenceOptions,
    device: torch.device | str | None,
    wanted: _Wanted,
) -> Prediction:
    """Predict some slices (n, C, rows, columns) at their own size."""
    native, (given, corners) = case.image.shape[2:], _given(case, batch, how.pixels)
    images = torch.from_numpy(np.array(given, np.float32)).to(device)
    if how.resize == "linear":
        back = partial(resize_scores, size=native, corners=corners)
        probability = _average(readers, images, how, lambda logits: back(logits.float()))
        return _decide(probability.movedim(0, 1), how, wanted)
    made = _decide(_average(readers, images, how).movedim(0, 1), how, wanted)
    parts = (made.label, made.foreground, made.probabilities)
    label, *scores = (None if p is None else resize_labels(p, native, corners=corners) for p in parts)
    assert label is not None
    return Prediction(label, *scores)


def _given(case: Case, batch: slice, size: tuple[int, int] | None) -> tuple[Array, bool]:
    """Return slices as the network saw them in training, and whether their corner pixels lie on those of the case."""
    if size is None or case.image.shape[2:] == size:
        return case.image[batch], False
    if case.small is not None and case.small.shape[2:] == size:
        return case.small[batch], case.corners
    return resize_images(np.asarray(case.image[batch], np.float32), size, picture="size" in case.origin), False


def _volume(
    readers: Sequence[Reader],
    case: Case,
    how: InferenceOptions,
    device: torch.device | str | None,
    wanted: _Wanted,
) -> Iterator[Prediction]:
    """Predict with 3D networks, some slices at a time; the logits of a whole volume lie on the CPU.

    Logits, not probabilities, are averaged over flips and brought to another grid: as validation does it, and nnU-Net.
    """
    given = case.small if case.dims == 3 and case.small is not None else case.image
    volume = torch.from_numpy(np.ascontiguousarray(given.swapaxes(0, 1), np.float32))[None]
    shape = case.image.shape[0], *case.image.shape[2:]
    slabs = [scores_on_grid(_over_flips(read, volume, how, device), shape) for read in readers]
    for parts in zip(*slabs, strict=True):
        probability = sum(probabilities(part[None], how.multilabel)[0] for part in parts) / len(parts)
        assert isinstance(probability, Tensor)
        yield _decide(probability, how, wanted)


def _over_flips(read: Reader, volume: Tensor, how: InferenceOptions, device: torch.device | str | None) -> Tensor:
    """Return logits (C, slices, rows, columns) of a volume (1, channels, slices, rows, columns); both on the CPU."""
    assert how.window is not None
    axes, whole = _flips(how), windowed(read, how.window, how.batch_size, how.overlap, device)
    total = sum(whole(volume.flip(a)).flip(a) for a in axes)
    assert isinstance(total, Tensor)
    return (total / len(axes))[0]


def _flips(how: InferenceOptions) -> list[tuple[int, ...]]:
    """Return the axes of each flip that is averaged over; the first is none."""
    return [axes for n in range(3) for axes in itertools.combinations((-2, -1), n)] if how.flips else [()]


def _average(
    readers: Sequence[Reader],
    images: Tensor,
    how: InferenceOptions,
    resized: Callable[[Tensor], Tensor] = lambda t: t,
) -> Tensor:
    """Average probabilities over networks and flips of rows and columns; logits are resized, as in training."""
    axes = _flips(how)
    ways = itertools.product(readers, axes)
    total = sum(probabilities(resized(_logits(read, images.flip(a), how)), how.multilabel).flip(a) for read, a in ways)
    assert isinstance(total, Tensor)
    return total / (len(axes) * len(readers))


def _logits(read: Reader, images: Tensor, how: InferenceOptions) -> Tensor:
    if how.window is None:
        return read(images)
    return windowed(read, how.window, how.batch_size, how.overlap)(images)


def _decide(probability: Tensor, how: InferenceOptions, wanted: _Wanted) -> Prediction:
    """Turn (classes, n, rows, columns) into class numbers, or masks, and what else is wanted, (…, n, rows, columns)."""
    scores = probability.float().cpu().numpy() if wanted.all_classes else None
    if how.multilabel:
        masks = (probability > 0.5).cpu().numpy().astype(np.uint8)
        return Prediction(masks, probability.cpu().numpy() if wanted.foreground else None, scores)
    label = largest_channel(probability, 0).cpu().numpy().astype(np.min_scalar_type(len(probability) - 1))
    return Prediction(label, (1 - probability[0]).cpu().numpy() if wanted.foreground else None, scores)
