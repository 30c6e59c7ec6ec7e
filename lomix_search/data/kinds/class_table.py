"""From the raw label values of a prepared folder to the class numbers, or the regions, of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.manifest import Manifest
from lomix_search.data.regions import GivenRegions, Regions, faults_of_order, read_regions
from lomix_search.errors import DataError, nearest


@dataclass(frozen=True)
class ClassTable:
    """The class number of each raw label value; values without a class are background.

    Args:
        values: Raw values of classes 1, 2, …
        ignored: Raw value whose pixels count nowhere.
        ignored_as: What stands for it; the raw value itself when left out.
    """

    values: tuple[int, ...]
    ignored: int | None = None
    ignored_as: int | None = None

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
            if 0 <= value < len(table):
                table[value] = number
        return table

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        """(class number, raw value) of what is not background."""
        own = self.ignored if self.ignored_as is None else self.ignored_as
        kept = [] if self.ignored is None or own is None else [(own, self.ignored)]
        return [*enumerate(self.values, 1), *kept]


@dataclass(frozen=True)
class PreparedLabels:
    """What a recipe makes of the raw labels of a prepared folder.

    Args:
        table: Class number of each raw label value.
        classes: Names of what is learned: classes, the background first, or regions.
        regions: Class numbers of each region; empty where one class a pixel is learned.
        ignore_index: What stands in labels for pixels that count nowhere.
        written: Class number that each region is written as, in the order of painting; empty: found out.
    """

    table: ClassTable
    classes: tuple[str, ...]
    regions: Regions = field(default_factory=dict)
    ignore_index: int | None = None
    written: tuple[int, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of class numbers in the labels, the background among them."""
        return len(self.table.values) + 1

    @property
    def named(self) -> tuple[str, ...]:
        """Names by number: the background, and then every class or region."""
        return ("background", *self.regions) if self.regions else self.classes

    def numbers(self, value: int) -> frozenset[int]:
        """Say to what of ``named`` a raw label value belongs, by number; to nothing where its pixels do not count."""
        if value == self.table.ignored:
            return frozenset()
        number = int(self.table[value])
        if not self.regions:
            return frozenset({number})
        return frozenset(i for i, values in enumerate(self.regions.values(), 1) if number in values) or frozenset({0})


def prepared_labels(
    manifest: Manifest,
    classes: Sequence[str],
    regions: GivenRegions | None = None,
    ignore: int | str | None = None,
    ignore_index: int | None = None,
    written: Sequence[int] | None = None,
) -> PreparedLabels:
    """Read what a recipe says of labels, and what the data say where it says nothing.

    Args:
        manifest: Names the raw values.
        classes: Names of classes 1, 2, …
        regions: Raw values, or names of labels, of each region; None takes those of the manifest, an empty table none.
        ignore: Raw value of pixels that count nowhere, or the name of that label; None takes the manifest's.
        ignore_index: ``loss.ignore_index``.
        written: Raw value that each region is written as; None takes the manifest's with its regions.

    Returns:
        The labels.

    Raises:
        DataError: classes and regions that exclude one another or that the data do not have, or two values that count
            nowhere.
    """
    ignored, given = _value_of(manifest, ignore), manifest.regions if regions is None else regions
    if given and ignored is None and (ignore_index or 0) > 0:
        ignored = ignore_index  # of regions there is no class whose number it could be
    known = {value: f"label {value}" for values in manifest.regions.values() for value in values}
    known = {value: name for value, name in {**known, **manifest.labels}.items() if value not in (0, ignored)}
    if classes and given:
        raise _both(classes, given, regions is None)
    if not given:
        index = _ignore_index(ignored, ignore_index, len(classes))
        table = class_table(manifest, classes, index, ignored)
        if written:
            raise DataError("data.written goes with data.regions, and classes are learned.", hint="leave it out")
        return PreparedLabels(table, ("background", *classes), {}, index)
    all_known = known | ({} if ignored is None else {ignored: manifest.labels.get(ignored, "ignored")})
    read = read_regions(given, all_known, ignored)
    values = tuple(sorted(known))
    number_of = {value: number for number, value in enumerate(values, 1)}
    index = _ignore_index(ignored, ignore_index, len(values))
    numbers = {name: tuple(number_of[value] for value in of) for name, of in read.items()}
    order = tuple(number_of[value] for value in _order(manifest, read, written))
    return PreparedLabels(ClassTable(values, ignored, index), tuple(numbers), numbers, index, order)


