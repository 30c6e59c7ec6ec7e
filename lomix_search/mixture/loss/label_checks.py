"""Do the labels of a training step fit its maps and classes? Each misfit gets one error that says what to type."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.map_checks import list_shapes, shape_text
from lomix_search.mixture.loss.plan import LossPlan


def check_labels(labels: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Check type, rank, batch and device of the labels; their values are ``check_range``'s.

    Args:
        labels: Classes (B, *spatial) or (B, 1, *spatial), any integer type.
        maps: The originals.

    Returns:
        Labels (B, *spatial), int64.

    Raises:
        LossError: they do not fit.
    """
    if not isinstance(labels, Tensor):
        raise LossError(f"Labels are a {type(labels).__name__}; a tensor is needed.", hint="torch.as_tensor(labels)")
    like = maps[0]
    if labels.ndim == like.ndim and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.ndim != like.ndim - 1:
        raise LossError(
            f"Labels have shape {shape_text(labels)}; maps of rank {like.ndim} need (B, *spatial) or (B, 1, *spatial).",
            seen=list_shapes(maps),
            hint=_hint_for_channels(labels, like) if labels.ndim == like.ndim else "",
        )
    if labels.is_floating_point() or labels.is_complex():
        _raise_type(labels)
    if 0 in labels.shape[1:]:
        raise LossError(f"Each image of the labels has no pixel: {shape_text(labels)}.", seen=list_shapes(maps))
    if labels.shape[0] != like.shape[0]:
        raise LossError(
            f"Labels have a batch of {labels.shape[0]}, the maps of {like.shape[0]}.", seen=list_shapes(maps)
        )
    if labels.device != like.device:
        raise LossError(
            f"Labels are on {labels.device}, the maps on {like.device}.", hint="loss(maps, labels.to(maps[0].device))"
        )
    return labels.long()


def check_range(labels: Tensor, plan: LossPlan) -> None:
    """Check that every label is a class or the ignored one. Reads the labels, so on a GPU it waits for them.

    Args:
        labels: Classes (B, *spatial).
        plan: What the loss computes.

    Raises:
        LossError: names the values found.
    """
    if labels.numel() and bool(_out_of_range(labels, plan).any()):
        _raise_range(labels, plan)


def _out_of_range(labels: Tensor, plan: LossPlan) -> Tensor:
    """Return which labels are neither a class nor ignored; one value for all where the extremes already tell.

    Args:
        labels: Classes (B, *spatial), at least one.
        plan: What the loss computes.

    Returns:
        Booleans; none is true if all is well.
    """
    top = plan.num_values
    if labels.device.type == "cpu":
        low, high = torch.aminmax(labels)
        if low >= 0 and high < top:
            return torch.zeros((), dtype=torch.bool)
    wrong = (labels < 0) | (labels >= top)
    return wrong if plan.ignore_index is None else wrong & (labels != plan.ignore_index)


def _raise_range(labels: Tensor, plan: LossPlan) -> None:
    """Raise the error of ``check_range``, knowing that a label is out of range."""
    found, counts = torch.unique(labels[_out_of_range(labels, plan)], return_counts=True)
    pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
    listed = ", ".join(f"{value} ({count} pixels)" for value, count in pairs[:8])
    top = plan.num_values
    more = f", … ({len(pairs)} values)" if len(pairs) > 8 else ""
    ignored = "" if plan.ignore_index is None else f", {plan.ignore_index} is ignored"
    raise LossError(
        f"Labels hold {len(pairs)} values outside the classes 0 … {top - 1}{ignored}.",
        seen=listed + more,
        hint=_hint_for_values(labels, plan),
    )


class LateCheck:
    """The check of label values that does not wait for the device: what one step finds, a later one raises.

    Until then the engines leave pixels of such labels out.
    """

    def __init__(self) -> None:
        self._found: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def look(self, labels: Tensor, plan: LossPlan) -> None:
        """Raise for labels seen earlier, and have a look at these.

        Args:
            labels: Classes (B, *spatial), on any device.
            plan: What the loss computes.

        Raises:
            LossError: labels of an earlier step were out of range; names the extremes.
        """
        self._raise_if_known(plan)
        if self._found is None and labels.numel():
            wrong = _out_of_range(labels, plan)
            values = torch.stack([wrong.sum(), labels.where(wrong, 0).amin(), labels.where(wrong, 0).amax()])
            self._found = values.to("cpu", non_blocking=True)
            if labels.is_cuda:
                self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._arrived.record()

    def _raise_if_known(self, plan: LossPlan) -> None:
        if self._found is None or (self._arrived is not None and not self._arrived.query()):  # type: ignore[no-untyped-call]
            return
        count, low, high = self._found.tolist()
        self._found = self._arrived = None
        if count:
            raise LossError(
                f"{count} labels of an earlier step were outside the classes 0 … {plan.num_values - 1}.",
                seen=f"values from {low} to {high}",
                hint=[
                    "from lomix_search.mixture.loss.label_checks import check_range",
                    "check_range(labels, loss.plan)  # of each batch: says what to do",
                ],
            )

    def __reduce__(self) -> tuple[type["LateCheck"], tuple[()]]:
        """Copies start afresh: events cannot be copied."""
        return LateCheck, ()


def _raise_type(labels: Tensor) -> NoReturn:
    """Raise for labels that are not integers; rounding them is advised only where nothing is lost."""
    between = labels != labels.round() if labels.is_floating_point() else torch.ones_like(labels, dtype=torch.bool)
    found = labels[between | ~labels.isfinite()]
    raise LossError(
        f"Labels are {labels.dtype}; classes are integers.",
        seen=f"{found.numel()} values that are no class, such as {found[0].item():g}" if found.numel() else "",
        hint="" if found.numel() else "loss(maps, labels.long())",
    )


def _hint_for_channels(labels: Tensor, like: Tensor) -> str:
    """Say how labels with an axis of channels become classes, if they can without loss."""
    if not bool(((labels == 0) | (labels == 1)).all()):
        return ""
    number, classes = labels.sum(1), labels.shape[1]
    if bool((number == 1).all()):
        return "loss(maps, one_hot.argmax(1))"
    if labels.shape[-1] == like.shape[1] and bool((labels.sum(-1) == 1).all()):
        return "loss(maps, one_hot.argmax(-1))"
    if bool((number <= 1).all()):
        return (
            "loss(maps, torch.cat([1 - one_hot.sum(1, keepdim=True), one_hot], 1).argmax(1))"
            f"  # background first: {classes + 1} classes"
        )
    overlap = int((number > 1).sum())
    return (
        f"loss(maps, regions[:, k])  # the {classes} regions overlap at {overlap} pixels: one region at a time, with "
        "num_classes=1"
    )


def _hint_for_values(labels: Tensor, plan: LossPlan) -> str:
    """Say what to do with values outside the classes, if that is certain to lose nothing.

    Ignoring a value is advised only for 255 and values below 0, which by custom mark pixels without a label, and only
    where two classes are left: the 255 of a mask of 0 and 255 is its foreground.
    """
    top = plan.num_values
    found = [value for value in torch.unique(labels).tolist() if value != plan.ignore_index]
    inside, wrong = [v for v in found if 0 <= v < top], [v for v in found if not 0 <= v < top]
    if top == 2 and len(wrong) == 1 and wrong[0] > 0 and 1 not in inside:
        return f"loss(maps, labels == {wrong[0]})  # if this is a mask of 0 and {wrong[0]}: its foreground is class 1"
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
