"""What a pixel loses by a map, and the slope of that by its logits: ``pixel_losses`` of plain PyTorch, written out."""

from lomix_search.mixture.loss.backends.triton_writer.writer import Writer


class PixelLossWriter(Writer):
    """Writes cross-entropies, ``each``, of what ``probabilities`` left, and the slope of the total, ``d{c}``.

    With t what a pixel is to be, ``aim``, and its sum over classes, ``whole``, the slope of a cross-entropy is
    gain·(whole·p − aim), with a focal factor ``steep`` besides; without smoothed labels its weight times p − y.
    """

    # -- cross-entropies -----------------------------------------------------------------------------------------------

    def cross_entropy(self) -> None:
        """Write ``each`` of a pixel of which one class is true."""
        if self.shape.smoothed:
            self._smoothed()
            return
        self.add("right = z0", *(f"right = tl.where({self.true(c)}, z{c}, right)" for c in self.classes[1:]))
        if self.shape.focal:
            self.add("mine = e0", *(f"mine = tl.where({self.true(c)}, e{c}, mine)" for c in self.classes[1:]))
            self.add(f"others = {' + '.join(f'tl.where({self.true(c)}, 0.0, e{c})' for c in self.classes)}")
            self.focal_of_classes()
        else:
            self.add("each = tl.log(total) - (right - top)")
        if self.shape.weighted:
            self.add("each = each * weight")

    def _smoothed(self) -> None:
        weighted = self.shape.weighted
        self.add(f"keep = {self.constant_of(1)}{' * weight' * weighted}", f"even = {self.constant_of(2)}")
        for c in self.classes:
            share = f"even * tl.load(weights + {c})" if weighted else "even"
            self.add(f"aim{c} = tl.where({self.true(c)}, keep, 0.0) + {share}")
        parts = (f"tl.where(aim{c} > 0, aim{c} * (tl.log(total) - (z{c} - top)), 0.0)" for c in self.classes)
        self.add(f"each = {' + '.join(parts)}", f"whole = {' + '.join(f'aim{c}' for c in self.classes)}")

    def focal_of_classes(self) -> None:
        """Write ``each`` and ``steep`` from e and z of what is true, ``mine`` and ``right``, and e of the others.

        What is not true is added up, so that 1 − p keeps its digits where p is nearly 1. Log p does not, and need not:
        it only stands beside a power of 1 − p.
        """
        self.add("log = right - top - tl.log(total)", "below = others / total", "prob = mine / total")
        self.focal()

    def focal(self) -> None:
        """Write ``each`` and ``steep`` of what is true: its ``log`` p, p, and 1 − p, which is ``below``."""
        self.add(
            f"gamma = {self.constant_of(0)}",
            "power = tl.exp(gamma * tl.log(below))",
            "bend = tl.where(prob > 0, -prob * log / below, 0.0)",
            "steep = power * (1.0 + gamma * tl.where(below > 0, bend, 1.0))",
            "each = -log * power",
        )

    def channel(self, e: str, z: str, true: str, weight: str) -> None:
        """Write ``each`` of a channel that is judged by itself.

        Args:
            e: exp(−|z|).
            z: Its logit.
            true: Whether it is true.
            weight: Of its foreground, where there are weights.
        """
        if self.shape.smoothed:
            self.add(f"smooth = tl.where({true}, {self.constant_of(1)}, 0.0) + {self.constant_of(2)}")
            self.add(f"aim = smooth{f' * {weight}' * self.shape.weighted}", "other = 1.0 - smooth")
            self.add(f"soft = tl.log(1.0 + {e})", "whole = aim + other")
            self.add(f"up = soft - tl.where({z} > 0, 0.0, {z})", f"down = soft + tl.where({z} > 0, {z}, 0.0)")
            self.add("each = tl.where(aim > 0, aim * up, 0.0) + tl.where(other > 0, other * down, 0.0)")
            return
        if self.shape.focal:
            self.add(f"signed = tl.where({true}, {z}, -{z})")
            self.add(f"log = tl.where(signed > 0, 0.0, signed) - tl.log(1.0 + {e})")
            self.add(f"below = tl.where(signed > 0, {e}, 1.0) / (1.0 + {e})")
            self.add(f"prob = tl.where(signed > 0, 1.0, {e}) / (1.0 + {e})")
            self.focal()
        else:  # the terms of torch's: what is infinite there is infinite here
            self.add(f"rest = tl.where({true}, 0.0, 1.0) * {z}")
            self.add(f"each = tl.log(1.0 + {e}) + rest - tl.where({z} > 0, 0.0, {z})")
        if self.shape.weighted:
            self.add(f"each = tl.where({true}, {weight}, 1.0) * each")

    def own_gain(self, valid: str = "valid") -> None:
        """Write ``own``, how much ``each`` counts in the total, from ``gain``; 0 where ``valid`` is not."""
        if self.shape.largest:  # as ``shares_of_largest``
            self.add(
                "least = tl.load(cuts + map)",
                f"slack = {self.constant_of(3)} * tl.abs(least)",
                "counted = tl.where(tl.abs(each - least) <= slack, tl.load(cuts + m + map), 0.0)",
                "counted = tl.where(each <= least + slack, counted, 1.0)",
            )
        factors = " * steep" * self.shape.focal + " * counted" * self.shape.largest
        self.add(f"own = tl.where({valid}, gain{factors}, 0.0)")

    def constant_of(self, k: int) -> str:
        """Return the load of a number that stands behind the weights of the classes: ``triton_tables``."""
        return f"tl.load(weights + {self.shape.classes + k})"

    # -- slopes --------------------------------------------------------------------------------------------------------

    def slope(self, slopes: str, gains: str = "gains") -> None:
        """Write ``d{c}``, the gradient of the total by z.

        Args:
            slopes: Where a and b of the maps are.
            gains: Where it stands how much the cross-entropies count.
        """
        (self._slope_of_channels if self.shape.sigmoid else self._slope_of_classes)(slopes, gains)

    def _slope_of_classes(self, slopes: str, gains: str) -> None:
        shape, gain = self.shape, "gain"
        self.add(f"gain = tl.load({gains} + map)")
        if shape.by_pixel:
            self.cross_entropy()
            self.own_gain()
            gain = "own"
        if shape.weighted and not shape.smoothed:
            self.add(f"{gain} = {gain} * weight")
        for c in self.classes:
            self._pull(c, slopes)
            self.add(f"d{c} = pull")
        self.add(f"mean = {' + '.join(f'p{c} * d{c}' for c in self.classes)}")
        for c in self.classes:  # 0 to the last bit where p is y
            self.add(f"y = tl.where({self.true(c)}, 1.0, 0.0).to({self.type})")
            error = f"(whole * p{c} - aim{c})" if shape.smoothed else f"(p{c} - y)"
            self.add(f"d{c} = p{c} * (d{c} - mean) + {gain} * {error}")

    def _slope_of_channels(self, slopes: str, gains: str) -> None:
        shape, gain = self.shape, "own" if self.shape.by_pixel else "gain"
        if not shape.bounded:
            self.add(f"gain = tl.load({gains} + map)")
        for c in self.classes:
            weight = f"tl.load(weights + {c})"
            self._pull(c, slopes)
            if shape.bounded:
                self.add(f"edge = {self.edge(c)}", "pull = pull * edge")
                self.add(f"gain = tl.load({gains} + map * {shape.classes} + {c}) * edge")
            if shape.by_pixel:
                self.channel(f"e{c}", f"z{c}", "true", weight)
                self.own_gain()
            own = f"tl.where(true, {gain} * {weight}, {gain})" if shape.weighted and not shape.smoothed else gain
            error = f"(whole * p{c} - aim)" if shape.smoothed else f"(p{c} - y)"
            self.add(f"d{c} = pull * p{c} * (1.0 - p{c}) + {own} * {error}")

    def _pull(self, c: int, slopes: str) -> None:
        """Write ``true``, ``y`` and the gradient by a probability, ``pull``."""
        at = f"{slopes} + (map * {self.shape.classes} + {c}) * 2"
        self.add(f"true = {self.true(c)}", f"y = tl.where(true, 1.0, 0.0).to({self.type})")
        squares = f" * p{c}" * self.shape.squares
        self.add(f"pull = tl.load({at}){squares} - tl.where(true, tl.load({at} + 1), 0.0)")
