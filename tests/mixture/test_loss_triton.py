"""The Triton kernels, on Triton's interpreter: golden files and every branch; and that they compile for a real GPU.

The interpreter must be chosen before Triton is first imported, so these tests run in a process of their own.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from support.places import ROOT, TESTS
from support.triton_cases import CASES

from lomix_search.errors import LossError
from lomix_search.mixture.loss.dispatch import choose_engine

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

FILES = ("", "_golden", "_exact", "_hostile", "_triton_branches", "_multilabel", "_terms_engines")
"""Of the tests that the interpreter is given."""
GOLDEN = ("with_the_authors", "ignored_pixels", "culprits", "ties", "left_out")
"""What the authors' module said; NaN at and beside ignored pixels, ties, maps left out."""
HOSTILE = ("minus_infinity", "same_everywhere", "binary_infinities", "small_part", "no_item", "no_pixel", "several")
"""Infinities, no item, no pixel, mixed types."""
OPTIONS = ("multilabel and float64", "terms_engines and float64")
"""Several channels of 0 and 1; plain denominators, sums of each image, class weights."""


def run_interpreted() -> list[str]:
    """Return the tests that passed on the interpreter, all of them in one process; none may fail."""
    chosen = " or ".join((*GOLDEN, *HOSTILE, "branches", *OPTIONS))
    options = ["-v", "-x", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", "-k", chosen]
    files = [str(TESTS / "mixture" / f"test_loss{part}.py") for part in FILES]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return [line.split()[0] for line in done.stdout.splitlines() if " PASSED" in line]


@pytest.mark.slow
def test_the_kernels_agree_with_the_authors_and_with_the_reference_in_every_branch() -> None:
    passed = run_interpreted()
    assert {part for part in (*GOLDEN, *HOSTILE) if not any(part in name for name in passed)} == set()
    branches = {name.rpartition("::")[2] for name in passed if "test_loss_triton_branches" in name}
    assert {f"test_float64[{case}]" for case in CASES} <= branches
    options = [name for name in passed if "multilabel" in name or "terms_engines" in name]
    assert sum("test_float64_agrees" in name for name in options) == 5
    assert len(branches) == len(CASES) + 6


def test_what_its_compiler_cannot_do_is_left_to_pytorch() -> None:
    assert choose_engine("auto", "cuda", 1, 3, torch.float64) == "tiled"
    assert choose_engine("auto", "cuda", 2, 3, torch.float64) == choose_engine("auto", "cuda", 1) == "triton"
    with pytest.raises(LossError, match=r"cannot run on cuda: Triton 3\.6 cannot compile one map in float64"):
        choose_engine("triton", "cuda", 1, 3, torch.float64)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lomix_search.mixture.loss.backends import triton as host, triton_kernels as kernels

def signature(kernel, logits):
    kinds = {"labels": "*i64", "order": "*i32", "members": "*i32", "factors": "*fp32"}
    kinds |= dict.fromkeys("abg", "*fp32") | {"dense": "*fp32", "weights": "*fp32"}
    kinds |= {"rows": "*fp64" if kernel is kernels.forward else "*fp32"}
    kinds |= {f"{letter}{i}": f"*{logits}" for letter in "MG" for i in range(6)}
    return {n: "constexpr" if n in sizes else kinds.get(n, "i32") for n in kernel.arg_names}

for logits, maps, classes, sigmoid in (("fp32", 4, 9, False), ("bf16", 2, 1, True), ("fp32", 4, 3, True)):
    lp, cp = host._pad(maps), host._pad_classes(classes)
    block = max(16, min(128, host.BLOCK_ELEMENTS // (lp * cp)))
    sizes = {"L": maps, "LP": lp, "C": classes, "CP": cp, "BLOCK": block, "SIGMOID": sigmoid}
    sizes |= {"SQUARES": not sigmoid, "PER_IMAGE": sigmoid, "WEIGHTED": classes == 3}
    for kernel in (kernels.forward, kernels.backward):
        source = ASTSource(kernel, signature(kernel, logits), constexprs=sizes)
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert len(built.asm["cubin"]) > 1000
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILE], cwd=ROOT, env=environment, check=True)
