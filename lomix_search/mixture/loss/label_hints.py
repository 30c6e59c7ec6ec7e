"""What to type where labels do not fit; only what is certain to lose nothing is advised."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.map_checks import list_shapes, shape_text
from lomix_search.mixture.loss.plan import LossPlan


def raise_type(labels: Tensor) -> NoReturn:
    """Raise for labels that are not whole numbers.

    Args:
        labels: Of a floating or complex type.

    Raises:
        LossError: always; shows a value.
    """
    between = labels != labels.round() if labels.is_floating_point() else torch.ones_like(labels, dtype=torch.bool)
    found = labels[between | ~labels.isfinite()]
    raise LossError(
        f"Labels are {labels.dtype} and hold values that are no class; classes are whole numbers.",
        seen=f"{found.numel()} values, such as {found[0].item():g}" if found.numel() else "",
        hint="resize and turn labels by the nearest neighbour, so that they keep their class numbers"
        if labels.is_floating_point()
        else "",
    )


def raise_channels(labels: Tensor, maps: Sequence[Tensor], plan: LossPlan) -> NoReturn:
    """Raise for labels whose axes are not those of classes or of one-hot channels.

    Args:
        labels: Of any shape.
        maps: The originals.
        plan: What the loss computes.

    Raises:
        LossError: always; says how they become classes where they can without loss.
    """
    rank, channels = maps[0].ndim, plan.num_values
    what, hint = f"maps of rank {rank} need (B, *spatial) or (B, 1, *spatial)", ""
    if labels.ndim == rank:
        what, hint = _channels_in_words(labels, channels)
    seen = list_shapes(maps) if maps[0] is not labels else ""
    raise LossError(f"Labels have shape {shape_text(labels)}; {what}.", seen=seen, hint=hint)


def _channels_in_words(labels: Tensor, channels: int) -> tuple[str, str]:
    """Say what is wrong with labels that have an axis of channels, and what to do."""
    needed = f"needed is (B, *spatial), (B, 1, *spatial) or one-hot (B, {channels}, *spatial)"
    if not bool(((labels == 0) | (labels == 1)).all()):
        return needed, ""
    number, classes = labels.sum(1), labels.shape[1]
    if bool((number == 1).all()):
        return f"one-hot of {classes} classes, the loss is of {channels}", (
            f"MixtureLoss(…, num_classes={classes})  # if the network has so many outputs"
        )
    if bool((labels.sum(-1) == 1).all()):
        return needed, "loss(maps, one_hot.movedim(-1, 1))  # channels first"
    regions = f"MixtureLoss(…, num_classes={classes}, multilabel=True)  # a sigmoid for each"
    if bool((number <= 1).all()):
        return f"the {classes} channels of 0 and 1 do not sum to 1 at every pixel", (
            f"loss(maps, torch.cat([1 - channels.sum(1, keepdim=True), channels], 1))"
            f"  # if the background is missing: {classes + 1} classes with it; or {regions}"
        )
    overlap = int((number > 1).sum())
    return f"the {classes} channels of 0 and 1 overlap at {overlap} pixels, so that no pixel has one class", (
        f"{regions}; the network's channels are then regions, without background"
    )


def hint_for_values(labels: Tensor, plan: LossPlan) -> str:
    """Say what to do with values outside the classes, if that is certain to lose nothing.

    Ignoring a value is advised only for 255 and values below 0, which by custom mark pixels without a label, and only
    where two classes are left: the 255 of a mask of 0 and 255 is its foreground.

    Args:
        labels: Classes (B, *spatial), or of several labels a pixel (B, C, *spatial).
        plan: What the loss computes.

    Returns:
        The advice, or an empty text.
    """
    top = plan.num_values
    found = [value for value in torch.unique(labels).tolist() if value != plan.ignore_index]
    inside, wrong = [v for v in found if 0 <= v < top], [v for v in found if not 0 <= v < top]
    if top == 2 and len(wrong) == 1 and wrong[0] > 0 and 1 not in inside:
        mask = f"if this is a mask of 0 and {wrong[0]}: its foreground is class 1"
        return f"loss(maps, labels {'> 0' if plan.ignore_index is None else f'== {wrong[0]}'})  # {mask}"
    if plan.multilabel:
        return (
            f"MixtureLoss(…, ignore_index={wrong[0]})  # if it marks pixels without a label" if wrong == [255] else ""
        )
    marks, classes = [v for v in wrong if v < 0 or v == 255], [v for v in wrong if 0 <= v != 255]
    settings, reasons = [], []
    if classes:
        settings.append(f"num_classes={classes[-1] + 1}")
        reasons.append("the network has so many outputs")
    if marks:
        settings.append(f"ignore_index={marks[0]}")
        reasons.append(f"{marks[0]} marks pixels without a label")
    one_mark = len(marks) + (plan.ignore_index is not None) < 2
    if not one_mark or (255 in marks and len(inside + classes) < 2) or (classes and classes[-1] >= 64):
        return ""
    return f"MixtureLoss(…, {', '.join(settings)})  # if {', and '.join(reasons)}"
