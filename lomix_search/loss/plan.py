"""What a loss computes, as a value: which maps, of how many originals and classes, and which pixels count."""

from dataclasses import dataclass

from lomix_search.space import Map

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
    """

    maps: tuple[Map, ...]
    num_maps: int
    num_classes: int
    ignore_index: int | None = None

    @property
    def binary(self) -> bool:
        """Whether there is one channel: sigmoid instead of softmax."""
        return self.num_classes == 1
