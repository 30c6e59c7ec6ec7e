"""Pass 1: the sums over pixels that the losses of all maps follow from."""

from collections.abc import Iterator
from contextlib import contextmanager

from lomix_search.mixture.loss.backends.triton_writer.shape import (
    ATTENTION,
    BLOCK,
    KernelShape,
)
from lomix_search.mixture.loss.backends.triton_writer.writer import TABLE_NAMES, Writer


class SumsWriter(Writer):
    """Pass 1. Axes of the grid: entries of the table, parts of the tiles, images if each has its own row.

    The weights of a program's maps are the same for all its tiles. They are read anew for each: the compiler, if it
    knew, would hold hundreds of them in registers.
    """

    def write(self) -> None:
        """Write all lines of the kernel."""
        shape = self.shape
        with self.block(f"def sums({self.arguments('M')}, {TABLE_NAMES}, entries, rows, {self.numbers}):"):
            self.add(
                f"lane = tl.arange(0, {BLOCK})",
                "part = tl.program_id(1)",
                "row = tl.program_id(2)",
                f"size = m * {2 * shape.classes + 1} + {shape.classes + 1}",
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
        classes = self.shape.classes
        self.add(f"zero = tl.zeros([{BLOCK}], {self.type})", "pixels = zero")
        self.each("n", "zero")
        with self._tiles():
            self.add("pixels = pixels + tl.where(valid, 1.0, 0.0)")
            self.add(*(f"n{c} = n{c} + tl.where({self.true(c)}, 1.0, 0.0)" for c in self.classes))
        self.add(f"counts = to + m * {2 * classes + 1}")
        self.add(*(f"tl.store(counts + {c}, tl.sum(n{c}))" for c in self.classes))
        self.add(f"tl.store(counts + {classes}, tl.sum(pixels))")

    def _losses(self) -> None:
        slots = range(self.shape.slots)
        self.add(f"entry = entries + tl.program_id(0) * {entry_length(self.shape)}", "bits = tl.load(entry)")
        self.add(f"zero = tl.zeros([{BLOCK}], {self.type})")
        for s in slots:
            self.add(*(f"{name}{s} = tl.load(entry + {1 + 3 * s + j})" for j, name in enumerate(("map", "kind", "at"))))
            self.add(f"ce{s} = zero")
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
            self.add(f"o{s}_{c} = o{s}_{c} + tl.where({self.true(c)}, p{c}, 0.0)")
            self.add(f"q{s}_{c} = q{s}_{c} + {squared.replace('{c}', str(c))}")
        self._cross_entropy(s)

    def _cross_entropy(self, s: int) -> None:
        if not self.shape.sigmoid:
            self.add("right = z0", *(f"right = tl.where({self.true(c)}, z{c}, right)" for c in self.classes[1:]))
            self.add("each = tl.log(total) - (right - top)")
            if self.shape.weighted:
                self.add("each = each * weight")
            self.add(f"ce{s} = ce{s} + tl.where(valid, each, 0.0)")
            return
        for c in self.classes:  # the terms of torch's: what is infinite there is infinite here
            self.add(f"rest = tl.where({self.true(c)}, 0.0, 1.0) * z{c}")
            self.add(f"each = tl.log(1.0 + e{c}) + rest - tl.where(z{c} > 0, 0.0, z{c})")
            if self.shape.weighted:
                self.add(f"each = tl.where({self.true(c)}, tl.load(weights + {c}), 1.0) * each")
            self.add(f"ce{s} = ce{s} + tl.where(valid, each, 0.0)")

    def _store(self, s: int) -> None:
        classes = self.shape.classes
        self.add(f"tl.store(to + map{s}, tl.sum(ce{s}))", f"own = to + m + map{s} * {classes}")
        for c in self.classes:
            self.add(f"tl.store(own + {c}, tl.sum(o{s}_{c}))", f"tl.store(own + m * {classes} + {c}, tl.sum(q{s}_{c}))")


def entry_length(shape: KernelShape) -> int:
    """Return the numbers of an entry: the subset, then map, kind and place of each slot."""
    return 1 + 3 * shape.slots
