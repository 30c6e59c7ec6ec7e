"""Predicting whole cases with bounded memory: slice by slice, or by sliding windows."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.data.convert import resize
from lomix_search.data.volumes import Case
from lomix_search.errors import RunError, require
from lomix_search.modes import evaluating

Array = NDArray[Any]


@dataclass(frozen=True)
class How:
    """How whole cases are predicted.

    Args:
        size: Rows and columns that the network was trained on; None feeds slices as they are.
        resize: How the prediction gets back to the case's size: class numbers by nearest neighbour, or logits linearly.
        batch_size: Slices or windows at a time.
        window: Sliding window: (rows, columns) in every slice, or (slices, rows, columns) for a 3D network.
        overlap: Of neighbouring windows.
        flips: Average over flips of rows and columns.
        device: Where the network runs; where its parameters are when left out.
    """

    size: int | None = None
    resize: Literal["nearest", "linear"] = "linear"
    batch_size: int = 8
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    flips: bool = False
    device: torch.device | str | None = None


@dataclass(frozen=True)
class Prediction:
    """A predicted case.

    Args:
        label: Class numbers, (slices, rows, columns).
        foreground: 1 − probability of the background, the same shape; None where it was not asked for.
    """

    label: NDArray[np.uint8]
    foreground: NDArray[np.float32] | None = None


@torch.no_grad()
def predict(network: nn.Module, case: Case, how: How, foreground: bool = False) -> Prediction:
    """Predict one case. Only ``batch_size`` slices of logits exist at a time (a 3D window needs the whole volume's).

    Args:
        network: In evaluation mode it returns logits (B, C, *spatial), or several maps with the finest last; C = 1
            means a binary task by the logistic function.
        case: The case, image as the network takes it.
        how: As described there.
        foreground: Also return the foreground probability.

    Returns:
        Class numbers at the case's own size.

    Raises:
        RunError: the network returned something else, or values that are not finite.
    """
    device = torch.device(how.device) if how.device else next((p.device for p in network.parameters()), None)
    with evaluating(network):
        if how.window is not None and len(how.window) == 3:
            probability = _volume(network, case, how, device)
            parts = [_decide(probability, foreground)]
        else:
            parts = [_slices(network, batch, how, device, foreground) for batch in _batches(case, how.batch_size)]
    label = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts if part[1] is not None]) if foreground else None
    return Prediction(label, scores)


def _batches(case: Case, size: int) -> list[Array]:
    return [case.image[start : start + size] for start in range(0, len(case.image), size)]


def _slices(
    network: nn.Module, images: Array, how: How, device: torch.device | None, foreground: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Predict some slices (n, C, rows, columns) at their own size."""
    native, given = images.shape[2:], images
    if how.size is not None and native != (how.size, how.size):
        given = resize(images.astype(np.float32), np.zeros((len(images), *native), np.uint8), how.size)[0]
    probability = _average(network, torch.from_numpy(np.ascontiguousarray(given, np.float32)).to(device), how)
    if how.resize == "linear":
        probability = F.interpolate(probability, size=native, mode="bilinear", align_corners=False)
        return _decide(probability.movedim(0, 1), foreground)
    label, scores = _decide(probability.movedim(0, 1), foreground)
    return _nearest(label, native), None if scores is None else _nearest(scores, native)


def _nearest(planes: Any, size: Sequence[int]) -> Any:
    """Resize back as the community does: order 0 of scipy's zoom."""
    if planes.shape[1:] == tuple(size):
        return planes
    ndimage = require("scipy.ndimage", "data")
    factors = (size[0] / planes.shape[1], size[1] / planes.shape[2])
    return np.stack([ndimage.zoom(plane, factors, order=0) for plane in planes])


def _volume(network: nn.Module, case: Case, how: How, device: torch.device | None) -> Tensor:
    """Predict with a 3D network: probabilities (C, slices, rows, columns), gathered on the CPU."""
    volume = torch.from_numpy(np.ascontiguousarray(case.image.swapaxes(0, 1), np.float32))[None]
    return _average(network, volume.to(device), how)[0].cpu()


def _average(network: nn.Module, images: Tensor, how: How) -> Tensor:
    """Average probabilities over the flips of rows and columns."""
    axes = [axes for n in range(3) for axes in itertools.combinations((-2, -1), n)] if how.flips else [()]
    total = sum(_probability(_logits(network, images.flip(a), how)).flip(a) for a in axes)
    assert isinstance(total, Tensor)
    return total / len(axes)


def _logits(network: nn.Module, images: Tensor, how: How) -> Tensor:
    if how.window is None:
        output = network(images)
    else:
        inferers = require("monai.inferers", "data")
        output = inferers.sliding_window_inference(
            images, how.window, how.batch_size, lambda x: _finest(network(x)), overlap=how.overlap, mode="gaussian"
        )
    return _finest(output)


def _finest(output: Any) -> Tensor:
    logits = output[-1] if isinstance(output, list | tuple) else output
    if not isinstance(logits, Tensor):
        raise RunError(f"the network returned {type(output).__name__}; evaluation needs logits (B, C, *spatial).")
    return logits


def _probability(logits: Tensor) -> Tensor:
    """Turn logits into probabilities (B, classes, *spatial); one channel becomes background and foreground."""
    if not torch.isfinite(logits).all():
        raise RunError("the network returned NaN or infinite logits.", hint="load the best checkpoint, or search again")
    logits = logits.float()
    if logits.shape[1] > 1:
        return torch.softmax(logits, 1)
    foreground = torch.sigmoid(logits)
    return torch.cat([1 - foreground, foreground], 1)


def _decide(probability: Tensor, foreground: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Turn (classes, n, rows, columns) into class numbers and foreground probability (n, rows, columns)."""
    label = probability.argmax(0).to(torch.uint8).cpu().numpy()
    return label, (1 - probability[0]).cpu().numpy() if foreground else None
