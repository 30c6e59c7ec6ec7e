"""What a loss computes, as a value: which maps, of how many originals and classes, and which pixels count."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lomix_search.mixture.space import Map

SMOOTH = 1e-5
"""Added to both sides of the Dice fraction, as in the paper."""


@dataclass(frozen=True)
class Plan:
    """One call of ``per_map_losses``, without its tensors.

    Args:
        maps: The maps whose losses are wanted, in order.
        num_maps: L, number of originals, coarse to fine.
        num_classes: C; 1 means binary, with a sigmoid.
        ignore_index: Pixels with this label count nowhere; None if all count.
        together: Sums are those of all processes of a distributed run.
    """

    maps: tuple[Map, ...]
    num_maps: int
    num_classes: int
    ignore_index: int | None = None
    together: bool = False

    @property
    def binary(self) -> bool:
        """Whether there is one channel: sigmoid instead of softmax."""
        return self.num_classes == 1


def widest(maps: Sequence[Tensor]) -> torch.dtype:
    """Return the type that losses of these maps are computed in: float64 if one of them is, else float32."""
    return torch.float64 if any(one.dtype == torch.float64 for one in maps) else torch.float32
