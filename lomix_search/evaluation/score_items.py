"""Predicting and scoring items as training sees them: what validation uses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lomix_search.data.dataset import Truth
from lomix_search.data.nested_datasets import case_of, truth_of
from lomix_search.data.preparation import scores_on_grid
from lomix_search.data.resizing import resize_scores
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import UniformDataset, same_size_batches
from lomix_search.evaluation.dice_meter import DiceMeter, DiceResult
from lomix_search.evaluation.windows import reader_for
from lomix_search.instrumentation.modes import evaluating
from lomix_search.instrumentation.outputs import Reader, class_numbers, reader_of
from lomix_search.utils.distributed import gather, share
from lomix_search.utils.interpolation import interpolate


def predict_classes(
    model: nn.Module | Reader, images: Tensor, size: Sequence[int] | None = None, multilabel: bool = False
) -> Tensor:
    """Predict class numbers, or masks of regions.

    Args:
        model: A network in eval mode, or what :func:`lomix_search.instrumentation.outputs.reader_of` made of it.
        images: (B, C, *spatial).
        size: Spatial size of the prediction; logits of another size are resized linearly. The images' own by default.
        multilabel: Each channel is a region of its own.

    Returns:
        As :func:`lomix_search.instrumentation.outputs.class_numbers`.
    """
    with torch.no_grad():
        logits = reader_of(model)(images).float()
    return class_numbers(_resized(logits, images.shape[2:] if size is None else tuple(size)), multilabel)


def _decided(logits: Tensor, size: Sequence[int], corners: bool, multilabel: bool) -> Tensor:
    """Return the class numbers (1, *size), or masks (1, R, *size), of one item's logits (C, *spatial)."""
    if len(size) != 3 or logits.shape[1:] == tuple(size):
        return class_numbers(_resized(logits[None], size, corners), multilabel)
    slabs = scores_on_grid(logits, size, corners=corners)
    return torch.cat([class_numbers(slab[None], multilabel) for slab in slabs], -3)


def _resized(logits: Tensor, size: Sequence[int], corners: bool = False) -> Tensor:
    if logits.shape[2:] == tuple(size) or logits.ndim == 4:
        return resize_scores(logits, size, corners=corners)
    return interpolate(logits, size)


def score_items(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    batch_size: int = 8,
    ignore_index: int | None = None,
    multilabel: bool = False,
) -> DiceResult:
    """Score a network on items as training sees them, by Dice per case and class: what validation uses.

    Where the items are whole volumes (the dataset has a ``window``), the network sees them block by block.
    A dataset may know the labels of its items at the size of their cases (``truth(index)``, as prepared data do). Then
    predictions are brought back to that size and scored there, as whole cases are.

    Args:
        model: The network, instrumented or not. It is in eval mode meanwhile; each module gets its own mode back.
        dataset: Items (image (C, *spatial), label (*spatial)), or what ``UniformDataset`` brings into that form;
            ``case_of`` tells the case of each. Random augmentation draws the same numbers each time.
        classes: Names of the classes, the background first; the regions of multi-label items.
        batch_size: Items at a time; the result depends on it by float rounding of the network only.
        ignore_index: Label of pixels that do not count.
        multilabel: Labels are masks (R, *spatial) that may overlap.

    Returns:
        The scores. In a distributed run every process counts its share of the items, and all get the whole.
    """
    meter, weight = DiceMeter(tuple(classes), ignore_index, multilabel), next(model.parameters(), torch.zeros(()))
    items = UniformDataset(dataset, "scored", len(classes), ignore_index, weight.dtype, multilabel=multilabel)
    read = reader_for(items, reader_of(model, len(classes), multilabel), weight.device)
    batch_size = batch_size if items.window is None else 1  # whole volumes
    with evaluating(model):
        for numbers, images, labels in same_size_batches(Seeded(items, 0), share(range(len(items))), batch_size):
            with torch.no_grad():
                logits = read(images).float()
            for number, one, label in zip(numbers, logits, labels, strict=True):
                known = truth_of(dataset, number)
                truth = Truth(label) if known is None else known
                size = truth.label.shape[1:] if multilabel else truth.label.shape
                prediction = _decided(one, size, truth.corners, multilabel)
                meter.update(prediction.cpu(), truth.label[None], [case_of(dataset, number)])
    whole, *others = gather(meter)
    for other in others:
        whole.add(other)
    return whole.result()
