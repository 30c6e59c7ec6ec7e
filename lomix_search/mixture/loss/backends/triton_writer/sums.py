"""Pass 1: the sums over pixels that the losses of all maps follow from."""

from collections.abc import Iterator
from contextlib import contextmanager

from lomix_search.mixture.loss.backends.triton_writer.pixel_loss import PixelLossWriter
from lomix_search.mixture.loss.backends.triton_writer.shape import (
    ATTENTION,
    BLOCK,
    KernelShape,
)


class SumsWriter(PixelLossWriter):
    """Pass 1. Axes of the grid: entries of the table, parts of the tiles, images if each has its own row.

    The weights of a program's maps are the same for all its tiles. They are read anew for each: the compiler, if it
    knew, would hold hundreds of them in registers.
    """

    def write(self) -> None:
        """Write all lines of the kernel."""
        shape = self.shape
        to = f"entries, rows{', held, values' * shape.largest}"
        with self.block(f"def sums({self.arguments('M')}, {shape.tables}, {to}, {self.numbers}):"):
            self.add(
                f"lane = tl.arange(0, {BLOCK})",
                "part = tl.program_id(1)",
                "row = tl.program_id(2)",
                f"size = m * {2 * shape.classes + shape.columns} + {shape.classes + shape.columns}",
                "to = rows + (part * tl.num_programs(2) + row).to(tl.int64) * size",
            )
            with self.block("if tl.program_id(0) == 0:"):
                self._counts()
            with self.block("else:"):
                self._losses()

    @contextmanager
    def _tiles(self) -> Iterator[None]:
        with self.block("for step in range(part, tiles, parts):"):
            self.add("tile = row * tiles + step")
            self.tile()
            yield

    def _counts(self) -> None:
        """How many pixels count, and of which class they are."""
        classes, bounded = self.shape.classes, self.shape.bounded
        pixels = [f"pixels{c}" for c in self.classes] if bounded else ["pixels"]
        self.add(f"zero = tl.zeros([{BLOCK}], {self.type})", *(f"{name} = zero" for name in pixels))
        self.each("n", "zero")
        with self._tiles():
            for c, name in enumerate(pixels):
                self.add(f"{name} = {name} + tl.where(valid, {self.edge(c) if bounded else '1.0'}, 0.0)")
            for c in self.classes:
                self.add(f"n{c} = n{c} + tl.where({self.true(c)}, {self.edge(c) if bounded else '1.0'}, 0.0)")
        self.add(f"counts = to + m * {2 * classes + self.shape.columns}")
        self.add(*(f"tl.store(counts + {c}, tl.sum(n{c}))" for c in self.classes))
        self.add(*(f"tl.store(counts + {classes + c}, tl.sum({name}))" for c, name in enumerate(pixels)))

    def _losses(self) -> None:
        slots = range(self.shape.slots)
        self.add(f"entry = entries + tl.program_id(0) * {entry_length(self.shape)}", "bits = tl.load(entry)")
        self.add(f"zero = tl.zeros([{BLOCK}], {self.type})")
        for s in slots:
            self.add(*(f"{name}{s} = tl.load(entry + {1 + 3 * s + j})" for j, name in enumerate(("map", "kind", "at"))))
            self.add(*(f"{name} = zero" for name in self._sums_of(s)))
            self.add(*(f"{name}{s}_{c} = zero" for name in ("o", "q") for c in self.classes))
        with self._tiles():
            self._members()
            for s in slots:
                if s == 0:
                    self._slot(s)
                else:
                    with self.block(f"if map{s} >= 0:"):
                        self._slot(s)
        for s in slots:
            with self.block(f"if map{s} >= 0:"):
                self._store(s)

    def _members(self) -> None:
        """Read the originals of the subset, if they are kept."""
        if not self.shape.kept:
            return
        for i in self.scales:
            self.add(*(f"p{i}_{c} = zero" for c in self.classes))
            with self.member(i):
                self.original(i)

    def _slot(self, s: int) -> None:
        kinds = [kind for kind in self.shape.kinds if s == 0 or kind < ATTENTION]
        self.add(f"at = at{s} + (step >> 30)")  # + 0, which the compiler does not know: see ``SumsWriter``
        self.constant("z", "0.0")
        for kind in kinds:
            with self.block(f"if kind{s} == {kind}:"):
                self.build(kind)
        self.probabilities()
        squared = "p{c} * p{c}" if self.shape.squares else "p{c}"
        for c in self.classes:
            edge = f" * {self.edge(c)}" if self.shape.bounded else ""
            self.add(f"o{s}_{c} = o{s}_{c} + tl.where({self.true(c)}, p{c}{edge}, 0.0)")
            self.add(f"q{s}_{c} = q{s}_{c} + {squared.replace('{c}', str(c))}{edge}")
        self._cross_entropies(s)

    def _sums_of(self, s: int) -> list[str]:
        """Name the sums of cross-entropies of a map."""
        return [f"ce{s}_{c}" for c in self.classes] if self.shape.bounded else [f"ce{s}"]

    def _cross_entropies(self, s: int) -> None:
        if not self.shape.sigmoid:
            self.cross_entropy()
            self._add_up(s, 0, "image * long")
            return
        for c in self.classes:
            self.channel(f"e{c}", f"z{c}", self.true(c), f"tl.load(weights + {c})")
            self._add_up(s, c, f"first + {c} * long")

    def _add_up(self, s: int, c: int, at: str) -> None:
        """Add ``each`` to its sum, or write it where all are ``held``; ``at`` is where those of its image begin."""
        if self.shape.largest:
            place = f"held + map{s}.to(tl.int64) * values + {at} + pixel"
            self.add(f"tl.store({place}, tl.where(valid, each, -1.0), mask=inside)")
            return
        name = self._sums_of(s)[c if self.shape.bounded else 0]
        edge = f" * {self.edge(c)}" if self.shape.bounded else ""
        self.add(f"{name} = {name} + tl.where(valid, each{edge}, 0.0)")

    def _store(self, s: int) -> None:
        classes, columns = self.shape.classes, self.shape.columns
        start = f"map{s}" + f" * {columns}" * self.shape.bounded
        for c, name in enumerate(self._sums_of(s)):
            self.add(f"tl.store(to + {start}{f' + {c}' * (c > 0)}, tl.sum({name}))")
        self.add(f"own = to + m{f' * {columns}' * self.shape.bounded} + map{s} * {classes}")
        for c in self.classes:
            self.add(f"tl.store(own + {c}, tl.sum(o{s}_{c}))", f"tl.store(own + m * {classes} + {c}, tl.sum(q{s}_{c}))")


def entry_length(shape: KernelShape) -> int:
    """Return the numbers of an entry: the subset, then map, kind and place of each slot."""
    return 1 + 3 * shape.slots
