"""Predicting and scoring: the network as inference uses it, nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lomix_search.errors import RunError
from lomix_search.metrics import DiceMeter, DiceResult

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def predict(model: nn.Module, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Predict class indices.

    Args:
        model: A network in eval mode. Of a tuple, list or dict the first tensor is taken as the logits.
        images: (B, C, *spatial).
        size: Spatial size of the answer; logits of another size are resized linearly. The images' own by default.

    Returns:
        (B, *spatial) int64: argmax over the classes, or 1 where the logit of a one-channel network is above 0.
    """
    with torch.no_grad():
        logits = _first_tensor(model(images)).float()
    wanted = tuple(size or images.shape[2:])
    if logits.shape[2:] != wanted:
        logits = F.interpolate(logits, wanted, mode=_INTERPOLATION[len(wanted)], align_corners=False)
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def evaluate(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    batch_size: int = 8,
    ignore_index: int | None = None,
) -> DiceResult:
    """Score a network on a data set by Dice per case and class.

    Args:
        model: The network, instrumented or not; put into eval mode and back.
        dataset: Items (image (C, *spatial), label (*spatial)); its method ``case(i)``, where there is one, names the
            case an item belongs to, otherwise each item is a case.
        classes: Names, background first.
        batch_size: Items at a time; the result does not depend on it beyond float rounding of the network.
        ignore_index: Label of pixels that do not count.

    Returns:
        The scores.
    """
    training, meter = model.training, DiceMeter(tuple(classes), ignore_index=ignore_index)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    name_of = getattr(dataset, "case", str)
    model.eval()
    try:
        start = 0
        for images, labels in DataLoader(dataset, batch_size=batch_size):
            predictions = predict(model, images.to(device), labels.shape[-(images.ndim - 2) :])
            meter.update(predictions.cpu(), labels, [name_of(i) for i in range(start, start + len(images))])
            start += len(images)
    finally:
        model.train(training)
    return meter.result()


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise RunError("the network's output holds no logits.", seen=f"a {type(output).__name__}")
