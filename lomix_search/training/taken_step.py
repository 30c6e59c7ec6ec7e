"""What a step said, still on the device, and the numbers of several steps fetched at once; buffers that can go back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Numbers = dict[str, float | str | list[float]]


@dataclass(frozen=True, eq=False)
class TakenStep:
    """A step that was taken; its tensors have no gradients and are on the device.

    Args:
        number: Of the step, 1 for the first.
        rate: The learning rate after it.
        total: The loss.
        norm: Of the gradient; None where it was not computed, because the loss was not finite.
        losses: Of the maps (m,).
        weights: Of the maps (m,).
        broken: How many values of the images are not finite; None where the step itself already asked.
        seen: What else is to be logged.
    """

    number: int
    rate: float
    total: Tensor
    norm: Tensor | None
    losses: Tensor
    weights: Tensor
    broken: Tensor | None
    seen: Numbers


class Fetched(NamedTuple):
    """The numbers of a step.

    Args:
        total: The loss.
        norm: Of the gradient; None as in ``TakenStep``.
        losses: Of the maps.
        weights: Of the maps.
        broken: How many values of the images are not finite; 0 where nobody asked.
    """

    total: float
    norm: float | None
    losses: list[float]
    weights: list[float]
    broken: int


def fetch(steps: Sequence[TakenStep]) -> list[Fetched]:
    """Bring the numbers of steps to the CPU; waits for the device once.

    Args:
        steps: Any number, in order.

    Returns:
        As many.
    """
    if not steps:
        return []
    parts = [part for step in steps for part in _parts(step)]
    values = torch.cat([part.reshape(-1).double() for part in parts]).tolist()
    found, start = [], 0
    for step in steps:
        m = len(step.losses)
        total, norm, broken, *maps = values[start : start + 3 + 2 * m]
        start += 3 + 2 * m
        found.append(Fetched(total, None if step.norm is None else norm, maps[:m], maps[m:], int(broken)))
    return found


def _parts(step: TakenStep) -> tuple[Tensor, ...]:
    none = torch.zeros_like(step.total)
    norm, broken = (none if part is None else part for part in (step.norm, step.broken))
    return step.total, norm, broken, step.losses, step.weights


class KeptBuffers:
    """What buffers held before a step, in memory that is taken once."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []

    @torch.no_grad()
    def keep(self, buffers: Sequence[Tensor]) -> None:
        """Remember what buffers hold.

        Args:
            buffers: The same ones at each call, as a rule.
        """
        if [_form(one) for one in self._held] != [_form(one) for one in buffers]:
            self._held = [torch.empty_like(one) for one in buffers]
        if buffers:
            torch._foreach_copy_(self._held, list(buffers))

    @torch.no_grad()
    def put_back(self, buffers: Sequence[Tensor], where: Tensor | None = None) -> None:
        """Put back what buffers held.

        Args:
            buffers: As for ``keep``.
            where: Whether to do so, as a tensor on the device; None: yes.
        """
        for buffer, value in zip(buffers, self._held, strict=True):
            buffer.copy_(value if where is None else torch.where(where.to(buffer.device), value, buffer))


def _form(one: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return one.shape, one.dtype, one.device
