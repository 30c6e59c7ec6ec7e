"""Each branch of the Triton kernels once, on Triton's interpreter, against the reference.

Collected only in the process that ``test_loss_triton.py`` starts: the interpreter is chosen before Triton is imported.
"""

import os

import pytest
import torch
from support.agreement import agree, outcome, right_by_differences
from support.triton_cases import BASE, CASES, build, set_kernels

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("test_loss_triton.py runs these on Triton's interpreter", allow_module_level=True)


@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Total, per-map losses, gradients of maps, operators and weights."""
    case = BASE | CASES[name]
    loss, maps, labels = build(case, torch.float64)
    expected = outcome(loss, maps, labels, "reference")
    set_kernels(case, monkeypatch)
    agree(outcome(loss, maps, labels, "triton"), expected, 1e-10, case)


@pytest.mark.parametrize("classes", [1, 3])
def test_float32(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = BASE | {"classes": classes, "strides": 2, "operators": ["sub", "mul", "concat", "attention"]}
    set_kernels(case, monkeypatch)
    loss, maps, labels = build(case, torch.float32)
    found = outcome(loss, maps, labels, "triton")
    expected = outcome(loss.double(), [one.double() for one in maps], labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_as_it_is_read(dtype: torch.dtype) -> None:
    case = BASE | {"scale": 30.0, "strides": 2, "operators": ["mul", "attention"]}
    loss, maps, labels = build(case, torch.float32)
    half = [maps[0].to(dtype), maps[1]]  # several types at once
    found = outcome(loss, half, labels, "triton")
    expected = outcome(loss.double(), [one.double() for one in half], labels, "reference")
    assert [one.dtype for one in found[2:4]] == [dtype, torch.float32]
    agree([found[0].double(), found[1].double()], expected[:2], 1e-5, case)
    agree([one.double() for one in found[2:4]], expected[2:4], torch.finfo(dtype).eps, case)


def test_gradcheck() -> None:
    assert right_by_differences("triton", 2, fast_mode=True)
