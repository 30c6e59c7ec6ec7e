"""One case in the one form that everything here computes with, whatever file it came from.

An image is ``(slices, channels, rows, columns)``: slices run from feet to head, rows from front to back, columns from
the patient's right to left, so that a slice looks as radiologists show it. A label is ``(slices, rows, columns)``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One case: a volume, or a picture as a volume of one slice.

    Args:
        name: Its name; may hold ``/``.
        image: (slices, channels, rows, columns).
        label: (slices, rows, columns), raw label values. Masks (R, slices, rows, columns) of 0 and 1 where regions
            overlap in a way that no label values tell.
        spacing: Millimetres between slices, rows, columns; empty where it is not known.
        origin: How to write a prediction in the file's own form: ``affine``, ``shape`` and ``header`` of a NIfTI file;
            ``size`` of a picture, with ``values``, pairs of a label value and what the file has in its place, where
            the reader changed them; with ``colours``, pairs of a label value and 0xRRGGBB, where masks are coloured; or
            with ``palette``, pairs of an index and 0xRRGGBB, where they have one. Empty otherwise.
        patient: Whose it is; intervals are drawn by patient. The case's own name when left out.
        small: The image as training sees it, (slices, channels, rows, columns) of that size; resized from ``image``
            when left out.
        corners: ``small`` has its corner pixels on those of ``image``, as volumes that earlier versions prepared.
        values: What the raw file writes for class 0, 1, …, where it is not these numbers; predictions are saved so.
        dims: 3: ``small`` is the volume at the spacing of training, which a network for volumes takes block by block.
    """

    name: str
    image: Array
    label: Array
    spacing: tuple[float, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    patient: str = ""
    small: Array | None = None
    corners: bool = False
    values: tuple[int, ...] = ()
    dims: int = 2


def size_in_words(shape: Iterable[float]) -> str:
    """Return a size as messages show it: ``12 × 512 × 512``.

    Args:
        shape: Whole numbers, or millimetres.

    Returns:
        The numbers with × between them.
    """
    return " × ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in shape)
