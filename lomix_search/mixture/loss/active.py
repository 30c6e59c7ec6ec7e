"""Values of the maps that count, put where they stand among all."""

from itertools import groupby

import torch
from torch import Tensor, nn


class ActiveMaps(nn.Module):
    """Knows which maps count, and keeps their indices on the device between steps; no state of its own.

    Args:
        active: One answer a map.
    """

    _kept: Tensor

    def __init__(self, active: tuple[bool, ...]) -> None:
        super().__init__()
        self._active = active
        self.register_buffer("_kept", _indices(active), persistent=False)

    def spread_out(self, values: Tensor, active: tuple[bool, ...], others: float) -> Tensor:
        """Put the values of active maps where they stand among all.

        Args:
            values: One value for each active map.
            active: Which maps count now.
            others: Value of those that do not.

        Returns:
            One value for each map.
        """
        if all(active):
            return values
        if torch.compiler.is_compiling():
            return _in_runs(values, active, others, packed=True)
        return values.new_full((len(active),), others).index_copy(0, self._where(active), values)

    def without_others(self, values: Tensor, active: tuple[bool, ...]) -> Tensor:
        """Put NaN in the place of values that were not computed: 0 would look like a perfect map.

        Args:
            values: One value for each map.
            active: Which maps count now.
        """
        if all(active):
            return values
        if torch.compiler.is_compiling():
            return _in_runs(values, active, torch.nan, packed=False)
        return self.spread_out(values[self._where(active)], active, torch.nan)

    def _where(self, active: tuple[bool, ...]) -> Tensor:
        if self._active != active:
            self._kept, self._active = _indices(active).to(self._kept.device), active
        return self._kept


def _indices(active: tuple[bool, ...]) -> Tensor:
    return torch.tensor([i for i, wanted in enumerate(active) if wanted])


def _in_runs(values: Tensor, active: tuple[bool, ...], others: float, packed: bool) -> Tensor:
    """Do the same without indices: to keep them changes this module, for which a step would be compiled once more."""
    pieces, at = [], 0
    for wanted, run in groupby(active):
        length = len(list(run))
        pieces.append(values[at : at + length] if wanted else values.new_full((length,), others))
        at += length if wanted or not packed else 0
    return torch.cat(pieces)
