"""What a protocol is: which measures, what an empty mask counts, and how a prediction gets back to the case's size."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lomix_search.data.case import Array
from lomix_search.errors import DataError

ScoreFunction = Callable[[Array, Array, tuple[float, ...], Array | None, Array | None], dict[str, float]]


@dataclass(frozen=True)
class Protocol:
    """How a case is predicted and scored.

    Args:
        name: Its name.
        measures: Names of what it reports, the one to compare by first.
        resize: How a prediction gets back to the case's size: ``nearest`` (class numbers) or ``linear`` (logits).
        score: (prediction, truth, spacing, foreground probability or None, pixels that count or None for all) of one
            class → values by name. Neither prediction nor truth holds pixels that do not count.
        about: What it stands for, in one line.
        plane: Made for pictures: (rows, columns), or a volume of one slice.
        voxels: Distances are in voxels even where the spacing in mm is known.
        soft: The foreground probability is asked for.
    """

    name: str
    measures: tuple[str, ...]
    resize: Literal["nearest", "linear"]
    score: ScoreFunction
    about: str
    plane: bool = False
    voxels: bool = False
    soft: bool = False

    def unit(self, spacing: tuple[float, ...]) -> Literal["mm", "voxel"]:
        """Return the unit of distances in a case of this spacing; an empty spacing is an unknown one."""
        return "mm" if spacing and not self.voxels else "voxel"

    def check_shape(self, label: Array, name: str) -> None:
        """Refuse a case that the protocol is not made for.

        Args:
            label: Of the case, (slices, rows, columns).
            name: Of the case.

        Raises:
            DataError: a volume of several slices for a protocol of pictures.
        """
        if self.plane and math.prod(label.shape[:-2]) != 1:
            raise DataError(
                f"{name}: protocol {self.name} scores pictures, and this is a volume of {label.shape[0]} slices.",
                hint='evaluate.protocol="strict"',
            )


def plane_of(values: Array) -> Array:
    """Return a picture as (rows, columns).

    Args:
        values: (rows, columns), or a volume of one slice.

    Returns:
        The picture.

    Raises:
        DataError: there are several slices.
    """
    if math.prod(values.shape[:-2]) != 1:
        raise DataError(
            "this protocol scores pictures, one at a time.",
            seen=f"an array of {values.shape}",
            hint='evaluate.protocol="strict"   # for volumes; or score each slice by itself',
        )
    return values.reshape(values.shape[-2:])
