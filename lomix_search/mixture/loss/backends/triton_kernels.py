"""Writes the Triton kernels of ``triton.py`` for one shape of problem: L scales, C classes, a set of operators.

One pixel lies in one lane. What has an index for a scale or a class is written out as a variable of its own: ``p2_5``
is class 5 of the original at scale 2, ``z5`` class 5 of a map. So nothing is padded or masked, sums over classes are
plain additions within a lane, and the compiler sees which registers it needs. Maps are walked in loops over tables:
a plan that loses maps while it trains is not compiled again.

An original coarser than the labels is read at its own size: a lane loads the 2, 4 or 8 values around its pixel and
interpolates. Of its gradient ``gradients`` leaves only a part at the labels' size, for the pixels of one launch;
``gather``, the adjoint, adds that part to the gradient at its own size before the next launch.

The other kernels: ``sums`` is pass 1. Each program has one or two maps of one subset of scales and walks over many
tiles with their sums in registers. ``gradients`` is pass 2: a program has one tile, with its originals and their
gradients in registers, and walks over all maps. ``parameters`` adds up the gradients of one learned operator over many
tiles. Nothing is added to by two programs, so results do not change from run to run.
"""

import inspect
import linecache
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import triton
import triton.language as tl

LINEAR, MUL, MAX, ATTENTION, CONCAT = range(5)
"""Kinds of maps, in the order of the tables."""
SLOTS = 2
"""Maps that a program of pass 1 has at most; only the first may be of a kind that learns."""
BLOCK = 128
"""Pixels of a tile: one for each thread."""
KEPT = 160
"""Values of one pixel that are kept in registers at most: originals, their gradients, a map and its slope."""

GATHERED = 512
"""Values at the labels' size that a program of ``gather`` reads at a time; of wide footprints twice as many."""
OUTER = 200
"""Originals, and products of inputs and outputs of a concatenation, that a program keeps in registers at most."""


