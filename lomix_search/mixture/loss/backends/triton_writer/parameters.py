"""The gradients of the operators that learn: attention and concatenation."""

from collections.abc import Iterator
from contextlib import contextmanager

from lomix_search.mixture.loss.backends.triton_writer.gradients import GradientsWriter
from lomix_search.mixture.loss.backends.triton_writer.pixel_loss import PixelLossWriter
from lomix_search.mixture.loss.backends.triton_writer.shape import ATTENTION, BLOCK, CONCAT, KernelShape
from lomix_search.mixture.loss.backends.triton_writer.writer import larger

JOB = 8
"""Numbers of a job of ``parameters``: subset, map, kind, place, then scale and first input of two sets of inputs."""
_JOB = ("bits", "map", "kind", "at", "scale0", "input0", "scale1", "input1")


class KeptParametersWriter(GradientsWriter):
    """The gradients of the learned operators where a pixel's originals stand in registers.

    Axes of the grid: jobs, and parts of the tiles. A job is one attention map, or one concatenation and some of its
    inputs. All that is added up stays in registers.
    """

    def write(self) -> None:
        """Write all lines of the kernel."""
        with self.block(f"def parameters({self.arguments('M')}, {_tables(self.shape)}, {self.numbers}):"):
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
            self.add("at = start + (tile >> 30)")  # + 0, as in ``SumsWriter``
            for i in self.scales:
                self.add(*(f"p{i}_{c} = zero" for c in self.classes))
                with self.member(i):
                    self.original(i)
            self.build(kind)
            self.probabilities()
            classes, per_image = self.shape.classes, self.shape.per_image
            self.add(f"row_of = slopes{f' + image * m * {2 * classes}' * per_image}")
            self.slope("row_of", f"(gains + image * m * {classes})" if per_image and self.shape.bounded else "gains")
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