def _order(manifest: Manifest, regions: Regions, written: Sequence[int] | None) -> Sequence[int]:
    """Return the raw value that each region is written as; empty where it is found out."""
    if written is None:
        return manifest.written if list(regions.items()) == list(manifest.regions.items()) else ()
    if written and (faults := faults_of_order(regions, written)):
        raise DataError(
            f"data.written = {list(written)}: {faults[0]}.",
            seen=faults[1:],
            hint="a label value for each region, in their order; a later region is painted over earlier ones",
        )
    return written


def _value_of(manifest: Manifest, ignore: int | str | None) -> int | None:
    """Return the raw value that counts nowhere: the recipe's, or else the manifest's."""
    if not isinstance(ignore, str):
        return manifest.ignore if ignore is None else ignore
    found = [value for value, name in manifest.labels.items() if name == ignore]
    if not found:
        known = manifest.labels.values()
        raise DataError(
            f"data.ignore: the prepared data have no label {ignore!r}. {nearest(ignore, known)}",
            hint=f'data.ignore="{next(iter(known), "NAME")}"',
        )
    return found[0]


def _ignore_index(ignored: int | None, asked: int | None, classes: int) -> int | None:
    """Return what stands for ignored pixels; the one rule from ``data.ignore`` to ``loss.ignore_index``.

    A raw value above the class numbers stays what it is, so that labels look as in their files. One that is a class
    number becomes 255, or 65535 where 255 is a class number too.
    """
    if ignored is None:
        return asked
    index = ignored if ignored > classes else 255 if classes < 255 else 65535
    if asked not in (None, index):
        raise DataError(
            f"pixels that count nowhere have label {ignored} in the data and {asked} in loss.ignore_index; "
            f"the first is {'kept' if index == ignored else f'written as {index}'}.",
            seen=f"data.ignore = {ignored} (of the recipe, or of the data themselves), loss.ignore_index = {asked}",
            hint=f"data.ignore={ignored} loss.ignore_index=   # the second left out: the first says it",
        )
    return index


def _both(classes: Sequence[str], regions: GivenRegions, of_data: bool) -> DataError:
    known = f"data.classes {', '.join(classes)}; regions {', '.join(regions)}"
    if not of_data:
        return DataError(
            "data.classes and data.regions are both given; one of them is learned.",
            seen=known,
            hint=["data.classes=   # the regions", "data.regions=   # the classes, one for each pixel"],
        )
    return DataError(
        "the recipe names classes and the prepared data name regions that overlap; which of them to learn?",
        seen=known,
        hint=["data.classes=   # the regions", "data.regions={}   # the classes, one for each pixel"],
    )


def class_table(
    manifest: Manifest, classes: Sequence[str], ignore_index: int | None = None, raw: int | None = None
) -> ClassTable:
    """Return the class number of each raw label value.

    Args:
        manifest: Names the raw values.
        classes: Names of classes 1, 2, …
        ignore_index: As for ``load_prepared``.
        raw: The raw value that it stands for; where it is left out, ``ignore_index`` itself.

    Returns:
        What is indexed with raw labels.

    Raises:
        DataError: a class that the data does not have, or a name that means two classes or two labels.
    """
    value_of = {name: value for value, name in manifest.labels.items()}
    if not classes:
        raise DataError(
            "data.classes is missing: the names of the classes to learn.",
            hint="data.classes = [" + ", ".join(f'"{name}"' for name in value_of) + "]",
        )
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
            raise DataError(
                f"{what} names {twice[0]!r} twice; a name means one class.",
                seen=", ".join(names),
                hint="give each class a name of its own",
            )
    values = tuple(value_of[name] for name in classes)
    ignored = ignore_index if ignore_index is not None and ignore_index > len(classes) else None
    ignored = ignored if raw is None else raw
    if ignored in values:
        what = "loss.ignore_index" if raw is None else "data.ignore"
        raise DataError(
            f"label {ignored} is {classes[values.index(ignored)]!r} in data.classes; {what} leaves it out.",
            hint=f"take the name out of data.classes, or {what} out of the recipe",
        )
    return ClassTable(values, ignored, ignore_index if raw is not None else None)
