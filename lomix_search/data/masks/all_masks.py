"""All masks of a dataset, read in one way: as numbers, as one channel, or as colours."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lomix_search.data.masks.grains import Grain, StoredValue, summed, value_in_words
from lomix_search.data.masks.mask_file import MaskSummary, ReadAs, channel, key_of
from lomix_search.errors import DataError


@dataclass(frozen=True)
class AllMasks:
    """All masks of a dataset, read in one way.

    Args:
        seen: What was seen in each.
        how: How they are read.
    """

    seen: Sequence[MaskSummary]
    how: ReadAs

    @cached_property
    def each(self) -> list[dict[StoredValue, Grain]]:
        """What each mask holds."""
        found: list[dict[StoredValue, Grain]] = []
        for one in self.seen:
            found.append({})
            for value, grain in one.grains.items():
                key = key_of(value, one.colours, self.how)
                found[-1][key] = summed([grain, found[-1].get(key, Grain(0, 0, 0))])
        return found

    @cached_property
    def total(self) -> dict[StoredValue, Grain]:
        """What all of them hold, by ascending value."""
        keys = sorted({key for one in self.each for key in one})
        return {key: summed([one[key] for one in self.each if key in one]) for key in keys}

    @property
    def keys(self) -> list[StoredValue]:
        """All values, ascending."""
        return list(self.total)

    @property
    def foreground(self) -> list[StoredValue]:
        """All values except 0."""
        return [key for key in self.total if key != 0]

    @cached_property
    def noisy(self) -> list[MaskSummary]:
        """JPEG masks of more than two values."""
        return [one for one in self.seen if one.lossy and len(one.grains) > 2]

    def having(self, keys: Iterable[StoredValue]) -> list[Path]:
        """Return the masks that have one of these values."""
        wanted = set(keys)
        return [s.path for s, one in zip(self.seen, self.each, strict=True) if not wanted.isdisjoint(one)]

    def shown(self, keys: Sequence[StoredValue]) -> str:
        """Return values in words."""
        words = [f"#{int(k):06x}" if self.how == "colour" else value_in_words(k) for k in keys]
        return ", ".join(words) if len(words) <= 12 else f"{', '.join(words[:8])} … {words[-1]}"

    def refused(self, why: str, bad: Sequence[StoredValue], first: Path | None = None) -> DataError:
        """Return the error about values that are not classes, with their count and the first file."""
        files = self.having(bad)
        where = [f"{self.shown([k])} first in {self.having([k])[0]}" for k in bad] if len(bad) <= 4 else []
        return DataError(
            f"{first or files[0]}: {len(self.keys)} values in all masks together; {why}.",
            seen=[f"{self.shown(self.keys)}; {len(files)} of {len(self.seen)} masks are concerned", *where],
            hint=[
                "lomix new … --binary          # all but the background is one foreground; soft edges are cut halfway",
                "lomix new … --classes a,b,…   # a name for each value above 0, if all of them are classes",
                *["lomix new … --ignore 255      # if 255 marks pixels to leave out"]
                * (self.keys[-1] == 255 and not self.noisy),
            ],
        )


def how_to_read(seen: Sequence[MaskSummary]) -> ReadAs:
    """Decide whether numbers, indices or colours count."""
    palettes, coloured = [s for s in seen if s.kind == "palette"], [s for s in seen if s.kind == "colour"]
    numbers = [s for s in seen if s.kind == "number"]
    indexed = not palettes or (not coloured and _index_counts(palettes, bool(numbers)))
    if not coloured and indexed:
        return "number"
    how = channel({c for s in (*palettes, *coloured) for c in s.colours.values()})
    if how == "colour" and (other := [s for s in numbers if set(s.grains) - {0}]):
        raise DataError(
            f"{other[0].path}: {len(other)} of {len(seen)} masks hold numbers and the others colours.",
            seen=f"first in colours: {(coloured or palettes)[0].path}",
            hint="save all masks in one form, to a new folder",
        )
    return how


def _index_counts(palettes: Sequence[MaskSummary], beside_numbers: bool) -> bool:
    """Whether an index is a number: its colour is the same in all files and does not say the opposite."""
    pairs = {pair for s in palettes for pair in s.colours.items()}
    colours = [colour for _, colour in sorted(pairs)]
    if len({index for index, _ in pairs}) < len(pairs) or any(s.swapped for s in palettes):
        return False
    return not (channel(colours) == "grey" and (colours != sorted(colours) or beside_numbers))
