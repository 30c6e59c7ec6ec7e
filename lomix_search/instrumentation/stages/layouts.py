"""How feature maps lie in tensors: channels first or last, positions in one axis or in several."""

import dataclasses
import math

from torch import Tensor, fx

from lomix_search.instrumentation.trace import sizes

FORMS = {
    "last": "channels last",
    "tokens": "tokens",
    "flat": "flattened",
    "first": "channels first",
    "framed": "one frame",
}


@dataclasses.dataclass(frozen=True)
class MapLayout:
    """How a feature map lies in a tensor.

    Args:
        form: "first" B × C × space, "last" B × space × C, "tokens" B × positions × C, "flat" B × C × positions,
            "framed" B × C × 1 × space.
        channels: Number of channels.
        size: Spatial size.
    """

    form: str
    channels: int
    size: tuple[int, ...]

    def map_of(self, tensor: Tensor) -> Tensor:
        """Return the tensor as B × C × space; positions of another number are laid on a grid of the same proportions.

        Args:
            tensor: In this form, of any size.

        Returns:
            A view where possible.

        Raises:
            ValueError: there is no such grid.
        """
        if self.form == "first":
            return tensor
        if self.form == "last":
            return tensor.movedim(-1, 1)
        if self.form == "framed":
            return tensor.flatten(2, 3)
        flat = tensor.transpose(1, 2) if self.form == "tokens" else tensor
        return flat.reshape(*flat.shape[:2], *self._grid(flat.shape[2]))

    def _grid(self, positions: int) -> tuple[int, ...]:
        scale = (positions / math.prod(self.size)) ** (1 / len(self.size))
        grid = tuple(round(scale * side) for side in self.size)
        if math.prod(grid) != positions:
            raise ValueError(f"{positions} positions do not fill a grid of the proportions {sizes(self.size)}")
        return grid


def layout_of(node: fx.Node) -> MapLayout | None:
    """Return a value's layout; one that nothing tells is taken as B × C × space. None for what cannot be a map."""
    found: MapLayout | None = node.meta.get("map")
    shape = node.meta.get("shape", ())
    return found or (MapLayout("first", shape[1], tuple(shape[2:])) if len(shape) in (3, 4, 5) else None)


def map_layout(node: fx.Node) -> MapLayout:
    """Return the layout of a value that is a map."""
    found = layout_of(node)
    assert found is not None
    return found


def map_size(node: fx.Node) -> tuple[int, ...]:
    """Return the spatial size of a map; of other values none."""
    layout = layout_of(node)
    return layout.size if layout else ()


def broadcast(node: fx.Node, product: fx.Node) -> bool:
    """Whether a factor has fewer values than the product: it weighs channels or positions."""
    given, made = (math.prod(n.meta.get("shape", ())) for n in (node, product))
    return bool(given < made)


def channels(node: fx.Node) -> int:
    """Return the number of channels of a value that is a map; 0 for others."""
    layout = layout_of(node)
    return layout.channels if layout else 0
