"""Do the labels of a training step fit its maps and classes? Each misfit gets one error that says what to type."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.label_forms import NO_CLASS, finest_labels, reads_at_once, shaped_labels
from lomix_search.mixture.loss.label_hints import hint_for_values
from lomix_search.mixture.loss.plan import LossPlan

_ON_CPU = (
    "from lomix_search.mixture.loss.label_checks import check_labels",
    "check_labels(labels.cpu(), [one.cpu() for one in maps], loss.plan)  # says what to do",
)


def check_labels(labels: object, maps: Sequence[Tensor], plan: LossPlan) -> Tensor:
    """Bring labels of any form into the one that engines compute with, and check them.

    On a GPU, and in a compiled step, values are left to a later check: nothing waits for the device.

    Args:
        labels: Classes (B, *spatial) or (B, 1, *spatial) of any integer type, bool or whole floating numbers; one-hot
            (B, C, *spatial); for a plan of several labels a pixel, 0 and 1 (B, C, *spatial); or a list of them at
            several scales.
        maps: The originals.
        plan: What the loss computes.

    Returns:
        int64 (B, *spatial); for a plan of several labels a pixel (B, C, *spatial).

    Raises:
        LossError: they do not fit.
    """
    shaped = shaped_labels(finest_labels(labels), maps, plan)
    if reads_at_once(shaped):
        check_range(shaped, plan)
    return shaped


def check_range(labels: Tensor, plan: LossPlan) -> None:
    """Check that every label is a class or the ignored one. Reads the labels, so on a GPU it waits for them.

    Args:
        labels: Classes (B, *spatial), or of several labels a pixel (B, C, *spatial).
        plan: What the loss computes.

    Raises:
        LossError: names the values found.
    """
    if labels.numel() and bool(_out_of_range(labels, plan).any()):
        _raise_range(labels, plan)


def _out_of_range(labels: Tensor, plan: LossPlan) -> Tensor:
    """Return which labels are neither a class nor ignored; one value for all where the extremes already tell.

    Args:
        labels: Classes (B, *spatial), or of several labels a pixel (B, C, *spatial); at least one.
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
    if plan.ignore_index is None:
        return wrong
    ignored = labels == plan.ignore_index
    if plan.multilabel:  # a pixel is ignored in all its channels or in none
        return (wrong & ~ignored) | (ignored & ~ignored.all(1, keepdim=True))
    return wrong & ~ignored


def _raise_range(labels: Tensor, plan: LossPlan) -> NoReturn:
    """Raise the error of ``check_range``, knowing that a label is out of range."""
    found, counts = torch.unique(labels[_out_of_range(labels, plan)], return_counts=True)
    pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
    if pairs[0][0] == NO_CLASS:
        raise LossError(_no_class_in_words(pairs[0][1]), hint=_ON_CPU)
    if plan.multilabel and all(value == plan.ignore_index for value, _ in pairs):
        raise LossError(
            f"Labels hold the ignored {plan.ignore_index} in some channels of a pixel only; a pixel is ignored in all.",
            seen=f"{pairs[0][1]} values",
            hint=f"labels.where(~(labels == {plan.ignore_index}).any(1, keepdim=True), {plan.ignore_index})",
        )
    listed = ", ".join(f"{value} ({count} pixels)" for value, count in pairs[:8])
    more = f", … ({len(pairs)} values)" if len(pairs) > 8 else ""
    ignored = "" if plan.ignore_index is None else f", {plan.ignore_index} is ignored"
    allowed = "0 and 1 of multilabel=True" if plan.multilabel else f"the classes 0 … {plan.num_values - 1}"
    raise LossError(
        f"Labels hold {len(pairs)} values outside {allowed}{ignored}.",
        seen=listed + more,
        hint=hint_for_values(labels, plan),
    )


def _no_class_in_words(count: int) -> str:
    return f"Labels hold {count} pixels without a class: fractions, or channels that are not one-hot."


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
            what = f"{count} labels of an earlier step were outside the classes 0 … {plan.num_values - 1}."
            raise LossError(
                f"In an earlier step: {_no_class_in_words(count)}" if low == NO_CLASS else what,
                seen="" if low == NO_CLASS else f"values from {low} to {high}",
                hint=_ON_CPU,
            )

    def __reduce__(self) -> tuple[type["LateCheck"], tuple[()]]:
        """Copies start afresh: events cannot be copied."""
        return LateCheck, ()
