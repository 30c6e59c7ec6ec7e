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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import triton
import triton.language as tl

from lomix_search.mixture.loss.backends.triton_writer.gather import PART_NAMES, GatherWriter
from lomix_search.mixture.loss.backends.triton_writer.gradients import GradientsWriter
from lomix_search.mixture.loss.backends.triton_writer.parameters import KeptParametersWriter, ParametersWriter
from lomix_search.mixture.loss.backends.triton_writer.shape import KernelShape
from lomix_search.mixture.loss.backends.triton_writer.sums import SumsWriter
from lomix_search.mixture.loss.backends.triton_writer.writer import COUNT_NAMES, SIZE_NAMES

GATHERED = 512
"""Values at the labels' size that a program of ``gather`` reads at a time; of wide footprints twice as many."""


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
    numbers = [*SIZE_NAMES.split(", "), *shape.sizes, *COUNT_NAMES, "begin", "room", "length", "values"]
    return Kernels(
        _load("sums", SumsWriter(shape).text(), numbers),
        _load("gradients", GradientsWriter(shape).text(), numbers),
        _load("parameters", (KeptParametersWriter if shape.kept else ParametersWriter)(shape).text(), numbers),
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
    writer = GatherWriter(axes, double, width // lanes, lanes)
    return _load("gather", writer.text(), [*PART_NAMES.split(", "), *writer.sizes]), width // lanes


def most_registers(shape: KernelShape, name: str) -> int | None:
    """Return the registers of a thread that a kernel is held to, so that more programs run at a time; None: no limit.

    Args:
        shape: The shape.
        name: A name of ``Kernels``.
    """
    values = shape.scales * shape.classes
    if not shape.kept or shape.double or name == "parameters" or values > 54 or shape.by_pixel or shape.bounded:
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
