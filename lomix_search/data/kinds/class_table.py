"""From the raw label values of a prepared folder to the class numbers of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.manifest import Manifest
from lomix_search.errors import DataError, nearest


@dataclass(frozen=True)
class ClassTable:
    """The class number of each raw label value; values without a class are background.

    Args:
        values: Raw values of classes 1, 2, …
        ignored: Raw value that stays what it is, because its pixels count nowhere.
    """

    values: tuple[int, ...]
    ignored: int | None = None

    def __getitem__(self, label: Any) -> Any:
        """Return the class numbers of raw labels (integers of any type), in the smallest type that holds them."""
        label = np.asarray(label)
        if label.dtype in (np.uint8, np.uint16):
            return self._narrow[label]
        numbers = np.zeros(label.shape, self._narrow.dtype)
        for number, value in self._pairs:
            numbers[label == value] = number
        return numbers

    @cached_property
    def _narrow(self) -> Array:
        """Class numbers of all labels of 16 bits."""
        table = np.zeros(2**16, np.min_scalar_type(max(number for number, _ in self._pairs)))
        for number, value in self._pairs:
            if value < len(table):
                table[value] = number
        return table

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        """(class number, raw value) of what is not background."""
        kept = [] if self.ignored is None else [(self.ignored, self.ignored)]
        return [*enumerate(self.values, 1), *kept]


def class_table(manifest: Manifest, classes: Sequence[str], ignore_index: int | None = None) -> ClassTable:
    """Return the class number of each raw label value.

    Args:
        manifest: Names the raw values.
        classes: Names of classes 1, 2, …
        ignore_index: As for ``load_prepared``.

    Returns:
        What is indexed with raw labels.

    Raises:
        DataError: a class that the data does not have, or a name that means two classes or two labels.
    """
    value_of = {name: value for value, name in manifest.labels.items()}
    if missing := [name for name in classes if name not in value_of]:
        raise DataError(
            f"the prepared {manifest.benchmark} data has no label {missing[0]!r}. {nearest(missing[0], value_of)}",
            hint="data.classes = [" + ", ".join(f'"{name}"' for name in value_of) + "]",
        )
    for what, names in (
        ("data.classes", classes),
        ("the prepared data", [n for n in manifest.labels.values() if n in classes]),
    ):
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise DataError(f"{what} names {twice[0]!r} twice; a name means one class.", seen=", ".join(names))
    values = tuple(value_of[name] for name in classes)
    ignored = ignore_index if ignore_index is not None and ignore_index > len(classes) else None
    if ignored in values:
        raise DataError(
            f"label {ignored} is {classes[values.index(ignored)]!r} in data.classes; loss.ignore_index leaves it out.",
            hint="take the name out of data.classes, or loss.ignore_index out of the recipe",
        )
    return ClassTable(values, ignored)
