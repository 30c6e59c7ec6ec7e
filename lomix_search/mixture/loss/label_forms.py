"""Labels of every form that users have, brought into the one that engines compute with, or refused by name.

    (B, *spatial) int64; of a loss of several labels a pixel (B, C, *spatial) int64 of 0 and 1

Accepted beside that: any integer type, bool, and floating types that hold whole numbers; an axis for the one channel;
one-hot channels; a list of the labels at several scales, of which the finest counts. Whatever would need a guess is an
error. Nothing here waits for a GPU: where a value is found to be no class only later, ``NO_CLASS`` stands in its place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.label_hints import raise_channels, raise_type
from lomix_search.mixture.loss.map_checks import list_shapes, shape_text
from lomix_search.mixture.loss.plan import LossPlan

NO_CLASS = -(2**62)
"""Stands for a fraction, or for a pixel whose channels are not one-hot, until a check finds it."""


def finest_labels(labels: object) -> Tensor:
    """Take the finest of the labels at several scales; labels that are one tensor stay as they are.

    Args:
        labels: A tensor, or a list or tuple of them in any order, as nnU-Net's deep supervision has them.

    Returns:
        The labels of the most pixels.

    Raises:
        LossError: what is given is no tensor, or a list of anything else than one label map at several scales.
    """
    if not isinstance(labels, list | tuple):
        return _tensor(labels)
    scales = [_tensor(one) for one in labels]
    if not scales:
        raise LossError(
            "Labels are an empty list.", hint="loss(maps, labels)  # a tensor (B, *spatial) of class numbers"
        )
    finest = max(scales, key=lambda one: one.numel())
    if len(scales) > 1 and all(one.shape == finest.shape for one in scales):
        raise LossError(
            f"Labels are a list of {len(scales)} tensors of one size; a list is read as one label at several scales.",
            seen=[shape_text(one) for one in scales[:4]],
            hint="loss(maps, torch.stack(labels))  # if they are the items of a batch",
        )
    if any(one.ndim != finest.ndim or one.shape[:1] != finest.shape[:1] for one in scales):
        index = next(i for i, one in enumerate(scales) if one is finest)
        raise LossError(
            "Labels at several scales must have one batch size and one rank.",
            seen=[shape_text(one) for one in scales],
            hint=f"loss(maps, labels[{index}])  # of several scales the finest alone is read",
        )
    return finest


def shaped_labels(labels: Tensor, maps: Sequence[Tensor], plan: LossPlan) -> Tensor:
    """Bring labels into the one form: type, axes, batch and device are checked, values are another check's.

    Args:
        labels: Of any form.
        maps: The originals.
        plan: What the loss computes.

    Returns:
        (B, *spatial), or (B, C, *spatial) where the plan is of several labels a pixel; int64.

    Raises:
        LossError: they do not fit.
    """
    like = maps[0]
    if labels.is_complex():
        raise_type(labels)
    labels = _with_axes(labels, maps, plan)
    if 0 in labels.shape[1:]:
        raise LossError(
            f"Each image of the labels has no pixel: {shape_text(labels)}.",
            seen=list_shapes(maps),
            hint="assert label.numel(), index  # in your dataset: which item is cut to nothing",
        )
    if labels.shape[0] != like.shape[0]:
        raise LossError(
            f"Labels have a batch of {labels.shape[0]}, the maps of {like.shape[0]}.",
            seen=list_shapes(maps),
            hint="loss(net(images), labels)  # images and labels of one batch",
        )
    if labels.device != like.device:
        raise LossError(
            f"Labels are on {labels.device}, the maps on {like.device}.", hint="loss(maps, labels.to(maps[0].device))"
        )
    if plan.multilabel or labels.ndim == like.ndim - 1:
        return _whole(labels)
    return _whole(labels.squeeze(1)) if labels.shape[1] == 1 else _from_one_hot(labels, plan)


def reads_at_once(labels: Tensor) -> bool:
    """Say whether values can be looked at without waiting for a device, and are there at all."""
    return labels.device.type == "cpu" and not torch.compiler.is_compiling()


def _tensor(labels: object) -> Tensor:
    if not isinstance(labels, Tensor):
        raise LossError(f"Labels are a {type(labels).__name__}; a tensor is needed.", hint="torch.as_tensor(labels)")
    return labels if type(labels) is Tensor else labels.as_subclass(Tensor)  # such as MONAI's MetaTensor


def _with_axes(labels: Tensor, maps: Sequence[Tensor], plan: LossPlan) -> Tensor:
    """Check the number of axes and channels."""
    like, classes = maps[0], plan.num_classes
    if plan.multilabel:
        if classes == 1 and labels.ndim == like.ndim - 1:
            return labels.unsqueeze(1)
        if labels.ndim == like.ndim and labels.shape[1] == classes:
            return labels
        regions = "torch.stack([torch.isin(labels, torch.tensor(values)) for values in ([1, 2, 3], [1, 3], …)], 1)"
        needed = f"with multilabel=True they are (B, {classes}, *spatial) of 0 and 1"
        raise LossError(
            f"Labels have shape {shape_text(labels)}; {needed}.",
            seen=list_shapes(maps),
            hint=f"{regions}  # regions of class numbers" if labels.ndim == like.ndim - 1 else "",
        )
    if labels.ndim != like.ndim - 1 and (labels.ndim != like.ndim or labels.shape[1] not in (1, max(2, classes))):
        raise_channels(labels, maps, plan)
    return labels


def _whole(labels: Tensor) -> Tensor:
    """Return whole numbers as int64; ``NO_CLASS`` for a fraction that cannot be raised here."""
    if not labels.is_floating_point():
        return labels.long()
    whole = labels == labels.round()  # never of NaN
    if reads_at_once(labels) and not bool((whole & labels.isfinite()).all()):
        raise_type(labels)
    return labels.where(whole & labels.isfinite(), 0).long().where(whole & labels.isfinite(), NO_CLASS)


def _from_one_hot(labels: Tensor, plan: LossPlan) -> Tensor:
    """Return the class of every pixel; the ignored label where all channels hold it; ``NO_CLASS`` for anything else."""
    ones = labels == 1
    fits = (ones | (labels == 0)).all(1) & (ones.sum(1) == 1)
    classes = ones.to(torch.uint8).argmax(1)
    if plan.ignore_index is not None:
        ignored = (labels == plan.ignore_index).all(1)
        classes, fits = classes.where(~ignored, plan.ignore_index), fits | ignored
    if reads_at_once(labels) and not bool(fits.all()):
        raise_channels(labels, [labels], plan)
    return classes.where(fits, NO_CLASS)
