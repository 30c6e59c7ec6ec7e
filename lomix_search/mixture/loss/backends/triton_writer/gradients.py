"""Pass 2: from the gradients of the sums back to every pixel of the originals."""

from lomix_search.mixture.loss.backends.triton_writer.pixel_loss import PixelLossWriter
from lomix_search.mixture.loss.backends.triton_writer.shape import BLOCK
from lomix_search.mixture.loss.backends.triton_writer.writer import COUNT_NAMES, larger


class GradientsWriter(PixelLossWriter):
    """Pass 2. The grid is that of the tiles; ``walk`` has subset, map and place of each map, sorted by kind."""

    def write(self) -> None:
        """Write all lines of the kernel."""
        tables = f"{self.shape.tables}, walk, {self.shape.slope_tables}"
        head = f"{self.arguments('M')}, {tables}, {self.arguments('G')}"
        with self.block(f"def gradients({head}, {self.numbers}, begin, room, {', '.join(COUNT_NAMES)}):"):
            self.add(f"lane = tl.arange(0, {BLOCK})", "tile = begin + tl.program_id(0)")
            self.add(f"spot = tl.program_id(0) * {BLOCK} + lane")
            self.tile()
            self.originals()
            if self.shape.per_image:
                self.add(f"slopes += image * m * {2 * self.shape.classes}")
                self.add(*[f"gains += image * m * {self.shape.classes}"] * self.shape.bounded)
            self.add(f"zero = tl.zeros([{BLOCK}], {self.type})")
            for i in self.scales:
                self.add(*(f"g{i}_{c} = zero" for c in self.classes) if self.shape.kept else ())
            if self.shape.coarse and not self.shape.kept:
                with self.block(f"for k in range({self.shape.classes}):"):
                    self.add(*(f"tl.store({self._place(i, 'k')}, zero)" for i in self.shape.coarse))
                self.add("tl.debug_barrier()")
            self.add("start = 0")
            for kind in range(5):
                if kind in self.shape.kinds:
                    with self.block(f"for j in range(start, start + {COUNT_NAMES[kind]}):"):
                        self._map(kind)
                self.add(f"start += {COUNT_NAMES[kind]}")
            if self.shape.kept:
                self._store()

    def _map(self, kind: int) -> None:
        self.add(*(f"{name} = tl.load(walk + 3 * j + {k})" for k, name in enumerate(("bits", "map", "at"))))
        self.build(kind)
        self.probabilities()
        self.slope("slopes")
        (self._to_linear, self._to_product, self._to_largest, self._to_attention, self._to_concat)[kind]()
        if not self.shape.kept:
            self.add("tl.debug_barrier()")

    def give(self, i: int, c: str, value: str) -> None:
        """Add to a gradient."""
        if self.shape.kept:
            self.add(f"g{i}_{c} = g{i}_{c} + {value}")
            return
        self.add(f"place = {self._place(i, c)}")
        self.add(f"tl.store(place, tl.load(place, mask=valid, other=0.0) + ({value}), mask=valid)")

    def _place(self, i: int, c: str) -> str:
        """Where the gradient of a pixel stands: that of a coarse original in the room of this launch."""
        return f"G{i} + {c} * room + spot" if i in self.shape.coarse else f"G{i} + (first + {c} * long) + pixel"

    def _to_linear(self) -> None:
        for i in self.scales:
            with self.member(i):
                self.add(f"factor = tl.load(factors + at + {i})")
                for c in self.classes:
                    self.give(i, str(c), f"factor * d{c}")

    def _to_product(self) -> None:
        for c in self.classes:
            self.add("before0 = zero + 1.0")
            for i in self.scales[:-1]:
                self.add(f"before{i + 1} = before{i} * tl.where({_in(i)}, {self.p(i, c)}, 1.0)")
            self.add(f"after = d{c}")
            for i in reversed(self.scales):
                with self.member(i):
                    self.give(i, str(c), f"after * before{i}")
                    self.add(f"after = after * {self.p(i, c)}")

    def _to_largest(self) -> None:
        """Ties share in halves, of NaN both get it all, as ``torch.maximum`` does."""
        for c in self.classes:
            self.add("before0 = zero + float('-inf')")
            for i in self.scales[:-1]:
                self.add(f"before{i + 1} = tl.where({_in(i)}, {larger(f'before{i}', self.p(i, c))}, before{i})")
            self.add(f"after = d{c}")
            for i in reversed(self.scales):
                with self.member(i):
                    self.add(f"own = {self.p(i, c)}", f"tied = (own == before{i}) & ((bits & {(1 << i) - 1}) != 0)")
                    self.add("shared = tl.where(tied, 0.5 * after, after)")
                    self.give(i, str(c), f"tl.where(before{i} > own, 0.0, shared)")
                    self.add(f"after = tl.where(before{i} < own, 0.0, shared)")

    def _pulls(self) -> None:
        """Write ``a{i}``, the slope by each gate of attention, and their mean."""
        self.add("mean = zero")
        for i in self.scales:
            self.add(f"a{i} = zero")
            with self.member(i):
                self.add(f"a{i} = {' + '.join(f'd{c} * {self.p(i, c)}' for c in self.classes)}")
                self.add(f"mean = mean + s{i} * a{i}")

    def _to_attention(self) -> None:
        self._pulls()
        for i in self.scales:
            with self.member(i):
                self.add(f"a{i} = s{i} * (a{i} - mean)")
                self.pairs(f"at + {i * self.shape.row}", lambda c: f"w{c}", self.shape.classes)
                for c in self.classes:
                    self.give(i, str(c), f"s{i} * d{c} + a{i} * w{c}")

    def _to_concat(self) -> None:
        row, classes = self.shape.row, self.shape.classes
        terms = " + ".join(f"w{c} * d{c}" for c in self.classes)
        for i in self.scales:
            with self.member(i):
                if self.shape.kept:
                    for k in self.classes:
                        self.pairs(f"at + {(i * classes + k) * row}", lambda c: f"w{c}", classes)
                        self.give(i, str(k), f"({terms})")
                else:
                    with self.block(f"for k in range({classes}):"):
                        self.pairs(f"at + ({i * classes} + k) * {row}", lambda c: f"w{c}", classes)
                        self.give(i, "k", f"({terms})")

    def _store(self) -> None:
        """Pixels that do not count get 0, even where others made the loss NaN."""
        for i in self.scales:
            for c in self.classes:
                self.add(f"own = tl.where(valid, g{i}_{c}, 0.0).to(G{i}.dtype.element_ty)")
                self.add(f"tl.store({self._place(i, str(c))}, own, mask=inside)")


def _in(i: int) -> str:
    return f"(bits & {1 << i}) != 0"
