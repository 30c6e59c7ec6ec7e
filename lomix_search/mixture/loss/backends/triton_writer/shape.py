"""What kernels are written for: the shape of a problem, and how much a program holds in registers."""

from dataclasses import dataclass

LINEAR, MUL, MAX, ATTENTION, CONCAT = range(5)
"""Kinds of maps, in the order of the tables."""
SLOTS = 2
"""Maps that a program of pass 1 has at most; only the first may be of a kind that learns."""
BLOCK = 128
"""Pixels of a tile: one for each thread."""
KEPT = 160
"""Values of one pixel that are kept in registers at most: originals, their gradients, a map and its slope."""
OUTER = 200
"""Originals, and products of inputs and outputs of a concatenation, that a program keeps in registers at most."""


@dataclass(frozen=True)
class KernelShape:
    """What the kernels are compiled for.

    Args:
        scales: L.
        classes: C.
        kinds: Kinds of maps that occur.
        sigmoid: Each channel is judged by itself.
        squares: SumsWriter of p² are wanted, not of p.
        per_image: Each image has sums of its own.
        weighted: Classes have weights.
        double: Compute in float64, else in float32.
        coarse: Scales whose originals are coarser than the labels, from 0.
        axes: Spatial axes; 0 where no original is coarser, which they do not matter to.
        focal: Cross-entropies have a focal factor.
        smoothed: The truth is smoothed.
        largest: Only the largest cross-entropies count: pass 1 writes all of them, pass 2 is told from where they do.
        bounded: Pixels have boundary weights, and each channel a cross-entropy of its own.
    """

    scales: int
    classes: int
    kinds: tuple[int, ...]
    sigmoid: bool
    squares: bool
    per_image: bool
    weighted: bool
    double: bool
    coarse: tuple[int, ...] = ()
    axes: int = 0
    focal: bool = False
    smoothed: bool = False
    largest: bool = False
    bounded: bool = False

    @property
    def by_pixel(self) -> bool:
        """Whether the slope of a cross-entropy is more than its weight times p − y."""
        return self.focal or self.smoothed or self.largest

    @property
    def columns(self) -> int:
        """Cross-entropies of a map that are averaged by themselves, K."""
        return self.classes if self.bounded else 1

    @property
    def tables(self) -> str:
        """Names of what all kernels read beside the originals."""
        return f"labels, weights, factors, dense, dense2{', bounds' * self.bounded}"

    @property
    def slope_tables(self) -> str:
        """Names of what pass 2 reads besides."""
        return f"slopes, gains{', cuts' * self.largest}"

    @property
    def kept(self) -> bool:
        """Whether originals and gradients stay in registers; else each map reads them again."""
        return 2 * self.classes * (self.scales + 1) <= KEPT

    @property
    def sizes(self) -> list[str]:
        """Names of the numbers that say how large labels and coarse originals are along each axis."""
        names = [f"full{a}" for a in range(self.axes)]
        return [*names, *(f"own{i}_{a}" for i in self.coarse for a in range(self.axes))]

    @property
    def slots(self) -> int:
        """Number of maps that a program of pass 1 has."""
        return SLOTS if self.kept else 1

    @property
    def row(self) -> int:
        """Values of one row of a table of weights, C and a bias, in an even number: they are read in pairs."""
        return self.classes + 1 + (self.classes + 1) % 2

    @property
    def outer(self) -> tuple[int, int]:
        """How many scales, and inputs of each, a program has whose products with C outputs are summed in registers."""
        room = OUTER - self.scales * self.classes
        inputs = min(self.classes, max(1, room // self.classes))
        return (2 if 2 * inputs * self.classes <= room else 1), inputs

    @property
    def padded(self) -> int:
        """Classes in a matrix product, which takes no fewer than 16."""
        return max(16, 1 << (self.classes - 1).bit_length())

    @property
    def matrix_block(self) -> int:
        """Pixels in a matrix product."""
        return max(16, min(64, 1024 // self.padded))