@dataclass(frozen=True)
class KernelShape:
    """What the kernels are compiled for.

    Args:
        scales: L.
        classes: C.
        kinds: Kinds of maps that occur.
        sigmoid: Each channel is judged by itself.
        squares: Sums of p² are wanted, not of p.
        per_image: Each image has sums of its own.
        weighted: Classes have weights.
        double: Compute in float64, else in float32.
        coarse: Scales whose originals are coarser than the labels, from 0.
        axes: Spatial axes; 0 where no original is coarser, which they do not matter to.
    """

    scales: int
    classes: int
    kinds: tuple[int, ...]
    sigmoid: bool
    squares: bool
    per_image: bool
    weighted: bool
    double: bool
    coarse: tuple[int, ...] = ()
    axes: int = 0

    @property
    def kept(self) -> bool:
        """Whether originals and gradients stay in registers; else each map reads them again."""
        return 2 * self.classes * (self.scales + 1) <= KEPT

    @property
    def sizes(self) -> list[str]:
        """Names of the numbers that say how large labels and coarse originals are along each axis."""
        names = [f"full{a}" for a in range(self.axes)]
        return [*names, *(f"own{i}_{a}" for i in self.coarse for a in range(self.axes))]

    @property
    def slots(self) -> int:
        """Number of maps that a program of pass 1 has."""
        return SLOTS if self.kept else 1

    @property
    def row(self) -> int:
        """Values of one row of a table of weights, C and a bias, in an even number: they are read in pairs."""
        return self.classes + 1 + (self.classes + 1) % 2

    @property
    def outer(self) -> tuple[int, int]:
        """How many scales, and inputs of each, a program has whose products with C outputs are summed in registers."""
        room = OUTER - self.scales * self.classes
        inputs = min(self.classes, max(1, room // self.classes))
        return (2 if 2 * inputs * self.classes <= room else 1), inputs

    @property
    def padded(self) -> int:
        """Classes in a matrix product, which takes no fewer than 16."""
        return max(16, 1 << (self.classes - 1).bit_length())

    @property
    def matrix_block(self) -> int:
        """Pixels in a matrix product."""
        return max(16, min(64, 1024 // self.padded))


@dataclass(frozen=True)
class Kernels:
    """The kernels of one shape."""

    sums: Any
    gradients: Any
    parameters: Any


@lru_cache(maxsize=64)
def kernels(shape: KernelShape) -> Kernels:
    """Write and load the kernels of a shape; Triton compiles each when it is first launched.

    Args:
        shape: The shape.

    Returns:
        Kernels to launch.
    """
    numbers = [*_NUMBERS.split(", "), *shape.sizes, *_COUNTS, "begin", "room", "length"]
    return Kernels(
        _load("sums", _Sums(shape).text(), numbers),
        _load("gradients", _Gradients(shape).text(), numbers),
        _load("parameters", (_KeptParameters if shape.kept else _Parameters)(shape).text(), numbers),
    )


@lru_cache(maxsize=64)
def gather_kernel(axes: int, double: bool, footprint: int) -> tuple[Any, int]:
    """Write and load the adjoint of the interpolation.

    Args:
        axes: Spatial axes.
        double: Add in float64, else in float32.
        footprint: Pixels that read one value, at most.

    Returns:
        The kernel, and how many values a program of it has.
    """
    width = GATHERED * (2 if footprint >= 2 * GATHERED else 1)
    lanes = min(width, 1 << (footprint - 1).bit_length())
    writer = _Gather(axes, double, width // lanes, lanes)
    return _load("gather", writer.text(), [*_PART.split(", "), *writer.sizes]), width // lanes


def most_registers(shape: KernelShape, name: str) -> int | None:
    """Return the registers of a thread that a kernel is held to, so that more programs run at a time; None: no limit.

    Args:
        shape: The shape.
        name: A name of ``Kernels``.
    """
    values = shape.scales * shape.classes
    if not shape.kept or shape.double or name == "parameters" or values > 54:
        return None
    return 128 if name == "sums" and values <= 36 else 168


def _load(name: str, text: str, numbers: Sequence[str]) -> Any:
    """Make a Triton function of its text, which Triton looks up by the name of the file; ``numbers`` are any integers.

    Compiling anew for those that 16 divides, or that are 1, would be for nothing.
    """
    file = f"<lomix {name} {hash(text):x}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(text, file, "exec"), scope)  # our own text, of numbers and names from above
    known = set(inspect.signature(scope[name]).parameters)
    return triton.jit(scope[name], do_not_specialize=[number for number in numbers if number in known])


def first_kernel() -> Any:
    """Load the smallest kernel there is: it adds 1 to a value."""
    return _load("first", "def first(value):\n    tl.store(value, tl.load(value) + 1)\n", ())


class _Lines(ABC):
    """Lines of a kernel."""

    def __init__(self, double: bool) -> None:
        self.double = double
        self.type = "tl.float64" if double else "tl.float32"
        self.lines: list[str] = []
        self.depth = 0

    def text(self) -> str:
        """Write the whole kernel."""
        self.write()
        return "\n".join(self.lines) + "\n"

    @abstractmethod
    def write(self) -> None:
        """Write all lines of the kernel."""

    def add(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.add(head)
        self.depth += 1
        yield
        self.depth -= 1

    def corners(self, full: str, own: str, at: str) -> None:
        """Write where a pixel ``at`` of an axis reads a coarser one: values ``low`` and ``high``, and its ``share``.

        That is what ``torch.nn.functional.interpolate(align_corners=False)`` reads.
        """
        ratio = f"{own}.to({self.type}) / {full}.to({self.type})"
        if not self.double:  # "/" would be off by the last bits, which a hundred pixels on are a part of a pixel
            ratio = f"tl.div_rn({own}.to({self.type}), {full}.to({self.type}))"
        self.add(
            f"source = tl.maximum({ratio} * ({at}.to({self.type}) + 0.5) - 0.5, 0.0)",
            f"low = tl.minimum(source.to(tl.int32), {own} - 1)",
            f"high = tl.minimum(low + 1, {own} - 1)",
            f"share = source - low.to({self.type})",
        )


class _Writer(_Lines):
    """What several kernels are written with.

    A kernel has ``p{i}_{c}`` or reads them, ``valid``, and the truth; ``build`` writes z of a map, ``losses`` its
    cross-entropy and probabilities.
    """

    def __init__(self, shape: KernelShape) -> None:
        super().__init__(shape.double)
        self.shape = shape
        self.scales, self.classes = range(shape.scales), range(shape.classes)
        self.numbers = ", ".join([_NUMBERS, *shape.sizes])

    @contextmanager
    def member(self, i: int) -> Iterator[None]:
        """What is done only if scale i is in the subset: the same for all lanes, so a branch."""
        with self.block(f"if (bits & {1 << i}) != 0:"):
            yield

    # -- reading -------------------------------------------------------------------------------------------------------

    def arguments(self, prefix: str) -> str:
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
        return BLOCK

    def truth(self) -> None:
        shape = self.shape
        if not shape.sigmoid:
            self.add(
                "label = tl.load(labels + image * long + pixel, mask=inside, other=-1)",
                f"valid = inside & (label >= 0) & (label < {shape.classes}) & (label != ignored)",
                "label = tl.where(valid, label, -1).to(tl.int32)",
            )
            if shape.weighted:
                self.add(f"weight = tl.zeros([{BLOCK}], {self.type})")
                self.add(*(f"weight = tl.where({self.true(c)}, tl.load(weights + {c}), weight)" for c in self.classes))
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
        if i not in self.shape.coarse:
            return f"tl.load(M{i} + (first + {c} * long) + pixel, mask=valid, other=0.0).to({self.type})"
        place = f"M{i} + (first{i} + {c} * long{i}) + {{o}}"
        return self.mixed(i, f"tl.load({place}, mask=valid, other=0.0).to({self.type})")

    def p(self, i: int, c: int) -> str:
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
                self.add(*(f"z{c} = {_maximum(f'z{c}', self.p(i, c))}" for c in self.classes))

    def _attention(self) -> None:
        """Also leaves the gates ``s{i}``, 0 for scales that are no members."""
        self.add(f"filled = tl.full([{BLOCK}], float('-inf'), {self.type})")
        for i in self.scales:
            self.add(f"s{i} = filled")
            with self.member(i):
                self.pairs(f"at + {i * self.shape.row}", lambda c: f"w{c}", self.shape.classes + 1)
                terms = [f"w{c} * {self.p(i, c)}" for c in self.classes]
                self.add(f"s{i} = {' + '.join(terms)} + w{self.shape.classes}")
        self.add("top = s0", *(f"top = {_maximum('top', f's{i}')}" for i in self.scales[1:]))
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


def _maximum(one: str, other: str) -> str:
    """NaN if one is, as ``torch.maximum`` does."""
    return f"tl.maximum({one}, {other}, propagate_nan=tl.PropagateNan.ALL)"


_TABLES = "labels, weights, factors, dense, dense2"
_NUMBERS = "N, per_image, tiles, parts, ignored, m"
_COUNTS = ("linear", "mul", "largest", "attention", "concat")


class _Sums(_Writer):
    """Pass 1. Axes of the grid: entries of the table, parts of the tiles, images if each has its own row.

    The weights of a program's maps are the same for all its tiles. They are read anew for each: the compiler, if it
    knew, would hold hundreds of them in registers.
    """

    def write(self) -> None:
        shape = self.shape
        with self.block(f"def sums({self.arguments('M')}, {_TABLES}, entries, rows, {self.numbers}):"):
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
        self.add(f"at = at{s} + (step >> 30)")  # + 0, which the compiler does not know: see ``_Sums``
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


class _Gradients(_Writer):
    """Pass 2. The grid is that of the tiles; ``walk`` has subset, map and place of each map, sorted by kind."""

    def write(self) -> None:
        head = f"{self.arguments('M')}, {_TABLES}, walk, slopes, gains, {self.arguments('G')}"
        with self.block(f"def gradients({head}, {self.numbers}, begin, room, {', '.join(_COUNTS)}):"):
            self.add(f"lane = tl.arange(0, {BLOCK})", "tile = begin + tl.program_id(0)")
            self.add(f"spot = tl.program_id(0) * {BLOCK} + lane")
            self.tile()
            self.originals()
            if self.shape.per_image:
                self.add(f"slopes += image * m * {2 * self.shape.classes}")
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
                    with self.block(f"for j in range(start, start + {_COUNTS[kind]}):"):
                        self._map(kind)
                self.add(f"start += {_COUNTS[kind]}")
            if self.shape.kept:
                self._store()

    def _map(self, kind: int) -> None:
        self.add(*(f"{name} = tl.load(walk + 3 * j + {k})" for k, name in enumerate(("bits", "map", "at"))))
        self.build(kind)
        self.probabilities()
        self._slope("slopes")
        (self._to_linear, self._to_product, self._to_largest, self._to_attention, self._to_concat)[kind]()
        if not self.shape.kept:
            self.add("tl.debug_barrier()")

    def _slope(self, slopes: str) -> None:
        """Write ``d{c}``, the gradient of the total by z; ``slopes`` says where a and b of the maps are."""
        shape = self.shape
        self.add("gain = tl.load(gains + map)")
        if shape.weighted and not shape.sigmoid:
            self.add("gain = gain * weight")
        for c in self.classes:
            at = f"{slopes} + (map * {shape.classes} + {c}) * 2"
            self.add(f"true = {self.true(c)}", f"y = tl.where(true, 1.0, 0.0).to({self.type})")
            self.add(
                f"pull = tl.load({at})" + f" * p{c}" * shape.squares + f" - tl.where(true, tl.load({at} + 1), 0.0)"
            )
            if shape.sigmoid:
                own = f"tl.where(true, gain * tl.load(weights + {c}), gain)" if shape.weighted else "gain"
                self.add(f"d{c} = pull * p{c} * (1.0 - p{c}) + {own} * (p{c} - y)")
            else:
                self.add(f"d{c} = pull")
        if not shape.sigmoid:
            self.add(f"mean = {' + '.join(f'p{c} * d{c}' for c in self.classes)}")
            for c in self.classes:  # 0 to the last bit where p is y
                self.add(f"y = tl.where({self.true(c)}, 1.0, 0.0).to({self.type})")
                self.add(f"d{c} = p{c} * (d{c} - mean) + gain * (p{c} - y)")

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
                self.add(f"before{i + 1} = tl.where({_in(i)}, {_maximum(f'before{i}', self.p(i, c))}, before{i})")
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


JOB = 8
"""Numbers of a job of ``parameters``: subset, map, kind, place, then scale and first input of two sets of inputs."""
_JOB = ("bits", "map", "kind", "at", "scale0", "input0", "scale1", "input1")
_HEAD = "jobs, slopes, gains, rows, length"


class _KeptParameters(_Gradients):
    """The gradients of the learned operators where a pixel's originals stand in registers.

    Axes of the grid: jobs, and parts of the tiles. A job is one attention map, or one concatenation and some of its
    inputs. All that is added up stays in registers.
    """

    def write(self) -> None:
        with self.block(f"def parameters({self.arguments('M')}, {_TABLES}, {_HEAD}, {self.numbers}):"):
            self.add(
                f"lane = tl.arange(0, {BLOCK})",
                "part = tl.program_id(1)",
                f"job = jobs + tl.program_id(0) * {JOB}",
                *(f"{name} = tl.load(job + {k})" for k, name in enumerate(_JOB)),
                "to = rows + part.to(tl.int64) * length + at",
                "start = at",
                f"zero = tl.zeros([{BLOCK}], {self.type})",
            )
            for kind, body in ((ATTENTION, self._attend), (CONCAT, self._join)):
                if kind in self.shape.kinds:
                    with self.block(f"if kind == {kind}:"):
                        body()

    @contextmanager
    def _tiles(self, kind: int) -> Iterator[None]:
        with self.block("for tile in range(part, tiles, parts):"):
            self.tile()
            self.add("at = start + (tile >> 30)")  # + 0, as in ``_Sums``
            for i in self.scales:
                self.add(*(f"p{i}_{c} = zero" for c in self.classes))
                with self.member(i):
                    self.original(i)
            self.build(kind)
            self.probabilities()
            self.add(f"row_of = slopes{' + image * m * ' + str(2 * len(self.classes)) if self.shape.per_image else ''}")
            self._slope("row_of")
            yield

    def _attend(self) -> None:
        row, classes = self.shape.row, self.shape.classes
        for i in self.scales:
            self.add(*(f"u{i}_{c} = zero" for c in range(classes + 1)))
        with self._tiles(ATTENTION):
            self._pulls()
            for i in self.scales:
                with self.member(i):
                    self.add(f"a{i} = s{i} * (a{i} - mean)", f"u{i}_{classes} = u{i}_{classes} + a{i}")
                    self.add(*(f"u{i}_{c} = u{i}_{c} + a{i} * p{i}_{c}" for c in self.classes))
        for i in self.scales:
            with self.member(i):
                self.add(*(f"tl.store(to + {i * row + c}, tl.sum(u{i}_{c}))" for c in range(classes + 1)))

    def _join(self) -> None:
        sets, inputs = self.shape.outer
        row, classes = self.shape.row, self.shape.classes
        names = [(s, q) for s in range(sets) for q in range(inputs)]
        self.add(*(f"u{s}_{q}_{c} = zero" for s, q in names for c in self.classes))
        self.each("u", "zero")
        with self._tiles(CONCAT):
            self.each("u", "u{c} + d{c}")
            for s in range(sets):
                with self.block(f"if scale{s} >= 0:"):
                    self._inputs_of(s, inputs)
                    self.add(
                        *(f"u{s}_{q}_{c} = u{s}_{q}_{c} + x{q} * d{c}" for q in range(inputs) for c in self.classes)
                    )
        for s in range(sets):
            with self.block(f"if scale{s} >= 0:"):
                for q in range(inputs):
                    with self.block(f"if input{s} + {q} < {classes}:"):
                        self.add(f"own = to + (scale{s} * {classes} + input{s} + {q}) * {row}")
                        self.add(*(f"tl.store(own + {c}, tl.sum(u{s}_{q}_{c}))" for c in self.classes))
        with self.block("if (input0 == 0) & ((bits & ((1 << scale0) - 1)) == 0):"):  # the map's first job
            self.add(f"own = to + {self.shape.scales * classes * row}")
            self.add(*(f"tl.store(own + {c}, tl.sum(u{c}))" for c in self.classes))

    def _inputs_of(self, s: int, inputs: int) -> None:
        """Read this program's inputs ``x{q}``; those past the last class are not stored."""
        self.add(*(f"x{q} = zero" for q in range(inputs)))
        for i in self.scales:
            with self.block(f"if scale{s} == {i}:"):
                if inputs == self.shape.classes:
                    self.add(*(f"x{q} = p{i}_{q}" for q in range(inputs)))
                else:
                    self.around(i)
                    self.add(
                        *(
                            f"x{q} = {self.read(i, f'tl.minimum(input{s} + {q}, {self.shape.classes - 1})')}"
                            for q in range(inputs)
                        )
                    )


class _Parameters(_Writer):
    """The same where originals are not kept: blocks (pixels, classes), padded for matrix products.

    A job is a map with all its inputs.
    """

    @property
    def block_size(self) -> int:
        return self.shape.matrix_block

    def write(self) -> None:
        with self.block(f"def parameters({self.arguments('M')}, {_TABLES}, {_HEAD}, {self.numbers}):"):
            self.add(
                f"lane = tl.arange(0, {self.block_size})",
                f"c = tl.arange(0, {self.shape.padded})",
                f"real = c < {self.shape.classes}",
                "part = tl.program_id(1)",
                f"job = jobs + tl.program_id(0) * {JOB}",
                *(f"{name} = tl.load(job + {k})" for k, name in enumerate(_JOB[:4])),
                "gain = tl.load(gains + map)",
                "to = rows + part.to(tl.int64) * length + at",
                f"zero = tl.zeros([{self.block_size}, {self.shape.padded}], {self.type})",
            )
            for kind, body in ((ATTENTION, self._attend), (CONCAT, self._join)):
                if kind in self.shape.kinds:
                    with self.block(f"if kind == {kind}:"):
                        body()

    def truth(self) -> None:
        shape = self.shape
        if not shape.sigmoid:
            super().truth()
            return
        self.add(
            "at_label = labels + first + c[None, :] * long + pixel[:, None]",
            "label = tl.load(at_label, mask=inside[:, None] & real[None, :], other=0)",
            "good = (label >= 0) & (label < 2) & (label != ignored)",
            "valid = inside & (tl.min(tl.where(good | ~real[None, :], 1, 0), 1) > 0)",
        )

    @contextmanager
    def _tiles(self) -> Iterator[None]:
        with self.block("for tile in range(part, tiles, parts):"):
            self.tile()
            self.add("there = valid[:, None] & real[None, :]")
            truth = "(label == 1) & there" if self.shape.sigmoid else "(label[:, None] == c[None, :]) & there"
            self.add(f"true = {truth}")
            for i in self.scales:
                self.add(f"x{i} = zero")
                with self.member(i):
                    self.add(f"x{i} = {self._block(i)}")
            yield

    def _block(self, i: int) -> str:
        """Read an original (pixels, classes)."""
        if i not in self.shape.coarse:
            place = f"M{i} + first + c[None, :] * long + pixel[:, None]"
            return f"tl.load({place}, mask=there, other=0.0).to({self.type})"
        place = f"M{i} + first{i} + c[None, :] * long{i} + {{o}}[:, None]"
        return self.mixed(i, f"tl.load({place}, mask=there, other=0.0).to({self.type})", "[:, None]")

    def _slope2(self) -> None:
        """Write ``d`` (pixels, classes) of ``z``."""
        shape = self.shape
        at = f"slopes + (map * {shape.classes} + c) * 2"
        if shape.per_image:
            at = at.replace("map *", "(image * m + map) *")
        self.add(f"a = tl.load({at}, mask=real, other=0.0)[None, :]")
        self.add(f"b = tl.load({at} + 1, mask=real, other=0.0)[None, :]")
        if shape.weighted:
            self.add("w = tl.load(weights + c, mask=real, other=0.0)[None, :]")
        self.add(f"y = tl.where(true, 1.0, 0.0).to({self.type})")
        if shape.sigmoid:
            self.add("e = tl.exp(-tl.abs(z))", "p = tl.where(there, tl.where(z > 0, 1.0, e) / (1.0 + e), 0.0)")
        else:
            self.add(
                'z = tl.where(real[None, :], z, float("-inf"))',
                "e = tl.exp(z - tl.max(z, 1)[:, None])",
                "p = tl.where(there, e / tl.sum(e, 1)[:, None], 0.0)",
            )
        self.add("pull = a" + " * p" * shape.squares + " - b * y")
        gain = "gain"
        if shape.weighted:
            gain = "tl.where(true, gain * w, gain)" if shape.sigmoid else "gain * tl.sum(y * w, 1)[:, None]"
        if shape.sigmoid:
            self.add(f"d = pull * p * (1.0 - p) + {gain} * (p - y)")
        else:
            self.add(f"d = p * (pull - tl.sum(p * pull, 1)[:, None]) + {gain} * (p - y)")

    def _attend(self) -> None:
        row, block = self.shape.row, self.block_size
        for i in self.scales:
            self.add(f"w{i} = tl.load(dense + at + {i * row} + c, mask=real, other=0.0)[None, :]")
            self.add(f"b{i} = tl.load(dense + at + {i * row + self.shape.classes})")
            self.add(f"u{i} = zero", f"v{i} = tl.zeros([{block}], {self.type})")
        with self._tiles():
            self.add(f"none = tl.full([{block}], float('-inf'), {self.type})")
            for i in self.scales:
                self.add(f"s{i} = none")
                with self.member(i):
                    self.add(f"s{i} = tl.sum(x{i} * w{i}, 1) + b{i}")
            self.add("top = s0", *(f"top = {_maximum('top', f's{i}')}" for i in self.scales[1:]))
            self.add(*(f"s{i} = tl.exp(s{i} - top)" for i in self.scales))
            self.add(f"total = {' + '.join(f's{i}' for i in self.scales)}", "z = zero")
            for i in self.scales:
                self.add(f"s{i} = s{i} / total")
                with self.member(i):
                    self.add(f"z = z + s{i}[:, None] * x{i}")
            self._slope2()
            self.add(f"mean = tl.zeros([{block}], {self.type})")
            for i in self.scales:
                self.add(f"a{i} = mean")
            for i in self.scales:
                with self.member(i):
                    self.add(f"a{i} = tl.sum(d * x{i}, 1)", f"mean = mean + s{i} * a{i}")
            for i in self.scales:
                with self.member(i):
                    self.add(
                        f"a{i} = s{i} * (a{i} - mean)", f"u{i} = u{i} + a{i}[:, None] * x{i}", f"v{i} = v{i} + a{i}"
                    )
        for i in self.scales:
            with self.member(i):
                self.add(f"tl.store(to + {i * row} + c, tl.sum(u{i}, 0), mask=real)")
                self.add(f"tl.store(to + {i * row + self.shape.classes}, tl.sum(v{i}))")

    def _join(self) -> None:
        row, classes, padded = self.shape.row, self.shape.classes, self.shape.padded
        precision = "ieee" if self.shape.double else "tf32x3"
        self.add("both = real[:, None] & real[None, :]")
        self.add(f"bias = tl.load(dense + at + {self.shape.scales * classes * row} + c, mask=real, other=0.0)[None, :]")
        self.add("ones = zero")
        for i in self.scales:
            self.add(f"u{i} = tl.zeros([{padded}, {padded}], {self.type})")
        with self._tiles():
            self.add("z = zero + bias")
            for i in self.scales:
                with self.member(i):
                    self.add(f"w = tl.load(dense + at + {i * classes * row} + c[:, None] * {row} + c[None, :],")
                    self.add("            mask=both, other=0.0)")
                    self.add(f'z += tl.dot(x{i}, w, input_precision="{precision}", out_dtype={self.type})')
            self._slope2()
            self.add("ones += d")
            for i in self.scales:
                with self.member(i):
                    self.add(f'u{i} += tl.dot(tl.trans(x{i}), d, input_precision="{precision}", out_dtype={self.type})')
        for i in self.scales:
            with self.member(i):
                self.add(f"tl.store(to + {i * classes * row} + c[:, None] * {row} + c[None, :], u{i}, mask=both)")
        self.add(f"tl.store(to + {self.shape.scales * classes * row} + c, tl.sum(ones, 0), mask=real)")


_PART = "begin, room, padded, start, count, classes"


class _Gather(_Lines):
    """The adjoint of the interpolation: each value adds up what the pixels that read it hand back.

    Axes of the grid: values (``count`` of them from ``start`` on), classes. ``part`` (C, room) holds the gradients of
    pixels from ``begin`` on, where each image has ``padded``; ``grads`` (B, C, *own) is added to.

    Args:
        axes: Spatial axes.
        double: Add in float64.
        values: Of a program.
        lanes: Pixels that are read at a time for each value.
    """

    def __init__(self, axes: int, double: bool, values: int, lanes: int) -> None:
        super().__init__(double)
        self.axes, self.values, self.lanes = range(axes), values, lanes
        self.sizes = [f"{kind}{a}" for kind in ("full", "own") for a in self.axes]

    def write(self) -> None:
        with self.block(f"def gather(part, grads, {_PART}, {', '.join(self.sizes)}):"):
            self.add(
                f"value = tl.program_id(0) * {self.values} + tl.arange(0, {self.values})",
                "there = value < count",
                f"own = ({' * '.join(f'own{a}' for a in self.axes)}).to(tl.int64)",
                "image = (start + value) // own",
                "rest = (start + value) % own",
                "place = grads + (image * classes + tl.program_id(1)) * own + rest",
                "origin = image * padded - begin",  # of the image, in the part
            )
            for a in reversed(self.axes):
                self.add(f"k{a} = rest % own{a}", f"rest = rest // own{a}")
                self._footprint(a)
            self._within_part()
            for a in self.axes:  # what is one image's: narrow, as the loop divides by it
                self.add(*(f"{name}{a} = {name}{a}.to(tl.int32)" for name in ("k", "from", "to")))
            self.add(f"total = tl.zeros([{self.values}, {self.lanes}], {self.type})")
            with self.block(f"for step in range(0, span, {self.lanes}):"):
                self._add_up()
            self.add("before = tl.load(place, mask=there, other=0.0)")
            self.add("tl.store(place, before + tl.sum(total, 1), mask=there)")

    def _footprint(self, a: int) -> None:
        """Write which pixels of an axis read value ``k{a}``: those less than the distance of two values away."""
        self.add(
            f"from{a} = tl.maximum(((2 * k{a} - 1) * full{a} - own{a}) // (2 * own{a}) + 1, 0)",
            f"from{a} = tl.where(k{a} == 0, 0, from{a})",  # a quotient below 0 is cut, not rounded down
            f"to{a} = tl.minimum(((2 * k{a} + 3) * full{a} + own{a} - 1) // (2 * own{a}), full{a})",
        )

    def _within_part(self) -> None:
        """Leave out what lies outside the part; write the pixels of the widest footprint, ``span``."""
        inner = [f"(2 * full{a} + own{a} - 1) // own{a}" for a in self.axes[1:]]
        self.add(
            f"lead = ({' * '.join(['1', *(f'full{a}' for a in self.axes[1:])])})",
            "from0 = tl.maximum(from0, -origin // lead)",
            "to0 = tl.minimum(to0, (room - origin + lead - 1) // lead)",
            "span = tl.maximum(tl.max(tl.where(there, to0 - from0, 0), 0), 0).to(tl.int32)",
            *(f"span{a} = {width}" for a, width in enumerate(inner, 1)),
            *(f"span = span * span{a}" for a in self.axes[1:]),
        )

    def _add_up(self) -> None:
        self.add(f"ahead = step + tl.arange(0, {self.lanes})")
        for a in reversed(self.axes):
            step = "ahead"
            if a:
                self.add(f"step{a} = ahead % span{a}", f"ahead = ahead // span{a}")
                step = f"step{a}"
            self.add(f"at{a} = from{a}[:, None] + {step}[None, :]")
        self.add("wanted = there[:, None]", f"weight = tl.full([{self.values}, {self.lanes}], 1.0, {self.type})")
        for a in self.axes:
            self.corners(f"full{a}", f"own{a}", f"at{a}")
            self.add(
                f"wanted = wanted & (at{a} < to{a}[:, None])",
                f"own_share = tl.where(low == k{a}[:, None], 1.0 - share, 0.0)",
                f"weight = weight * (own_share + tl.where(high == k{a}[:, None], share, 0.0))",
            )
        pixel = "at0"
        for a in self.axes[1:]:
            pixel = f"({pixel}) * full{a} + at{a}"
        self.add(
            f"at = origin[:, None] + {pixel}",
            "wanted = wanted & (at >= 0) & (at < room)",
            "given = tl.load(part + tl.program_id(1) * room + at, mask=wanted, other=0.0)",
            "total += weight * given",
        )
