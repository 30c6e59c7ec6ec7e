"""What the last call of a loss said of each map: its loss and its weight."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lomix_search.errors import LossError


@dataclass(frozen=True, eq=False)
class PerMap:
    """Losses and weights of one call, by map; on the device of the maps, without gradients.

    Args:
        ids: Of the maps; the finest original's alone where one map was given.
        losses: ℓₖ (m,); NaN for maps that were skipped because their weight is 0.
        weights: wₖ (m,).
    """

    ids: tuple[str, ...]
    losses: Tensor
    weights: Tensor

    def as_dict(self) -> dict[str, tuple[float, float]]:
        """Return loss and weight by the map's id, as numbers; waits for the device."""
        rows = zip(self.ids, self.losses.tolist(), self.weights.tolist(), strict=True)
        return {name: (loss, weight) for name, loss, weight in rows}

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        """Return a table, one line a map, the largest share of the total first; waits for the device."""
        rows = [(name, *numbers, numbers[0] * numbers[1]) for name, numbers in self.as_dict().items()]
        rows.sort(key=lambda row: -row[3] if row[3] == row[3] else float("inf"))
        width = max(len("map"), *(len(row[0]) for row in rows))
        lines = [f"{name:<{width}}  {loss:9.4f}  {weight:9.4f}  {part:9.4f}" for name, loss, weight, part in rows]
        return "\n".join([f"{'map':<{width}}  {'loss':>9}  {'weight':>9}  {'product':>9}", *lines])


class LastCall:
    """Holds what a loss computed last. It is no part of the loss's state: copies and pickles start empty.

    The copies of a module that ``torch.nn.DataParallel`` makes share it: the original tells what one of them saw.
    """

    def __init__(self) -> None:
        self.losses: Tensor | None = None
        self.weights: Tensor | None = None
        self.active: tuple[bool, ...] = ()

    def note(self, losses: Tensor, weights: Tensor, active: tuple[bool, ...]) -> None:
        """Take note of a call.

        Args:
            losses: ℓ (m,), detached.
            weights: w (m,), detached.
            active: Which maps were computed.
        """
        self.losses, self.weights, self.active = losses, weights, active

    def read(self, ids: Sequence[str]) -> PerMap:
        """Return what was noted.

        Args:
            ids: Of all maps, or of the one that was given alone.

        Raises:
            LossError: the loss was not called yet.
        """
        if self.losses is None or self.weights is None:
            raise LossError("This loss was not called yet; per_map tells of the last call.", hint="loss(maps, labels)")
        return PerMap(tuple(ids), self.losses, self.weights)

    def __reduce__(self) -> tuple[type["LastCall"], tuple[()]]:
        """Copies start empty."""
        return LastCall, ()
