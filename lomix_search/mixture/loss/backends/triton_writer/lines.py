"""Lines of a kernel, and where a pixel reads an original that is coarser than the labels."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager


class Lines(ABC):
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
        """Append lines at today's depth."""
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a head; what is added inside stands one level deeper."""
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
