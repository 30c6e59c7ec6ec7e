"""What the Triton kernels take of a GPU, read without one: registers, spills, shared memory, bytes for each pixel.

    pip install triton
    python benchmarks/triton_report.py                 # the reference row (9 classes, 4 scales, float32), L 5 and L 6
    python benchmarks/triton_report.py --scales 4 --classes 14 --logits bf16

Triton compiles for sm_90 and the ptxas that comes with it reports. Bytes are those that a pixel's originals, labels
and gradients are read and written with, by what the kernels ask for; most of what ``sums`` and ``parameters`` read
comes from the L2 cache, because programs that run together have the same pixels.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import triton

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lomix_search.mixture.loss.backends import triton as host  # noqa: E402 — the checkout's, whatever is installed
from lomix_search.mixture.loss.backends import triton_kernels  # noqa: E402
from lomix_search.mixture.loss.backends.triton_kernels import KernelShape  # noqa: E402
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


def compiled(shape: KernelShape, name: str, logits: str = "fp32") -> Report:
    """Compile a kernel for sm_90 and ask ptxas about it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

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
    options = {"maxnreg": triton_kernels.most_registers(shape, name)}
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    seconds = time.process_time() - began
    return _asked(built.asm["ptx"], built.metadata.shared, seconds)


def _type(argument: str, shape: KernelShape, logits: str) -> str:
    real = "*fp64" if shape.double else "*fp32"
    if re.fullmatch(r"[MG]\d+", argument):
        return real if argument[0] == "G" and not shape.kept else f"*{logits}"
    known = {"labels": "*i64", "dense2": real if shape.double else "*i64"}
    known |= dict.fromkeys(("entries", "walk", "jobs"), "*i32")
    known |= dict.fromkeys(("weights", "factors", "dense", "slopes", "gains", "rows"), real)
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


def shape_of(scales: int, classes: int) -> KernelShape:
    """Return the shape of the paper's space."""
    return host.kernel_shape(_plan(scales, classes), double=False)


def _plan(scales: int, classes: int) -> LossPlan:
    return LossPlan(tuple(SearchSpace.load("lomix").maps(scales)), scales, classes)


def pixel_bytes(name: str, scales: int, classes: int, logits: str) -> int:
    """Return the bytes that a kernel reads and writes for a pixel, of originals, gradients and labels."""
    plan, shape, size = _plan(scales, classes), shape_of(scales, classes), SIZES[logits]
    tables = host.tables_of(plan, shape)
    whole = scales * classes * size
    if name == "gradients":
        return 2 * whole + 8
    rows = tables.entries[1:] if name == "sums" else tables.jobs
    members = [int(row[0]).bit_count() for row in rows]
    labels = 8 * (len(members) + (name == "sums"))
    return sum(members) * classes * size + labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--logits", default="fp32", choices=("fp32", "bf16", "fp16"))
    options = parser.parse_args()
    print(f"triton {triton.__version__}, sm_90, {options.classes} classes, {options.logits}\n")
    print(
        "| L | kernel | registers | bytes spilled | shared memory, bytes | warps a multiprocessor | code, KB | "
        "bytes a pixel | to compile, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for scales in options.scales:
        for name in KERNELS:
            found = compiled(shape_of(scales, options.classes), name, options.logits)
            cells = (found.registers, found.spilled, found.shared, found.warps, f"{found.code / 1024:.0f}")
            moved = pixel_bytes(name, scales, options.classes, options.logits)
            print(f"| {scales} | {name} | {' | '.join(map(str, cells))} | {moved} | {found.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter compiles nothing"
    main()
