"""From what a network returns to class numbers: the one place where both questions are answered.

Which of its outputs are the logits, and what do they say? Validation, evaluation, reports and pictures all ask here.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LomixError, RunError, TraceError
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.logits import logits_in
from lomix_search.instrumentation.stages.named_maps import line_that_takes
from lomix_search.instrumentation.stages.read_logits import read_logits
from lomix_search.instrumentation.stages.returned_logits import find_returned_logits
from lomix_search.instrumentation.stages.stage import ReturnedLogits
from lomix_search.instrumentation.trace import leaves, shapes, unwrap

Reader = Callable[[Tensor], Tensor]
"""Images (B, C, *spatial) → logits (B, classes, *spatial of the network's own)."""


def reader_of(network: nn.Module | Reader, classes: int | None = None, multilabel: bool = False) -> Reader:
    """Return a function that runs a network and returns its logits.

    An instrumented network knows where they are. A bare one that returns one tensor of plain logits is taken at its
    word; any other is traced on the first batch, as ``instrument`` does, and found to return the same map.

    Args:
        network: In eval mode whenever the reader is called. A reader is returned as it is.
        classes: Number of classes, the background among them; the logits must have as many channels, or one for two
            classes. None takes any.
        multilabel: They are regions instead, which have no background: one channel each.

    Returns:
        The reader.
    """
    if not isinstance(network, nn.Module):
        return network
    inner = unwrap(network)
    if isinstance(inner, Instrumented):
        return _Checked(inner.logits, type(unwrap(inner.model)).__name__, classes, multilabel)
    channels = None if classes is None else channels_for(classes, multilabel)
    return _Checked(_Bare(network, channels), type(inner).__name__, classes, multilabel)


def channels_for(classes: int, multilabel: bool = False) -> tuple[int, ...]:
    """Return how many channels of logits a task may have, the usual number first."""
    return (2, 1) if classes == 2 and not multilabel else (classes,)


def class_numbers(logits: Tensor, multilabel: bool = False) -> Tensor:
    """Return the class of each pixel, or of overlapping regions which of them it lies in.

    Args:
        logits: (B, C, *spatial); one channel means a binary task.
        multilabel: Each channel is a region of its own.

    Returns:
        (B, *spatial) int64: the largest channel; of one channel, 1 where it is above 0, which is a probability of 0.5.
        Multi-label (B, C, *spatial) uint8: 1 in every channel that is above 0.
    """
    if multilabel:
        return (logits > 0).to(torch.uint8)
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else largest_channel(logits, 1)


def largest_channel(values: Tensor, dim: int) -> Tensor:
    """Return the number of the largest channel of each pixel: of equal ones the first, of NaN the first NaN.

    As ``argmax``, which on a CPU takes five to twelve times as long where channels do not stand last.

    Args:
        values: Logits or probabilities of any shape.
        dim: Which axis holds the channels.

    Returns:
        int64, without that axis.
    """
    return values.max(dim).indices


def probabilities(logits: Tensor, multilabel: bool = False) -> Tensor:
    """Return the probability of each class.

    Args:
        logits: (B, C, *spatial); one channel means a binary task.
        multilabel: Each channel is a region of its own, by the logistic function.

    Returns:
        (B, classes, *spatial), float32 at least; of one channel, those of background and foreground. Multi-label: of
        each region.

    Raises:
        RunError: a logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise RunError("the network returned NaN or infinite logits.", hint="load the best checkpoint, or search again")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if multilabel:
        return torch.sigmoid(wide)
    if wide.shape[1] > 1:
        return torch.softmax(wide, 1)
    foreground = torch.sigmoid(wide)
    return torch.cat([1 - foreground, foreground], 1)


class _Checked:
    """A reader whose channels must be those of the classes."""

    def __init__(self, read: Reader, title: str, classes: int | None, multilabel: bool) -> None:
        self.read, self.title, self.classes, self.multilabel = read, title, classes, multilabel

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.read(images)
        if self.classes is not None and logits.shape[1] not in channels_for(self.classes, self.multilabel):
            raise RunError(
                f"{self.title} returns {logits.shape[1]} channels; the data has {self.classes} "
                f"{'regions' if self.multilabel else 'classes'}.",
                seen=f"logits: {shapes(((logits,), {}))}",
                hint=f"build the network with {self.classes} output channels"
                + (", one a region and none for the background" if self.multilabel else ""),
            )
        return logits


class _Bare:
    """Reads a network that is not instrumented."""

    def __init__(self, network: nn.Module, channels: tuple[int, ...] | None) -> None:
        self.network, self.channels = network, channels
        self.plain = False  # whether it was seen to return plain logits
        self.returned: ReturnedLogits | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self.returned is not None and self.returned.tap is not None:
            return logits_in(self.network, self.returned, (images,), {})
        output = self.network(images)
        if self.returned is None:
            alone = self._only_map(output, images)
            if alone is not None and (self.plain or not torch.isfinite(alone).all()):
                return alone
            if alone is not None and _plainly_logits(alone):
                self.plain = True
                return alone
            self.returned = self._find(images, output, alone)
            if self.returned.tap is not None:
                return self(images)
        return read_logits(self.returned, output, type(unwrap(self.network)).__name__)

    def _only_map(self, output: Any, images: Tensor) -> Tensor | None:
        """Return the one tensor that an output holds, if it looks like a map of logits; else None."""
        found = [leaf for _, leaf in leaves(output) if isinstance(leaf, Tensor)]
        one = found[0] if len(found) == 1 else None
        if one is None or one.ndim != images.ndim or len(one) != len(images) or not one.is_floating_point():
            return None
        known = one.shape[2:] == images.shape[2:] if self.channels is None else one.shape[1] in self.channels
        return one if known else None

    def _find(self, images: Tensor, output: Any, alone: Tensor | None) -> ReturnedLogits:
        title = type(unwrap(self.network)).__name__
        seen = [f"output {shapes(((leaf,), {}))}" for _, leaf in leaves(output) if isinstance(leaf, Tensor)]
        try:
            found = self._found(images)
        except LomixError as cause:
            by_values = _by_values(alone) if isinstance(cause, TraceError) and alone is not None else None
            if by_values is not None:
                return by_values
            raise RunError(
                f"what {title} returns cannot be read as logits (B, C, *spatial): {str(cause).splitlines()[0]}",
                seen=seen or f"a {type(output).__name__}",
                hint="return the logits alone from forward(), without a softmax or sigmoid",
            ) from cause
        if found.rivals:
            count = 1 + len(found.rivals)
            raise RunError(
                f"{title} returns {count} maps that could be the logits; which is meant cannot be told.",
                seen=seen,
                hint=[line_that_takes(place, "network") for place in (found.place, *found.rivals)],
            )
        return found

    def _found(self, images: Tensor) -> ReturnedLogits:
        """Find the logits as ``instrument`` does; where these have other channels, those that have the right ones."""
        found = find_returned_logits(self.network, images[:2])
        if self.channels is not None and found.classes not in self.channels:
            for channels in self.channels:
                with contextlib.suppress(LomixError):
                    return find_returned_logits(self.network, images[:2], channels)
        return found


def _plainly_logits(values: Tensor) -> bool:
    """Whether values must be logits, because they are neither probabilities nor logarithms of probabilities.

    The logarithm of a softmax counts as logits. Resized probabilities may lie a little outside 0 … 1, so some values
    must lie well below 0; of one channel, which is compared with 0, some must lie above 1 too.
    """
    low, high = (float(v) for v in torch.aminmax(values.detach()))
    if values.shape[1] == 1:
        return low < -0.5 and high > 1.1
    return low < -0.5 and (high > 0 or _sums_to_one(values.float().exp()))


def _by_values(values: Tensor) -> ReturnedLogits | None:
    """Say by its values what the one tensor is that a network returned; for networks that cannot be traced.

    None if the values do not tell.
    """
    if values.min() < -0.1 or values.max() > 1.1:
        return ReturnedLogits((), values.shape[1], values.ndim)
    if values.shape[1] > 1 and _sums_to_one(values.float()):
        return ReturnedLogits((), values.shape[1], values.ndim, "softmax")
    return None


def _sums_to_one(values: Tensor) -> bool:
    return bool(((values.sum(1) - 1).abs() < 1e-3).all())
