"""What one axis of a tensor is made of, and how axes split, join and are cut.

An axis is a product of factors, each of one kind: the batch, the channels, or one axis of space. The positions of a
7 × 9 grid in one axis are ``(Factor(SPACE, 7, 0), Factor(SPACE, 9, 1))``; a window partition and its reverse only split
and join factors. The positions of several maps, one map after another, are one factor that lists the axes of each, so
that a part of that length can be told when it is taken out again.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence


class FactorKind(enum.Enum):
    """What lies along a factor of an axis."""

    BATCH = enum.auto()
    CHANNELS = enum.auto()
    SPACE = enum.auto()
    SEQUENCE = enum.auto()  # the positions of several maps, one map after another
    UNKNOWN = enum.auto()


@dataclasses.dataclass(frozen=True)
class Factor:
    """A part of an axis, all of one kind.

    Args:
        kind: What lies along it.
        size: Its length.
        space: Which axis of space it belongs to, from 0; for space alone.
        parts: The axes that lie one after another along it; for a sequence alone. Their lengths add up to ``size``,
            unless the sequence was split or joined since: then nothing can be taken out of it.
    """

    kind: FactorKind
    size: int
    space: int | None = None
    parts: tuple["Axis", ...] = ()

    def of_size(self, size: int) -> "Factor":
        """Return the same kind of factor of another length."""
        return dataclasses.replace(self, size=size)

    def is_like(self, other: "Factor") -> bool:
        """Whether two factors differ in their lengths alone."""
        return self.of_size(other.size) == other


Axis = tuple[Factor, ...]
"""The factors of one axis, the slowest first; none for an axis of length 1."""

Axes = tuple[Axis, ...]


def batch(size: int) -> Axis:
    """Return an axis of images."""
    return (Factor(FactorKind.BATCH, size),)


def channels_axis(size: int) -> Axis:
    """Return an axis of channels."""
    return (Factor(FactorKind.CHANNELS, size),)


def space_axis(size: int, space: int) -> Axis:
    """Return one whole axis of space."""
    return (Factor(FactorKind.SPACE, size, space),)


def unknown_axis(size: int) -> Axis:
    """Return an axis of which only the length is known."""
    return (Factor(FactorKind.UNKNOWN, size),)


def length(axis: Axis) -> int:
    """Return the number of positions along an axis."""
    return math.prod(factor.size for factor in axis)


def shape_of(axes: Axes) -> tuple[int, ...]:
    """Return the shape of a tensor with these axes."""
    return tuple(map(length, axes))


def starts_with(axis: Axis, kind: FactorKind) -> bool:
    """Whether the slowest factor of an axis is of a kind."""
    return bool(axis) and axis[0].kind is kind


def holds_positions(axis: Axis) -> bool:
    """Whether an axis holds the positions of a map of several spatial axes, or of several maps."""
    return len(parts_of(axis)) > 1 or (len(axis) > 1 and all(factor.kind is FactorKind.SPACE for factor in axis))


def one_after_another(parts: Sequence[Axis]) -> Axis:
    """Return one axis along which several lie one after another; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    return (Factor(FactorKind.SEQUENCE, sum(map(length, parts)), parts=tuple(parts)),)


def parts_of(axis: Axis) -> Sequence[Axis]:
    """Return the axes that lie one after another on an axis; most often itself alone."""
    parts = axis[0].parts if len(axis) == 1 else ()
    return parts if parts and sum(map(length, parts)) == length(axis) else [axis]


def cut(axis: Axis, size: int) -> Axis:
    """Return an axis cut or padded to another length: whole parts of it, where the length tells which."""
    parts = parts_of(axis)
    runs = [parts[i:j] for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]
    fitting = [run for run in runs if sum(map(length, run)) == size]
    if len(parts) > 1 and len(fitting) == 1:
        return one_after_another(fitting[0])
    if starts_with(axis, FactorKind.CHANNELS):
        return channels_axis(size)  # even if positions were shuffled into them
    known = len(axis) == 1 and axis[0].kind is not FactorKind.SEQUENCE
    return (axis[0].of_size(size),) if known else unknown_axis(size)


def regrouped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Deal the factors out to the axes of another shape of as many elements, in order, splitting where needed.

    Args:
        axes: The axes of a tensor.
        shape: The shape that it is given.

    Returns:
        Its new axes, or None where a factor would have to be split unevenly.
    """
    left = [factor for axis in axes for factor in axis if factor.size > 1]
    found = []
    for wanted in shape:
        axis: list[Factor] = []
        while wanted > 1:
            if not left:
                return None
            factor = left.pop(0)
            taken = math.gcd(wanted, factor.size)
            if taken not in (wanted, factor.size):
                return None
            if taken < factor.size:
                left.insert(0, factor.of_size(factor.size // taken))
            axis.append(factor.of_size(taken))
            wanted //= taken
        found.append(_joined(axis))
    return tuple(found)


def _joined(axis: Sequence[Factor]) -> Axis:
    """Join neighbours of one kind; channels that are moved behind a spatial factor make it finer."""
    found: list[Factor] = []
    for factor in axis:
        if found and (factor.is_like(found[-1]) or _makes_finer(factor, found[-1])):
            found[-1] = found[-1].of_size(found[-1].size * factor.size)
        else:
            found.append(factor)
    return tuple(found)


def _makes_finer(factor: Factor, before: Factor) -> bool:
    return factor.kind is FactorKind.CHANNELS and before.kind not in (FactorKind.BATCH, FactorKind.CHANNELS)


def refitted(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes of a value that was cut, padded, joined to others, stacked or summed over one axis.

    Args:
        axes: The axes that it had before.
        shape: The shape that it has now.

    Returns:
        Its axes, or None where it cannot be told which axis is new or gone.
    """
    if len(axes) == len(shape) + 1:
        return _without_one(axes, shape)
    if len(axes) == len(shape) - 1:
        new = [i for i in range(len(shape)) if (*shape[:i], *shape[i + 1 :]) == shape_of(axes)]
        return (*axes[: new[0]], unknown_axis(shape[new[0]]), *axes[new[0] :]) if new else None
    if len(axes) != len(shape):
        return None
    return tuple(axis if length(axis) == size else cut(axis, size) for axis, size in zip(axes, shape, strict=True))


def _without_one(axes: Axes, shape: Sequence[int]) -> Axes | None:
    gone = [i for i in range(len(axes)) if shape_of(axes[:i] + axes[i + 1 :]) == tuple(shape)]
    gone = [i for i in gone if starts_with(axes[i], FactorKind.UNKNOWN)] or gone
    return axes[: gone[0]] + axes[gone[0] + 1 :] if gone else None
