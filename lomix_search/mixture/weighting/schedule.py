"""Weights on a schedule: mix early, focus late."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, list_ids, weighting
from lomix_search.mixture.weighting.given import check_weights

_Part = Annotated[float, Field(ge=0, le=1)]


@weighting("anneal")
class Anneal(Weighting):
    """From uniform or given weights to the finest original alone, which is what inference uses; the sum stays.

        wₖ = (1 − r)·gₖ for every map, and r·Σ g more for the finest original; gₖ = 1 by default
        r = 0 until ``start``, 1 from ``until`` on; between them x or (1 − cos πx)/2, x = (t − start)/(until − start)

    t is the part of training that is done. Once r is 1 the other maps are skipped, and a step costs as little as
    training with the last layer alone. It is a baseline: a search must find weights that beat the schedule alone.

    Args:
        maps: The maps to weigh; the finest original must be among them.
        start: t at which it begins.
        until: t at which it ends.
        shape: ``"linear"`` or ``"cosine"``.
        given: The weights at the start, ≥ 0, such as those of a mixture.
        draw: Start from this many maps instead, ≥ 1: the finest original and others drawn once, all alike. It is the
            control for a search: maps that it chose must beat as many drawn ones.
        seed: Of ``draw``; the same seed draws the same maps on every device.

    Raises:
        LossError: the finest original is missing, ``until`` lies before ``start``, the weights do not fit the maps,
            ``draw`` is more than there are maps, or stands beside ``given``.
    """

    name = "anneal"
    waits_for = "loss.weighting.advance(step / steps)   # before each step"
    progress: Tensor
    moved: Tensor
    finest: Tensor
    given: Tensor

    def __init__(
        self,
        maps: Sequence[Map],
        start: _Part = 0.0,
        until: _Part = 0.5,
        shape: Literal["linear", "cosine"] = "linear",
        given: tuple[float, ...] | None = None,
        draw: Annotated[int, Field(ge=1)] | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(maps)
        if until < start:
            raise LossError(
                f'weighting "anneal": until = {until} lies before start = {start}.',
                hint=f"start = {until}, until = {start}   # the other way round",
            )
        self.start, self.until, self.shape = start, until, shape
        self._is_finest = finest_original(maps, self.name)
        self.register_buffer("finest", torch.tensor(self._is_finest).float(), persistent=False)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        # r as a tensor: a compiled step reads its value, and is not compiled anew for each number of Python's.
        self.register_buffer("moved", torch.zeros((), dtype=torch.float64), persistent=False)
        self._go_to(0.0)
        if draw is not None:
            if given is not None:
                raise LossError(
                    'weighting "anneal": give weights or draw maps, not both.',
                    seen=f"draw = {draw}",
                    hint="leave draw out for the given weights, or given for drawn maps",
                )
            given = _drawn(self._is_finest, draw, seed)
        values = [1.0] * len(maps) if given is None else [float(w) for w in given]
        check_weights(values, self.map_ids, "Anneal")
        self._begins = tuple(w != 0 or is_finest for w, is_finest in zip(values, self._is_finest, strict=True))
        self.register_buffer("given", torch.tensor(values), persistent=False)

    def weights(self) -> Tensor:
        """Return the weights at this point of training."""
        mix = self.given * self.kept
        return (1 - self.moved) * mix + self.moved * mix.sum() * self.finest

    def active(self) -> tuple[bool, ...]:
        """Say which maps count: the finest alone once all weight is on it, none that starts with 0 before."""
        if self._over:
            return self._is_finest
        return tuple(kept and begins for kept, begins in zip(self._kept, self._begins, strict=True))

    def advance(self, progress: float) -> None:
        """Go to a point of training.

        Args:
            progress: t in [0, 1].
        """
        self.waits_for = ""
        self.progress.fill_(progress)
        self._go_to(progress)

    def _go_to(self, progress: float) -> None:
        moved = self._moved(progress)
        self.moved.fill_(moved)
        self._over = moved == 1

    def _moved(self, progress: float) -> float:
        """Return r."""
        if progress >= self.until:
            return 1.0
        if progress <= self.start:
            return 0.0
        part = (progress - self.start) / (self.until - self.start)
        return part if self.shape == "linear" else (1 - math.cos(math.pi * part)) / 2

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Go to where the loaded state stood."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._go_to(float(self.progress))

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"start={self.start}, until={self.until}, shape={self.shape!r}"


def _drawn(finest: Sequence[bool], draw: int, seed: int) -> tuple[float, ...]:
    """Return weight 1 for the finest original and ``draw`` − 1 other maps, 0 for the rest."""
    others = [k for k, is_finest in enumerate(finest) if not is_finest]
    if draw > len(finest):
        raise LossError(f'weighting "anneal": draw = {draw} of {len(finest)} maps.', hint=f"draw = {len(finest)}")
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[: draw - 1].tolist()
    chosen = {others[k] for k in order}
    return tuple(float(is_finest or k in chosen) for k, is_finest in enumerate(finest))


def finest_original(maps: Sequence[Map], name: str) -> tuple[bool, ...]:
    """Say which map is the finest original.

    Args:
        maps: The maps of a loss.
        name: The weighting that asks.

    Returns:
        True for one map, False for the others.

    Raises:
        LossError: the original of the finest stage in use is not among the maps.
    """
    finest = max(max(m.scales) for m in maps)
    found = tuple(m.operator == "original" and m.scales == (finest,) for m in maps)
    if not any(found):
        raise LossError(
            f'weighting "{name}" needs the finest original, P{finest}, among the maps.',
            seen=list_ids([m.id for m in maps]),
            hint='originals = "all"   # in the space file',
        )
    return found
