"""The adjoint of the interpolation, by which the gradient of a coarse original is added up at its own size."""

from lomix_search.mixture.loss.backends.triton_writer.lines import Lines

PART_NAMES = "begin, room, padded, start, count, classes"


class GatherWriter(Lines):
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
        """Write all lines of the kernel."""
        with self.block(f"def gather(part, grads, {PART_NAMES}, {', '.join(self.sizes)}):"):
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
