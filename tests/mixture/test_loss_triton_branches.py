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


def test_a_first_kernel_tells_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from lomix_search.mixture.loss.backends import triton as host

    assert host.first_run("cpu") == ""
    monkeypatch.setattr(host.triton_kernels, "first_kernel", lambda: {(1,): lambda value: None})
    assert host.first_run("cpu") == "a first kernel made 0.0 of 0 + 1"
    monkeypatch.setattr(host.triton_kernels, "first_kernel", lambda: {})
    assert host.first_run("cpu") == "KeyError: (1,)"


def test_what_is_kept_between_steps_is_there_before_a_compiled_step_runs() -> None:
    """A CUDA graph that torch.compile records must not be what these tables are taken from."""
    from lomix_search.mixture.loss.backends import triton as host

    loss, maps, labels = build(BASE | {"operators": ["concat"], "strides": 2}, torch.float32)
    loss.engine = "triton"
    expected = loss(maps, labels)
    host.tables_of.cache_clear()
    running = host.sums
    missed: list[int] = []

    def watched(*given: object) -> torch.Tensor:
        missed.append(host.tables_of.cache_info().misses)
        found = running(*given)
        missed.append(host.tables_of.cache_info().misses)
        return found

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(host, "sums", watched)
        total = torch.compile(loss, fullgraph=True, backend="aot_eager")(maps, labels)
    assert missed == [1, 1]
    torch.testing.assert_close(total, expected)


def test_gradcheck() -> None:
    assert right_by_differences("triton", 2, fast_mode=True)
