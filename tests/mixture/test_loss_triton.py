"""The Triton kernels, on Triton's interpreter: golden files and every branch; and that they compile for a real GPU.

The interpreter must be chosen before Triton is first imported, so these tests run in a process of their own.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
from support.loss_terms import ON_INTERPRETER as FEW
from support.places import ROOT, TESTS
from support.triton_cases import CASES

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

FILES = ("", "_golden", "_exact", "_hostile", "_triton_branches", "_multilabel", "_terms_engines")
"""Of the tests that the interpreter is given."""
GOLDEN = ("authors[two_scales", "ignored_pixels", "nan-triton", "ties")
"""What the authors' module said; NaN at and beside ignored pixels, ties."""
HOSTILE = ("minus_infinity", "same_everywhere", "binary_infinities", "small_part", "no_item", "no_pixel")
"""Infinities, no item, no pixel."""
OPTIONS = ("multilabel and float64", "terms_engines and float64")
"""Several channels of 0 and 1; what ``support.loss_terms`` has the interpreter do."""


def run_interpreted() -> list[str]:
    """Return the tests that passed on the interpreter, all of them in one process; none may fail."""
    chosen = " or ".join((*GOLDEN, *HOSTILE, "branches", *OPTIONS))
    options = ["-v", "-x", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", "-k", chosen]
    files = [str(TESTS / "mixture" / f"test_loss{part}.py") for part in FILES]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return [line.partition(" PASSED")[0] for line in done.stdout.splitlines() if " PASSED" in line]


@pytest.mark.slow
def test_the_kernels_agree_with_the_authors_and_with_the_reference_in_every_branch() -> None:
    passed = run_interpreted()
    assert {part for part in (*GOLDEN, *HOSTILE) if not any(part in name for name in passed)} == set()
    branches = {name.rpartition("::")[2] for name in passed if "test_loss_triton_branches" in name}
    assert {f"test_float64[{case}]" for case in CASES} <= branches
    options = [name for name in passed if "multilabel" in name or "terms_engines" in name]
    agreeing = {name.partition("[")[2] for name in options if "test_float64_agrees" in name}
    assert {f"triton-{case}]" for case in FEW} <= agreeing and len(agreeing) == len(FEW) + 1
    assert len(branches) == len(CASES) + 7


COMPILE = """
from benchmarks.triton_report import compiled
from lomix_search.mixture.loss.backends.triton_writer import shape as limits
from lomix_search.mixture.loss.backends.triton_writer.shape import KernelShape

EVERY, LEARNED = (0, 1, 2, 3, 4), (3, 4)
for shape, logits in (
    (KernelShape(2, 2, EVERY, False, True, False, False, False), "fp32"),
    (KernelShape(2, 1, LEARNED, True, False, True, True, False, (0,), 2), "bf16"),
    (KernelShape(1, 2, (0,), False, True, False, False, True), "fp64"),
    (KernelShape(2, 2, EVERY, False, True, False, True, False, focal=True, largest=True), "fp32"),
    (KernelShape(2, 2, EVERY, True, True, False, True, False, smoothed=True, largest=True), "fp32"),
    (KernelShape(2, 1, EVERY, True, False, True, True, False, focal=True, bounded=True), "fp32"),
):
    for name in ("gather",) * bool(shape.coarse) + ("sums", "gradients", "parameters")[: 2 + (len(shape.kinds) > 1)]:
        found = compiled(shape, name, logits)
        assert found.registers > 16, found
        assert found.spilled == 0, found
limits.KEPT = 0  # originals are not kept
for shape in (
    KernelShape(1, 2, (4,), False, True, False, False, False, (0,), 3),
    KernelShape(1, 2, LEARNED, False, True, False, True, False, (0,), 3, focal=True, largest=True),
    KernelShape(1, 2, LEARNED, False, True, False, True, False, (0,), 3, smoothed=True),
    KernelShape(1, 2, LEARNED, True, True, True, True, False, (0,), 3, smoothed=True, bounded=True),
):
    assert all(compiled(shape, name).registers > 16 for name in ("gather", "sums", "gradients", "parameters")), shape
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILE], cwd=ROOT, env=environment, check=True)
