"""The decision about the masks of a dataset, and how it turns what a file holds into label values."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array
from lomix_search.data.masks.grains import StoredValue, ranked, value_in_words
from lomix_search.data.masks.mask_file import BLACK_WHITE, MaskFile, MaskSummary, ReadAs, key_of
from lomix_search.errors import DataError


@dataclass(frozen=True)
class Coding:
    """How to turn what the masks of a dataset hold into label values.

    Args:
        how: Read as numbers or indices, as grey or one channel of colours, or as whole colours.
        labels: Label value of what is stored; 0 is the background.
        names: What to call each label value when nobody names it.
        cut: Values above it are foreground, where binary masks have soft edges.
        masks: In how many masks each label value is.
        said: The decision in words.
        ignore: Label value that stays what it is, because its pixels count nowhere.
        colours: 0xRRGGBB of what is stored, where masks have colours but are read as numbers.
        palette: All masks have one palette, whose indices are the numbers.
    """

    how: ReadAs
    labels: Mapping[StoredValue, int]
    names: Mapping[int, str]
    cut: float | None
    masks: Mapping[int, int]
    said: str
    ignore: int | None = None
    colours: Mapping[StoredValue, int] = field(default_factory=dict)
    palette: bool = False

    def coloured_as(self, seen: Sequence[MaskSummary]) -> "Coding":
        """Return the same with the colours that the masks have, so that predictions can be written like them.

        Args:
            seen: All masks.

        Returns:
            The same where masks are grey of several bits, or differ in their form. Those of 1 bit are black and white.
        """
        if self.how == "number" and self.cut is None and seen and all(one.one_bit for one in seen):
            return replace(self, colours=BLACK_WHITE, palette=True)
        kinds = {one.kind for one in seen}
        if self.how in ("colour", "grey") or "number" in kinds or len(kinds) != 1 or self.cut is not None:
            return self
        found = [(key_of(value, one.colours, self.how), c) for one in seen for value, c in one.colours.items()]
        one_each = len(set(found)) == len({key for key, _ in found})
        return replace(self, colours=dict(sorted(found)), palette=self.how == "number") if one_each else self

    @property
    def origin(self) -> dict[str, Any]:
        """What a case says of its masks: how they were read, and what the files hold where labels differ from it."""
        pairs = [
            [label, key] for key, label in self.labels.items() if label != key and isinstance(key, int) and key >= 0
        ]
        known = self.cut is None and len(set(self.labels.values())) == len(self.labels)
        if known and self.how == "colour":
            return {"masks": self.said, "colours": [[label, int(key)] for key, label in self.labels.items()]}
        if known and self.colours and not self.palette:
            named = [[label, self.colours[key]] for key, label in self.labels.items() if key in self.colours]
            return {"masks": self.said, "colours": named}
        if known and self.palette:  # by index, which is what a file of labels holds
            entries = [[int(key), colour] for key, colour in self.colours.items()]
            return {"masks": self.said, "palette": entries} | ({"values": pairs} if pairs else {})
        return {"masks": self.said} | ({"values": pairs} if pairs and known else {})

    @property
    def reading(self) -> str:
        """The decision with a hash of all of it, so that a case that was prepared by another decision is made again."""
        whole = repr((self.how, sorted(self.labels.items()), self.cut, *[self.ignore] * (self.ignore is not None)))
        return f"{self.said} [{hashlib.sha256(whole.encode()).hexdigest()[:8]}]"

    def read(self, mask: MaskFile) -> Array:
        """Turn a mask of this dataset into label values.

        Args:
            mask: What its file holds.

        Returns:
            (rows, columns), label values, uint8 or uint16.

        Raises:
            DataError: it holds what no mask held when this was decided.
        """
        return self.apply(mask.keys(self.how), mask.path)

    def apply(self, keys: Array, path: Path) -> Array:
        """Turn what counts in a file into label values.

        Args:
            keys: Numbers, or colours as 0xRRGGBB; any shape.
            path: The file, for the message.

        Returns:
            The same shape, uint8 or uint16.

        Raises:
            DataError: a value that no mask held when this was decided.
        """
        kind = np.uint8 if max([*self.labels.values(), self.ignore or 0]) < 256 else np.uint16
        if self.cut is not None:
            cut = np.where(keys > self.cut, max(self.labels.values()), 0).astype(kind)
            return cut if self.ignore is None else np.where(keys == self.ignore, kind(self.ignore), cut)
        values, places = ranked(keys)
        labels = dict(self.labels)
        if self.ignore is not None and self.how != "colour":
            labels[self.ignore] = self.ignore
        if unknown := [value_in_words(v) for v in values if v not in labels]:
            raise DataError(f"{path}: {', '.join(unknown[:8])} was in no mask before.", hint="run lomix new again")
        return np.array([labels[v] for v in values], kind)[places]
