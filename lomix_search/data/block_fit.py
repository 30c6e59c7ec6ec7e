"""How blocks of volumes fit the cases that they are cut from: which are padded, and which size cannot be meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lomix_search.data.case import size_in_words
from lomix_search.errors import DataError

_AXES = ("slices", "rows", "columns")
STEP = 16
"""Networks halve blocks several times, so sides are rounded up to a multiple of this, whatever the cases have."""


@dataclass(frozen=True)
class BlockFit:
    """Blocks of one size, and cases.

    Args:
        size: Slices, rows and columns of a block.
        shapes: The same of each case at the spacing of training, by name; at least one.
    """

    size: tuple[int, int, int]
    shapes: Mapping[str, Sequence[int]]

    @property
    def padded(self) -> list[str]:
        """Names of cases that are smaller than a block along an axis."""
        return [
            name for name, shape in self.shapes.items() if any(a < b for a, b in zip(shape, self.size, strict=True))
        ]

    @property
    def words(self) -> str:
        """How many cases are padded, and the worst of them; empty where none is."""
        if not (names := self.padded):
            return ""
        _, name, axis = min(
            (self.shapes[name][axis] / self.size[axis], name, axis) for name in names for axis in range(len(_AXES))
        )
        own = f"{self.shapes[name][axis]} of {self.size[axis]} {_AXES[axis]}"
        return (
            f"{len(names)} of {len(self.shapes)} cases are smaller than a block of {size_in_words(self.size)} and are "
            f"padded; most {name}, which has {own}"
        )

    def check(self, option: str) -> None:
        """Make sure that a block is no larger than every case, beyond what networks need it rounded up to.

        Args:
            option: What to type a size after: ``data.size=``, ``--size ``.

        Raises:
            DataError: it is, along an axis that is named.
        """
        largest = [max(shape[axis] for shape in self.shapes.values()) for axis in range(len(_AXES))]
        most = [STEP * -(-side // STEP) for side in largest]
        over = [axis for axis, side in enumerate(self.size) if side > most[axis]]
        if not over:
            return
        fitting = [min(side, limit) for side, limit in zip(self.size, most, strict=True)]
        listed = ",".join(map(str, fitting)) if option.startswith("--") else str(fitting)
        raise DataError(
            f"blocks of {size_in_words(self.size)} are larger than every case along "
            f"{' and '.join(_AXES[axis] for axis in over)}; a part of each would be nothing but padding.",
            seen=[f"the most {_AXES[axis]} of any case at the spacing of training: {largest[axis]}" for axis in over],
            hint=f"{option}{listed}   # slices, rows, columns; or look at their order and at the spacing",
        )
