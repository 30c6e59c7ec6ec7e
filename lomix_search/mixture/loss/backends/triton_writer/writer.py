"""What the kernels of both passes have in common: pixels, truth, originals, the maps made of them, their losses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lomix_search.mixture.loss.backends.triton_writer.lines import Lines
from lomix_search.mixture.loss.backends.triton_writer.shape import (
    ATTENTION,
    BLOCK,
    LINEAR,
    MAX,
    MUL,
    KernelShape,
)

SIZE_NAMES = "N, per_image, tiles, parts, ignored, m"
COUNT_NAMES = ("linear", "mul", "largest", "attention", "concat")


class Writer(Lines):
    """What several kernels are written with.

    A kernel has ``p{i}_{c}`` or reads them, ``valid``, and the truth; ``build`` writes z of a map, ``losses`` its
    cross-entropy and probabilities.
    """

    def __init__(self, shape: KernelShape) -> None:
        super().__init__(shape.double)
        self.shape = shape
        self.scales, self.classes = range(shape.scales), range(shape.classes)
        self.numbers = ", ".join([SIZE_NAMES, *shape.sizes])

    @contextmanager
    def member(self, i: int) -> Iterator[None]:
        """What is done only if scale i is in the subset: the same for all lanes, so a branch."""
        with self.block(f"if (bits & {1 << i}) != 0:"):
            yield

    # -- reading -------------------------------------------------------------------------------------------------------

    def arguments(self, prefix: str) -> str:
        """Name one argument for each scale."""
        return ", ".join(f"{prefix}{i}" for i in self.scales)

    def tile(self) -> None:
        """Write image, pixels, truth and which pixels count."""
        self.add(
            "image = (tile // per_image).to(tl.int64)",
            f"pixel = (tile % per_image) * {self.block_size} + lane",
            "inside = pixel < N",
            "long = N.to(tl.int64)",
            f"first = image * ({self.shape.classes} * long)",
        )
        self.truth()
        self.edges()
        self._places()
        if not self.shape.kept:
            for i in self.shape.coarse:
                self.around(i)

    def _places(self) -> None:
        """Write where pixels lie, ``place{a}``, and where an image begins in each coarse original."""
        axes = self.shape.axes
        rest = "pixel"
        for a in reversed(range(1, axes)):
            self.add(f"place{a} = {rest} % full{a}", f"line = {rest} // full{a}")
            rest = "line"
        if axes:
            self.add(f"place0 = {rest}")
        for i in self.shape.coarse:
            self.add(f"long{i} = ({' * '.join(f'own{i}_{a}' for a in range(axes))}).to(tl.int64)")
            self.add(f"first{i} = image * ({self.shape.classes} * long{i})")

    def around(self, i: int) -> None:
        """Write which values of original i are around a pixel, ``offset{i}_{k}``, and their shares, if it is coarse."""
        if i not in self.shape.coarse:
            return
        offsets = [""]
        for a in range(self.shape.axes):
            self.corners(f"full{a}", f"own{i}_{a}", f"place{a}")
            self.add(f"low{i}_{a} = low", f"high{i}_{a} = high")
            self.add(f"share{i}_{a} = share", f"rest{i}_{a} = 1.0 - share")
            before = [f"({offset}) * own{i}_{a} + " if offset else "" for offset in offsets]
            offsets = [f"{one}{end}{i}_{a}" for one in before for end in ("low", "high")]
        self.add(*(f"offset{i}_{k} = {offset}" for k, offset in enumerate(offsets)))

    def mixed(self, i: int, load: str, more: str = "") -> str:
        """Interpolate; ``load`` reads the value at ``{o}``, ``more`` is put behind each share."""
        values = [load.replace("{o}", f"offset{i}_{k}") for k in range(1 << self.shape.axes)]
        for a in reversed(range(self.shape.axes)):
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [f"({low} * rest{i}_{a}{more} + {high} * share{i}_{a}{more})" for low, high in pairs]
        return values[0]

    @property
    def block_size(self) -> int:
        """Pixels of a tile."""
        return BLOCK

    def truth(self) -> None:
        """Write the truth of each pixel, and which pixels count."""
        shape = self.shape
        if not shape.sigmoid:
            self.add(
                "label = tl.load(labels + image * long + pixel, mask=inside, other=-1)",
                f"valid = inside & (label >= 0) & (label < {shape.classes}) & (label != ignored)",
                "label = tl.where(valid, label, -1).to(tl.int32)",
            )
            if shape.weighted:
                self.weight()
            return
        self.add("valid = inside")
        for c in self.classes:
            self.add(
                f"label = tl.load(labels + first + {c} * long + pixel, mask=inside, other=0)",
                "valid = valid & (label >= 0) & (label < 2) & (label != ignored)",
            )
            if shape.kept:
                self.add(f"y{c} = label == 1")
        if shape.kept:
            self.add(*(f"y{c} = y{c} & valid" for c in self.classes))

    def weight(self) -> None:
        """Write the weight of the class of each pixel."""
        self.add(f"weight = tl.zeros([{BLOCK}], {self.type})")
        self.add(*(f"weight = tl.where({self.true(c)}, tl.load(weights + {c}), weight)" for c in self.classes))

    def edges(self) -> None:
        """Write the boundary weights of a pixel's channels, if there are any and they are kept."""
        if self.shape.bounded and self.shape.kept:
            self.add(*(f"edge{c} = {self._edge(c)}" for c in self.classes))

    def edge(self, c: int) -> str:
        """Return the boundary weight of a channel, 0 where a pixel does not count."""
        return f"edge{c}" if self.shape.kept else self._edge(c)

    def _edge(self, c: int) -> str:
        return f"tl.load(bounds + first + {c} * long + pixel, mask=valid, other=0.0)"

    def true(self, c: int) -> str:
        """Say whether class c is true of a pixel."""
        if not self.shape.sigmoid:
            return f"(label == {c})"
        if self.shape.kept:
            return f"y{c}"
        return f"(tl.load(labels + first + {c} * long + pixel, mask=valid, other=0) == 1)"

    def originals(self) -> None:
        """Read all originals of a tile, if they are kept."""
        if self.shape.kept:
            for i in self.scales:
                self.original(i)

    def original(self, i: int) -> None:
        """Read one original of a tile into ``p{i}_{c}``."""
        self.around(i)
        self.add(*(f"p{i}_{c} = {self.read(i, str(c))}" for c in self.classes))

    def read(self, i: int, c: str) -> str:
        """Return the load of one class of an original, interpolated where it is coarser than the labels."""
        if i not in self.shape.coarse:
            return f"tl.load(M{i} + (first + {c} * long) + pixel, mask=valid, other=0.0).to({self.type})"
        place = f"M{i} + (first{i} + {c} * long{i}) + {{o}}"
        return self.mixed(i, f"tl.load({place}, mask=valid, other=0.0).to({self.type})")

    def p(self, i: int, c: int) -> str:
        """Return one class of an original: its variable where originals are kept, else its load."""
        return f"p{i}_{c}" if self.shape.kept else self.read(i, str(c))

    def pairs(self, at: str, names: Callable[[int], str], number: int) -> None:
        """Read a row of weights into scalars: in float32 two at a time, which halves what reading costs."""
        if self.shape.double:
            self.add(*(f"{names(c)} = tl.load(dense + {at} + {c})" for c in range(number)))
            return
        for c in range(0, number, 2):
            self.add(f"pair = tl.load(dense2 + (({at}) >> 1) + {c // 2})")
            self.add(f"{names(c)} = pair.to(tl.uint32).to(tl.float32, bitcast=True)")
            if c + 1 < number:
                self.add(f"{names(c + 1)} = (pair >> 32).to(tl.uint32).to(tl.float32, bitcast=True)")

    # -- maps ----------------------------------------------------------------------------------------------------------

    def each(self, prefix: str, value: str) -> None:
        """Write one assignment for each class; ``{c}`` stands for it."""
        self.add(*(f"{prefix}{c} = {value.replace('{c}', str(c))}" for c in self.classes))

    def constant(self, prefix: str, value: str) -> None:
        """Write one value for all classes."""
        self.add(f"filled = tl.full([{BLOCK}], {value}, {self.type})")
        self.each(prefix, "filled")

    def build(self, kind: int) -> None:
        """Write z of a map; ``bits`` says which scales it has, ``at`` where its row or its weights stand."""
        {LINEAR: self._linear, MUL: self._product, MAX: self._largest}.get(kind, self._learned(kind))()

    def _learned(self, kind: int) -> Callable[[], None]:
        return self._attention if kind == ATTENTION else self._concat

    def _linear(self) -> None:
        self.constant("z", "0.0")
        for i in self.scales:
            with self.member(i):
                self.add(f"factor = tl.load(factors + at + {i})")
                self.add(*(f"z{c} = z{c} + factor * {self.p(i, c)}" for c in self.classes))

    def _product(self) -> None:
        self.constant("z", "1.0")
        for i in self.scales:
            with self.member(i):
                self.add(*(f"z{c} = z{c} * {self.p(i, c)}" for c in self.classes))

    def _largest(self) -> None:
        self.constant("z", 'float("-inf")')
        for i in self.scales:
            with self.member(i):
                self.add(*(f"z{c} = {larger(f'z{c}', self.p(i, c))}" for c in self.classes))

    def _attention(self) -> None:
        """Also leaves the gates ``s{i}``, 0 for scales that are no members."""
        self.add(f"filled = tl.full([{BLOCK}], float('-inf'), {self.type})")
        for i in self.scales:
            self.add(f"s{i} = filled")
            with self.member(i):
                self.pairs(f"at + {i * self.shape.row}", lambda c: f"w{c}", self.shape.classes + 1)
                terms = [f"w{c} * {self.p(i, c)}" for c in self.classes]
                self.add(f"s{i} = {' + '.join(terms)} + w{self.shape.classes}")
        self.add("top = s0", *(f"top = {larger('top', f's{i}')}" for i in self.scales[1:]))
        self.add(*(f"s{i} = tl.exp(s{i} - top)" for i in self.scales))
        self.add(f"total = {' + '.join(f's{i}' for i in self.scales)}")
        self.add(*(f"s{i} = s{i} / total" for i in self.scales))
        self.constant("z", "0.0")
        for i in self.scales:
            with self.member(i):
                self.add(*(f"z{c} = z{c} + s{i} * {self.p(i, c)}" for c in self.classes))

    def _concat(self) -> None:
        row = self.shape.row
        self.add(f"filled = tl.full([{BLOCK}], 0.0, {self.type})")
        self.pairs(f"at + {self.shape.scales * self.shape.classes * row}", lambda c: f"w{c}", self.shape.classes)
        self.each("z", "filled + w{c}")
        for i in self.scales:
            with self.member(i), self._inputs(i):
                self.pairs("here", lambda c: f"w{c}", self.shape.classes)
                self.each("z", "z{c} + w{c} * x")

    @contextmanager
    def _inputs(self, i: int) -> Iterator[None]:
        """Write the body once for each class of scale i, ``x``, whose weights begin at ``here``.

        Where originals are not kept, classes are many: then it is a loop.
        """
        row, classes = self.shape.row, self.shape.classes
        if not self.shape.kept:
            with self.block(f"for k in range({classes}):"):
                self.add(f"x = {self.read(i, 'k')}", f"here = at + ({i * classes} + k) * {row}")
                yield
            return
        start = len(self.lines)
        yield
        body = self.lines[start:]
        del self.lines[start:]
        for c in self.classes:
            self.add(f"x = p{i}_{c}", f"here = at + {(i * classes + c) * row}")
            self.lines += body

    # -- losses --------------------------------------------------------------------------------------------------------

    def probabilities(self) -> None:
        """Write ``p{c}`` of z, 0 where a pixel does not count; also what the cross-entropy is made of."""
        if self.shape.sigmoid:
            for c in self.classes:
                self.add(f"e{c} = tl.exp(-tl.abs(z{c}))")
                self.add(f"p{c} = tl.where(valid, tl.where(z{c} > 0, 1.0, e{c}) / (1.0 + e{c}), 0.0)")
            return
        self.add("top = z0", *(f"top = tl.maximum(top, z{c})" for c in self.classes[1:]))
        self.each("e", "tl.exp(z{c} - top)")
        self.add(f"total = {' + '.join(f'e{c}' for c in self.classes)}")
        self.add("scale = tl.where(valid, 1.0 / total, 0.0)")
        self.each("p", "e{c} * scale")


def larger(one: str, other: str) -> str:
    """NaN if one is, as ``torch.maximum`` does."""
    return f"tl.maximum({one}, {other}, propagate_nan=tl.PropagateNan.ALL)"
