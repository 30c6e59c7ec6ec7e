"""Every engine agrees with the reference: totals, per-map losses, all gradients, on whatever hypothesis thinks of."""

import itertools
import os
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.agreement import RULES, able, agree, outcome, plain, right_by_differences
from torch import Tensor

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    """Draw sizes, classes present, ignored pixels, scale of the logits, layout in memory, operators and weights."""
    size = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 13, 19]), min_size=1, max_size=2)))
    if draw(st.booleans()) and len(size) == 2:
        size = (*size, 2)
    return {
        "size": size,
        "batch": draw(st.integers(1, 3)),
        "classes": draw(st.sampled_from([1, 2, 3, 5, 9])),
        "num_maps": draw(st.integers(1, 4)),
        "operators": draw(st.lists(st.sampled_from(RULES), unique=True, max_size=4)),
        "per_subset": draw(st.booleans()),
        "present": draw(st.integers(1, 9)),
        "ignored": draw(st.sampled_from(["none", "some", "a sample", "all"])),
        "scale": draw(st.sampled_from([0.0, 1.0, 30.0, 1e4])),
        "memory": draw(st.sampled_from(["contiguous", "strided", "channels last"])),
        "zeros": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def build(case: dict[str, object], dtype: torch.dtype) -> tuple[MixtureLoss, list[Tensor], Tensor]:
    torch.manual_seed(case["seed"])
    size, batch, classes, num_maps = case["size"], case["batch"], case["classes"], case["num_maps"]
    maps = [torch.randn(batch, classes, *size, dtype=torch.float64).to(dtype) * case["scale"] for _ in range(num_maps)]
    labels = torch.randint(min(max(classes, 2), case["present"]), (batch, *size))
    if case["ignored"] == "some":
        labels[torch.rand(labels.shape) < 0.3] = 200
    elif case["ignored"] != "none":
        labels[0 if case["ignored"] == "a sample" else slice(None)] = 200
    rules = [{"name": name, "per_subset": case["per_subset"]} for name in case["operators"]]
    space = SearchSpace(operator=tuple(rules))
    loss = MixtureLoss(space, num_maps, classes, ignore_index=200).to(dtype)
    with torch.no_grad():
        loss.weighting.theta.normal_()
    if case["zeros"]:
        chosen = torch.rand(len(loss.maps)) * (torch.arange(len(loss.maps)) % 2 == 0)
        loss = MixtureLoss(space, num_maps, classes, Fixed(loss.maps, chosen), ignore_index=200).to(dtype)
    case["pixels"] = labels.numel()
    return loss, [_in_memory(one, case["memory"]) for one in maps], labels


def _in_memory(one: Tensor, memory: object) -> Tensor:
    if memory == "strided":
        wide = torch.zeros(*one.shape[:-1], 2 * one.shape[-1], dtype=one.dtype)
        wide[..., ::2] = one
        return wide[..., ::2]
    return one.transpose(1, -1).contiguous().transpose(1, -1) if memory == "channels last" else one


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # it takes seconds for one, and walks no tries
FEW = 2 if INTERPRETED else 30
SUBSETS = (1, 6) if INTERPRETED else (1, 2, 6)
few = settings(max_examples=FEW, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@pytest.mark.parametrize("engine", able())
@few
@given(case=cases())
def test_float64_agrees_to_1e_10(engine: str, case: dict[str, object]) -> None:
    loss, maps, labels = build(case, torch.float64)
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, case)


@pytest.mark.parametrize("engine", able())
@few
@given(case=cases())
def test_float32_agrees_to_1e_5(engine: str, case: dict[str, object]) -> None:
    """Against float64, at logits that float32 can resolve: beyond, a product's rounding decides between classes."""
    case["scale"] = min(case["scale"], 1.0)
    loss, maps, labels = build(case, torch.float32)
    found = outcome(loss, maps, labels, engine)
    expected = outcome(loss.double(), [one.double() for one in maps], labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, case)


@pytest.mark.slow
@pytest.mark.parametrize("engine", able())
@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=cases())
def test_float64_agrees_on_many_more(engine: str, case: dict[str, object]) -> None:
    loss, maps, labels = build(case, torch.float64)
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, case)