class ParametersWriter(PixelLossWriter):
    """The same where originals are not kept: blocks (pixels, classes), padded for matrix products.

    A job is a map with all its inputs.
    """

    @property
    def block_size(self) -> int:
        """Pixels of a tile."""
        return self.shape.matrix_block

    def write(self) -> None:
        """Write all lines of the kernel."""
        with self.block(f"def parameters({self.arguments('M')}, {_tables(self.shape)}, {self.numbers}):"):
            self.add(
                f"lane = tl.arange(0, {self.block_size})",
                f"c = tl.arange(0, {self.shape.padded})",
                f"real = c < {self.shape.classes}",
                "part = tl.program_id(1)",
                f"job = jobs + tl.program_id(0) * {JOB}",
                *(f"{name} = tl.load(job + {k})" for k, name in enumerate(_JOB[:4])),
                *["gain = tl.load(gains + map)"] * (not self.shape.bounded),
                "to = rows + part.to(tl.int64) * length + at",
                f"zero = tl.zeros([{self.block_size}, {self.shape.padded}], {self.type})",
            )
            for kind, body in ((ATTENTION, self._attend), (CONCAT, self._join)):
                if kind in self.shape.kinds:
                    with self.block(f"if kind == {kind}:"):
                        body()

    def truth(self) -> None:
        """Write the truth as a block (pixels, classes), and which pixels count."""
        shape = self.shape
        if not shape.sigmoid:
            super().truth()
            return
        self.add(
            "at_label = labels + first + c[None, :] * long + pixel[:, None]",
            "label = tl.load(at_label, mask=inside[:, None] & real[None, :], other=0)",
            "good = (label >= 0) & (label < 2) & (label != ignored)",
            "fit = tl.min(tl.where(good | ~real[None, :], 1, 0), 1)",
            "valid = inside & (fit > 0)",
        )

    def weight(self) -> None:
        """Write nothing: it follows from the truth as a block."""

    @contextmanager
    def _tiles(self) -> Iterator[None]:
        with self.block("for tile in range(part, tiles, parts):"):
            self.tile()
            self.add("there = valid[:, None] & real[None, :]")
            if self.shape.sigmoid:  # products: what is single bits, Triton cannot bring from one layout to another
                inner = "tl.where(inside[:, None] & real[None, :], 1.0, 0.0)"
                self.add(f"some = fit.to({self.type})[:, None] * {inner}", f"y = label.to({self.type}) * some")
            else:
                self.add(f"some = tl.where(there, 1.0, 0.0).to({self.type})")
                self.add("y = tl.where(label[:, None] == c[None, :], some, 0.0)")
            if self.shape.bounded:
                place = "bounds + first + c[None, :] * long + pixel[:, None]"
                self.add(f"edge = tl.load({place}, mask=there, other=0.0)")
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
        self.add("true = y > 0.5", "within = some > 0.5")
        if shape.sigmoid:
            self.add("e = tl.exp(-tl.abs(z))", "p = tl.where(within, tl.where(z > 0, 1.0, e) / (1.0 + e), 0.0)")
        else:
            self.add(
                'z = tl.where(real[None, :], z, float("-inf"))',
                "e = tl.exp(z - tl.max(z, 1)[:, None])",
                "p = tl.where(within, e / tl.sum(e, 1)[:, None], 0.0)",
            )
        self.add("pull = a" + " * p" * shape.squares + " - b * y")
        if shape.bounded:
            at = f"{'image * m + ' * shape.per_image}map"
            self.add(
                "pull = pull * edge", f"gain = tl.load(gains + ({at}) * {shape.classes} + c, mask=real, other=0.0)"
            )
            self.add("gain = gain[None, :] * edge")
        (self._of_channels if shape.sigmoid else self._of_classes)()

    def _of_channels(self) -> None:
        shape, gain = self.shape, "own" if self.shape.by_pixel else "gain"
        if shape.by_pixel:
            self.channel("e", "z", "true", "w")
            self.own_gain("within")
        own = f"tl.where(true, {gain} * w, {gain})" if shape.weighted and not shape.smoothed else gain
        self.add(f"d = pull * p * (1.0 - p) + {own} * {'(whole * p - aim)' if shape.smoothed else '(p - y)'}")

    def _of_classes(self) -> None:
        shape = self.shape
        gain = f"gain{' * tl.sum(y * w, 1)[:, None]' * (shape.weighted and not shape.smoothed)}"
        error = "(p - y)"
        if shape.by_pixel:
            self.cross_entropy()
            self.own_gain()
            gain = f"(own{' * weight' * (shape.weighted and not shape.smoothed)})[:, None]"
        if shape.smoothed:
            error = "(whole[:, None] * p - aim)"
        self.add(f"d = p * (pull - tl.sum(p * pull, 1)[:, None]) + {gain} * {error}")

    def cross_entropy(self) -> None:
        """Write ``each`` as the other kernels have it, one number a pixel."""
        shape = self.shape
        self.add("total = tl.sum(e, 1)", "top = tl.max(z, 1)")
        self.add(f"weight = tl.sum(y{' * w' * shape.weighted}, 1)")
        if shape.smoothed:
            self.add(f"even = {self.constant_of(2)}{' * w' * shape.weighted}")
            self.add(f"aim = tl.where(within, {self.constant_of(1)} * weight[:, None] * y + even, 0.0)")
            self.add("logs = z - top[:, None] - tl.log(total)[:, None]", "whole = tl.sum(aim, 1)")
            self.add("each = -tl.sum(tl.where(aim > 0, aim * logs, 0.0), 1)")
            return
        self.add("right = tl.sum(tl.where(true, z, 0.0), 1)")
        if shape.focal:
            self.add("mine = tl.sum(tl.where(true, e, 0.0), 1)", "others = tl.sum(tl.where(true, 0.0, e), 1)")
            self.focal_of_classes()
        else:
            self.add("each = tl.log(total) - (right - top)")
        if shape.weighted:
            self.add("each = each * weight")

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
            self.add("top = s0", *(f"top = {larger('top', f's{i}')}" for i in self.scales[1:]))
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


def _tables(shape: KernelShape) -> str:
    return f"{shape.tables}, jobs, {shape.slope_tables}, rows, length"
