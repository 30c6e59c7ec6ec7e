"""What the Triton kernels take of a GPU, read without one: registers, spills, shared memory, bytes for each pixel.

    pip install triton
    python benchmarks/triton_report.py                 # the reference row (9 classes, 4 scales, float32), L 5 and L 6
    python benchmarks/triton_report.py --scales 4 --classes 14 --logits bf16
    python benchmarks/triton_report.py --scales 4 --options smoothed        # or focal, largest (top_k), weighted
    python benchmarks/triton_report.py --strides 8 4 2 1           # originals as a network's heads give them
    python benchmarks/triton_report.py --strides 32 16 8 4 --computed      # bytes and memory alone, in a second

Triton compiles for sm_90 and the ptxas that comes with it reports. Bytes are those that a pixel's originals, labels
and gradients are read and written with, by what the kernels ask for; most of what ``sums`` and ``parameters`` read
comes from the L2 cache, because programs that run together have the same pixels. Below the table stands what is
computed: bytes that must come from memory, and the extra memory of a step, on a GPU of 132 multiprocessors.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import triton

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lomix_search.mixture.loss.backends import triton as host  # noqa: E402 — the checkout's, whatever is installed
from lomix_search.mixture.loss.backends import triton_kernels, triton_tables  # noqa: E402
from lomix_search.mixture.loss.backends.triton_writer.shape import KernelShape  # noqa: E402
from lomix_search.mixture.loss.kernel_plan import kernel_plan  # noqa: E402
from lomix_search.mixture.loss.plan import LossPlan  # noqa: E402
from lomix_search.mixture.space import SearchSpace  # noqa: E402

KERNELS = ("sums", "gradients", "parameters")
SIZES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp64": 8}


class Report(NamedTuple):
    """What ptxas says of a kernel; seconds are those that Triton took to compile it."""

    registers: int
    spilled: int
    shared: int
    code: int
    seconds: float

    @property
    def warps(self) -> int:
        """Warps that fit on one multiprocessor, which has 65536 registers and room for 64."""
        return min(64, 65536 // (32 * -(-self.registers // 8) * 8))


def compiled(shape: KernelShape, name: str, logits: str = "fp32", footprint: int = 16) -> Report:
    """Compile a kernel for sm_90 and ask ptxas about it; ``footprint`` is for ``gather``."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if name == "gather":
        kernel, _ = triton_kernels.gather_kernel(shape.axes, shape.double, footprint)
    else:
        kernel = getattr(triton_kernels.kernels(shape), name)
    types = [_type(argument, shape, logits) for argument in kernel.arg_names]
    aligned = [i for i, kind in enumerate(types) if kind.startswith("*")]
    source = ASTSource(
        kernel,
        dict(zip(kernel.arg_names, types, strict=True)),
        constexprs={},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    began = time.process_time()
    options = {"maxnreg": None if name == "gather" else triton_kernels.most_registers(shape, name)}
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    seconds = time.process_time() - began
    return _asked(built.asm["ptx"], built.metadata.shared, seconds)


def _type(argument: str, shape: KernelShape, logits: str) -> str:
    real = "*fp64" if shape.double else "*fp32"
    if re.fullmatch(r"[MG]\d+", argument):
        wide = argument[0] == "G" and (not shape.kept or int(argument[1:]) in shape.coarse)
        return real if wide else f"*{logits}"
    known = {"labels": "*i64", "dense2": real if shape.double else "*i64"}
    known |= dict.fromkeys(("entries", "walk", "jobs"), "*i32")
    known |= dict.fromkeys(
        ("weights", "factors", "dense", "bounds", "slopes", "gains", "cuts", "rows", "held", "part", "grads"), real
    )
    return known.get(argument, "i32")


def _asked(ptx: str, shared: int, seconds: float) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx, encoding="utf-8")
        target = re.search(r"\.target (\w+)", ptx)
        assert target is not None
        command = [_ptxas(), "-v", f"--gpu-name={target[1]}", "-o", f"{path}.cubin", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        code = _code(Path(f"{path}.cubin").read_bytes())
    registers, spilled = re.search(r"Used (\d+) registers", said), re.search(r"(\d+) bytes spill stores", said)
    assert registers is not None, said
    return Report(int(registers[1]), int(spilled[1]) if spilled else 0, shared, code, seconds)


def _code(cubin: bytes) -> int:
    """Return the bytes of machine code: the size of the section .text of an ELF file."""
    fields = (40, 48), (58, 60), (60, 62), (62, 64)
    table, size, number, names = (int.from_bytes(cubin[a:b], "little") for a, b in fields)
    sections = [cubin[table + i * size : table + (i + 1) * size] for i in range(number)]
    place = int.from_bytes(sections[names][24:32], "little")
    for section in sections:
        start = place + int.from_bytes(section[:4], "little")
        if cubin[start:].startswith(b".text."):
            return int.from_bytes(section[32:40], "little")
    return 0


def _ptxas() -> str:
    """Return the ptxas that Triton itself calls for sm_90."""
    from triton.backends.nvidia import compiler

    try:
        found: Any = compiler.get_ptxas(90)
    except (AttributeError, TypeError):  # earlier versions
        return str(Path(triton.__file__).parent / "backends/nvidia/bin/ptxas")
    return str(getattr(found, "path", found))


def shape_of(scales: int, classes: int, strides: Sequence[int] = (), axes: int = 2) -> KernelShape:
    """Return the shape of the paper's space, with originals at strides, coarse to fine."""
    coarse = tuple(i for i, stride in enumerate(strides) if stride > 1)
    return triton_tables.kernel_shape(_plan(scales, classes), double=False, coarse=coarse, axes=axes)


def _plan(scales: int, classes: int) -> LossPlan:
    return LossPlan(tuple(SearchSpace.load("lomix").maps(scales)), scales, classes)


def pixel_bytes(name: str, shape: KernelShape, logits: str) -> int:
    """Return the bytes that a kernel asks for or writes for a pixel, of originals, gradients and labels."""
    around = [(1 << shape.axes if i in shape.coarse else 1) * SIZES[logits] for i in range(shape.scales)]
    part = 4 * len(shape.coarse)
    if name == "gather":
        return shape.classes * part << shape.axes
    if name == "gradients":
        written = part + (shape.scales - len(shape.coarse)) * SIZES[logits]
        return shape.classes * (sum(around) + written) + 8
    tables = triton_tables.tables_of(_plan(shape.scales, shape.classes), replace(shape, coarse=(), axes=0))
    rows = [int(row[0]) for row in (tables.entries[1:] if name == "sums" else tables.jobs)]
    read = sum(around[i] for bits in rows for i in range(shape.scales) if bits >> i & 1)
    return read * shape.classes + 8 * (len(rows) + (name == "sums"))


def computed(shape: KernelShape, strides: Sequence[int], logits: str, batch: int, size: Sequence[int]) -> Iterator[str]:
    """Say what a step must move and hold."""
    own = [[-(-n // stride) for n in size] for stride in strides or [1] * shape.scales]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[logits]
    maps = [torch.empty(batch, shape.classes, *one, dtype=dtype) for one in own]
    pixels, bytes_ = batch * math.prod(size), sum(one.numel() * one.itemsize for one in maps)
    yield (
        f"From memory, at least, for each pixel: {bytes_ / pixels + 8:.1f} bytes read in each of three passes over "
        f"originals and labels, {bytes_ / pixels:.1f} written."
    )
    work = kernel_plan(_plan(shape.scales, shape.classes))
    labels = torch.empty(batch, *size, dtype=torch.int64)
    launch = host._Launch(maps, labels, torch.zeros(work.num_params), work)
    held = {
        "gradients at their own size": sum(
            one.numel() * (4 if i in shape.coarse else one.itemsize) for i, one in enumerate(maps)
        )
    }
    tiles = launch.tiles(host.BLOCK)
    with patch.object(host, "_multiprocessors", lambda device: 132):
        at_once = host._at_once(launch, tiles) if shape.coarse else 0
    held["their part at the labels' size"] = at_once * host.BLOCK * len(shape.coarse) * shape.classes * 4
    rows = max(
        host.size_of(work.plan) * host._parts(tiles, host.size_of(work.plan)),
        launch.tables.length * host._parts(tiles, launch.tables.length),
    )
    held["rows of sums"] = 4 * rows
    told = ", ".join(f"{what} {n / 2**20:.2f}" for what, n in held.items())
    own, *others = held.values()  # the part is given back before the rows are taken
    most, last = ((own + max(others)) / 2**20, pixels * shape.classes * SIZES[logits] / 2**20)
    yield (
        f"Extra memory of a step, batch {batch}, {' × '.join(map(str, size))}, MiB: {told}; at most "
        f"{most:.2f} at a time, where the last layer's logits alone take {last:.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--logits", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--strides", type=int, nargs="+", default=[], help="of the originals, coarse to fine")
    parser.add_argument("--size", type=int, nargs="+", default=[224, 224])
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--options", nargs="+", default=[], choices=("weighted", "focal", "smoothed", "largest"))
    parser.add_argument("--computed", action="store_true", help="compile nothing")
    options = parser.parse_args()
    options.scales = [len(options.strides)] if options.strides else options.scales
    if not options.computed:
        compiled_table(options)
    for scales in options.scales:
        shape = shape_of(scales, options.classes, options.strides, len(options.size))
        print(f"\nL {scales}, computed:")
        print(*computed(shape, options.strides, options.logits, options.batch, options.size), sep="\n")


def compiled_table(options: argparse.Namespace) -> None:
    """Print what ptxas says."""
    print(f"triton {triton.__version__}, sm_90, {options.classes} classes, {options.logits}\n")
    print(
        "| L | kernel | registers | bytes spilled | shared memory, bytes | warps a multiprocessor | code, KB | "
        "bytes a pixel | to compile, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for scales in options.scales:
        shape = shape_of(scales, options.classes, options.strides, len(options.size))
        shape = replace(shape, **dict.fromkeys(options.options, True))
        for name in [*KERNELS, *(["gather"] if shape.coarse else [])]:
            found = compiled(shape, name, options.logits)
            cells = (found.registers, found.spilled, found.shared, found.warps, f"{found.code / 1024:.0f}")
            moved = pixel_bytes(name, shape, options.logits)
            print(f"| {scales} | {name} | {' | '.join(map(str, cells))} | {moved} | {found.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter compiles nothing"
    main()