@pytest.mark.slow
@pytest.mark.parametrize("engine", able())
def test_a_size_of_real_use(engine: str) -> None:
    """Many tiles and chunks, with a remainder, on all threads."""
    torch.manual_seed(0)
    maps = [torch.randn(2, 9, 43, 47, dtype=torch.float64) for _ in range(4)]
    labels = torch.randint(9, (2, 43, 47))
    loss = MixtureLoss("extended", 4, 9).double()
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@pytest.mark.parametrize("engine", able())
def test_ties_of_the_maximum_share_the_gradient_as_torch_does(engine: str) -> None:
    maps = [torch.randint(2, (1, 3, 40), dtype=torch.float64) for _ in range(3)]
    loss = MixtureLoss(SearchSpace(operator=({"name": "max"},)), 3, 3).double()  # type: ignore[arg-type]
    labels = torch.randint(3, (1, 40))
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@pytest.mark.parametrize("engine", ("reference", *able()))
@pytest.mark.parametrize("classes", [1, 2])
def test_gradcheck(engine: str, classes: int) -> None:
    assert right_by_differences(engine, classes)


F32, F64 = torch.float32, torch.float64


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


SLOW_TYPES = [slow(c, t) for c in (1, 2, 3, 4, 9) for t in (F32, F64, torch.bfloat16)]


def on_threads(count: int, work: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Return what ``work`` does on that many threads."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return work()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("engine", able())
def test_the_same_run_to_run(engine: str) -> None:
    maps = [torch.randn(2, 4, 40, 41) for _ in range(4)]
    labels = torch.randint(4, (2, 40, 41))
    loss = MixtureLoss("lomix", 4, 4)
    first, again = (outcome(loss, maps, labels, engine) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.skipif("native" not in able(), reason="no C++ compiler")
@pytest.mark.parametrize(("classes", "dtype"), [(1, F32), (3, F32), (3, F64), (4, F64), *SLOW_TYPES])
@pytest.mark.parametrize("size", [(51, 90), (9, 19, 21), *(slow(s) for s in [(31, 37), (7, 19, 16), (2000,)])])
def test_the_same_to_the_last_bit_on_any_number_of_threads(
    size: tuple[int, ...], classes: int, dtype: torch.dtype
) -> None:
    """Total, per-map losses and all gradients, of maps in their own sizes."""
    torch.manual_seed(0)
    labels = torch.randint(max(classes, 2), (2, *size))
    labels[torch.rand(labels.shape) < 0.1] = 200
    maps = [torch.randn(2, classes, *(-(-n // stride) for n in size)).to(dtype) for stride in (4, 3, 1)]
    maps.append(torch.randn(2, classes, *(2 * n for n in size)).to(dtype))  # finer than the labels
    loss = MixtureLoss("extended", 4, classes, ignore_index=200)
    loss = loss.double() if dtype == torch.float64 else loss

    def work() -> list[Tensor]:
        return outcome(loss, maps, labels, "native")

    first = on_threads(1, work)
    for count in (2, 3, 4, 7):
        again = on_threads(count, work)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), count


@pytest.mark.parametrize("engine", able())
def test_every_subset_of_the_maps_may_be_left_out(engine: str) -> None:
    """Tries with holes: a sum or product is built from smaller ones that are no maps themselves."""
    full = SearchSpace.load("lomix")
    maps = [torch.randn(1, 2, 9, dtype=torch.float64) for _ in range(3)]
    labels = torch.randint(2, (1, 9))
    ids = ["P2", "add(1,3)", "add(1,2,3)", "mul(1,2)", "mul(1,2,3)", "attention(2,3)", "concat(1,3)"]
    for count in SUBSETS:
        for kept in itertools.combinations(ids, count):
            loss = MixtureLoss(full.keep(kept), 3, 2).double()
            agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)
