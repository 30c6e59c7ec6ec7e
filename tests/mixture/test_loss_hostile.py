"""What could break an engine: infinities, no item, very many scales and classes, mixed types, no threads, 2³¹ elements.

Every engine answers as the reference does, and the reference as PyTorch's own losses do.
"""

import ctypes
import math
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import able, agree, outcome, plain
from support.mixture_losses import taken
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.backends import native
from lomix_search.mixture.loss.dispatch import choose_engine
from lomix_search.mixture.loss.kernel_plan import kernel_plan
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.maps import Map
from lomix_search.mixture.rules import OperatorRule
from lomix_search.mixture.space import SearchSpace

RULES = ("add", "mul", "sub", "avg", "max", "concat", "attention")
INF = float("inf")
engines = pytest.mark.parametrize("engine", able())
every = pytest.mark.parametrize("engine", ("reference", *able()))


# -- infinities, NaN and huge numbers ----------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_at_minus_infinity_is_as_if_it_were_not_there(engine: str, dtype: torch.dtype) -> None:
    """Masked classes: where no label has them, losses and gradients are those of the other classes."""
    two = torch.randn(2, 2, 40, dtype=dtype)
    labels = torch.randint(2, (2, 40))
    masked = torch.cat([two, torch.full((2, 1, 40), -INF, dtype=dtype)], 1).requires_grad_()
    loss = MixtureLoss("last_layer", 1, 3, engine=engine, ce=1.0, dice=0.0).to(dtype)
    step = taken(loss, [masked], labels)
    torch.testing.assert_close(step.per_map[0], F.cross_entropy(two, labels))
    (grad,) = torch.autograd.grad(step.total, masked)
    assert (grad[:, 2] == 0).all()
    assert grad.isfinite().all()
    both = taken(MixtureLoss("last_layer", 1, 3, engine=engine).to(dtype), [masked], labels)
    assert both.total.isfinite()


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, object]:
    """Draw a few maps and put what is not finite, or hardly, at a few places."""
    bad = st.sampled_from([-INF, INF, math.nan, 1e30, -1e30, 88.0, -104.0, 3e4, 0.0])
    return {
        "classes": draw(st.sampled_from([1, 2, 3, 17])),
        "num_maps": draw(st.integers(1, 3)),
        "operators": draw(st.lists(st.sampled_from(RULES), unique=True, max_size=3)),
        "pixels": draw(st.sampled_from([1, 7, 33, 70])),
        "places": draw(st.lists(st.tuples(st.integers(0, 2**16), bad), min_size=1, max_size=4)),
        "ignored": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
        "dtype": draw(st.sampled_from([torch.float64, torch.float32])),
    }


def as_is(loss: MixtureLoss, maps: list[Tensor], labels: Tensor, engine: str) -> list[Tensor]:
    """Return per-map losses and the gradients of maps and operators; those of weights follow from the losses."""
    loss.engine = engine
    leaves = [one.detach().requires_grad_() for one in maps]
    step = taken(loss, leaves, labels)
    wanted = [*leaves, *loss.operators.parameters()]
    return [step.per_map, *torch.autograd.grad(step.total, wanted)]


def compare(case: dict[str, object], engine: str) -> None:
    """Where the reference is finite, so is the engine, and they agree; where it is not, the engine is not either."""
    torch.manual_seed(case["seed"])
    classes, dtype = case["classes"], case["dtype"]
    maps = [torch.randn(2, classes, case["pixels"], dtype=dtype) for _ in range(case["num_maps"])]
    for place, value in case["places"]:
        flat = maps[place % len(maps)].view(-1)
        flat[place % len(flat)] = value
    labels = torch.randint(max(classes, 2), (2, case["pixels"]))
    labels[:, ::3] = 255 if case["ignored"] else labels[:, ::3]
    space = SearchSpace(operator=tuple(OperatorRule(name=name) for name in case["operators"]))
    loss = MixtureLoss(space, len(maps), classes, ignore_index=255).to(dtype)
    found, expected = as_is(loss, maps, labels, engine), as_is(loss, maps, labels, "reference")
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for i, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(f.isfinite(), e.isfinite()), (case, i, f, e)
        if i == 0:
            assert torch.equal(f.isnan(), e.isnan()), (case, i, f, e)
        fine = e.isfinite()
        scale = max(1.0, float(e[fine].abs().max())) if fine.any() else 1.0
        assert (f[fine] - e[fine]).abs().max().item() <= tolerance * scale if fine.any() else True, (case, i, f, e)


FEW = 2 if os.environ.get("TRITON_INTERPRET") == "1" else 25  # the interpreter takes seconds for one


@engines
@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(case=hostile())
def test_what_is_not_finite_is_the_same_everywhere(engine: str, case: dict[str, object]) -> None:
    compare(case, engine)


@pytest.mark.slow
@engines
@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=hostile())
def test_what_is_not_finite_is_the_same_in_many_more(engine: str, case: dict[str, object]) -> None:
    compare(case, engine)


@every
def test_binary_infinities_are_those_of_torch(engine: str) -> None:
    for logit in (-INF, INF, math.nan, 1e30, -1e30, 0.0):
        for label in (0, 1):
            z, y = torch.full((1, 1, 1), logit), torch.full((1, 1), label)
            expected = F.binary_cross_entropy_with_logits(z, y[:, None].float())
            found = taken(MixtureLoss("last_layer", 1, 1, engine=engine, ce=1.0, dice=0.0), [z], y).per_map[0]
            torch.testing.assert_close(found, expected, equal_nan=True)


@every
def test_huge_logits_keep_the_small_part_of_the_loss(engine: str) -> None:
    """log 2 beside 10⁸ is lost where it is added to the logit before the logit is taken off."""
    z = torch.full((1, 2, 5), 1e8)
    found = taken(MixtureLoss("last_layer", 1, 2, engine=engine, ce=1.0, dice=0.0), [z], torch.zeros(1, 5).long())
    torch.testing.assert_close(found.per_map[0], torch.tensor(math.log(2)))


# -- many scales, many classes -----------------------------------------------------------------------------------------


@engines
@pytest.mark.parametrize("scales", [8, 17, 40])
def test_operators_over_any_number_of_scales(engine: str, scales: int) -> None:
    """Arrays of 16 or 17 scales held these once: past their ends there was no error, but a crash, or wrong numbers."""
    every_scale = ",".join(map(str, range(1, scales + 1)))
    ids = [f"P{scales}", *(f"{name}({subset})" for name in RULES for subset in (every_scale, f"1,{scales}"))]
    space = SearchSpace(operator=tuple(OperatorRule(name=name) for name in RULES)).keep(ids)
    loss = MixtureLoss(space, scales, 3).double()
    assert len(loss.maps) == len(ids)
    maps = [torch.randn(1, 3, 37, dtype=torch.float64) for _ in range(scales)]
    labels = torch.randint(3, (1, 37))
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@engines
@pytest.mark.parametrize("classes", [255, 257])
def test_many_classes(engine: str, classes: int) -> None:
    """A tile's Σ exp are multiplied before their logarithm is taken: equal logits make each of them C."""
    loss = MixtureLoss("lomix", 2, classes)
    maps, labels = [torch.zeros(1, classes, 70) for _ in range(2)], torch.randint(classes, (1, 70))
    expected = outcome(loss, maps, labels, "reference")
    agree(outcome(loss, maps, labels, engine), expected, 2e-5, plain)
    assert abs(float(taken(loss, maps, labels).per_map[0]) - 0.3 * math.log(classes)) < 0.71


def test_more_classes_than_the_kernel_takes_go_elsewhere() -> None:
    assert choose_engine("auto", "cpu", 2, 2**16) == "tiled"
    with pytest.raises(LossError, match="it takes up to 65535 classes, not 65536"):
        choose_engine("native", "cpu", 2, 2**16)


# -- nothing to add up -------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [(5,), (4, 6), (2, 3, 4)])
def test_a_batch_of_no_item_loses_nothing(engine: str, classes: int, size: tuple[int, ...]) -> None:
    """A process of several may get none; maps of other sizes are resized all the same."""
    loss = MixtureLoss("extended", 2, classes, engine=engine)
    maps = [torch.randn(0, classes, *([3] * len(size)), requires_grad=True), torch.randn(0, classes, *size)]
    labels = torch.zeros(0, *size).long()
    step = taken(loss, maps, labels)
    assert torch.equal(step.per_map, torch.zeros(len(loss.maps)))
    step.total.backward()
    assert maps[0].grad is not None and maps[0].grad.shape == maps[0].shape
    assert all(p.grad is None or (p.grad == 0).all() for p in loss.operators.parameters())


@every
def test_images_of_no_pixel_are_refused(engine: str) -> None:
    loss = MixtureLoss("lomix", 2, 3, engine=engine)
    for map_size, label_size in (((0, 4), (0, 4)), ((4, 4), (0, 4)), ((0, 4), (4, 4)), ((4, 0), (4, 0))):
        with pytest.raises(LossError, match="has no pixel"):
            loss([torch.randn(2, 3, *map_size)] * 2, torch.zeros(2, *label_size).long())


# -- types and memory --------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("labels_type", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_labels_of_any_integer_type(engine: str, labels_type: torch.dtype) -> None:
    loss = MixtureLoss("lomix", 2, 2, engine=engine)
    maps, labels = [torch.randn(2, 2, 5, 4) for _ in range(2)], torch.randint(2, (2, 5, 4))
    assert torch.equal(taken(loss, maps, labels.to(labels_type)).per_map, taken(loss, maps, labels).per_map)


@engines
def test_maps_of_several_types_are_computed_in_the_widest(engine: str) -> None:
    types = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
    labels = torch.randint(3, (2, 9))
    pairs = SearchSpace.load("lomix").only(sizes=[2])
    for kinds in (types, types[:3], types[:2], types[:1], types[::-1]):
        loss = MixtureLoss(pairs if len(kinds) > 1 else "lomix", len(kinds), 3).to(
            torch.float64 if torch.float64 in kinds else torch.float32
        )
        maps = [torch.randn(2, 3, 9).to(kind) for kind in kinds]
        found, expected = (outcome(loss, maps, labels, name) for name in (engine, "reference"))
        assert [one.dtype for one in found] == [one.dtype for one in expected]
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, rtol=2e-2 if f.dtype in types[:2] else 1e-4, atol=1e-4)


@engines
@pytest.mark.parametrize("kind", ["expanded", "strided", "transposed", "channels last", "negative", "tile of a larger"])
def test_maps_and_labels_in_any_memory(engine: str, kind: str) -> None:
    base, rows = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randint(3, (2, 8, 8))
    view = {
        "expanded": lambda one: one[:1].expand(2, *one.shape[1:]),
        "strided": lambda one: one[..., ::2, ::2],
        "transposed": lambda one: one.transpose(-1, -2),
        "channels last": lambda one: one.movedim(1, -1).contiguous().movedim(-1, 1),
        "negative": lambda one: one.flip(-1),
        "tile of a larger": lambda one: one[..., 1:6, 2:7],
    }[kind]
    loss = MixtureLoss("extended", 2, 3).double()
    maps, labels = [view(base), view(base * 2)], view(rows)
    expected = outcome(loss, [one.contiguous() for one in maps], labels.contiguous(), "reference")
    agree(outcome(loss, maps, labels, engine), expected, 1e-10, plain)


@every
def test_what_is_no_tensor_or_elsewhere_is_refused(engine: str) -> None:
    loss = MixtureLoss("lomix", 2, 3, engine=engine)
    maps, labels = [torch.randn(2, 3, 4) for _ in range(2)], torch.randint(3, (2, 4))
    for wrong, message in (
        ([maps[0], maps[1].numpy()], "Map 2 is a ndarray; a tensor is needed."),
        ({"fine": maps[0], "coarse": maps[1]}, "MixtureLoss got a dict; maps are tensors, coarse to fine"),
        ([maps[0], maps[1].to("meta")], "Map 2 is on meta, map 1 on cpu."),
        (None, "MixtureLoss got a NoneType; maps are tensors, coarse to fine"),
    ):
        with pytest.raises(LossError) as caught:
            loss(wrong, labels)
        assert str(caught.value).startswith(message)
    with pytest.raises(LossError, match="Labels are a ndarray; a tensor is needed"):
        loss(maps, labels.numpy())


# -- threads -----------------------------------------------------------------------------------------------------------

NO_THREADS = """
import os, resource, torch
from lomix_search.mixture.loss import MixtureLoss
torch.manual_seed(0)
maps, labels = [torch.randn(1, 3, 2000, requires_grad=True) for _ in range(2)], torch.randint(3, (1, 2000))
loss = MixtureLoss("lomix", 2, 3, engine="native")
def step():
    total = loss(maps, labels)
    return total, *torch.autograd.grad(total, maps)
before = step()
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
if os.getuid() == 0:
    os.setuid(65534)  # root is not limited
import threading
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    raise SystemExit("threads can still be made")
torch.set_num_threads(8)
assert all(map(torch.equal, before, step()))
"""


@pytest.mark.slow  # another process imports torch
@pytest.mark.skipif("native" not in able() or sys.platform != "linux", reason="no C++ kernel, or no such limit here")
def test_where_the_system_gives_no_threads_one_does_all() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", NO_THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- more than 2³¹ elements --------------------------------------------------------------------------------------------


class Repeated:
    """A tensor of many equal images in the memory of one, the last image apart: more than 2³¹ elements in little."""

    def __init__(self, folder: Path, image: Tensor, times: int, last: Tensor) -> None:
        self.size = image.numel() * image.element_size()
        assert self.size % mmap.ALLOCATIONGRANULARITY == 0
        self.file = folder / f"{id(self)}"
        self.file.write_bytes(image.numpy().tobytes() + last.numpy().tobytes())
        handle = os.open(self.file, os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        nothing, both, shared, fixed = 0, 3, 1, 0x10
        self.start = libc.mmap(None, self.size * times, nothing, 0x22 | 0x4000, -1, 0)
        for i in range(times):
            at = self.size if i == times - 1 else 0
            where = libc.mmap(self.start + i * self.size, self.size, both, shared | fixed, handle, at)
            assert where == self.start + i * self.size, ctypes.get_errno()
        os.close(handle)
        self.unmap = lambda: libc.munmap(ctypes.c_void_p(self.start), ctypes.c_size_t(self.size * times))
        raw = (ctypes.c_byte * (self.size * times)).from_address(self.start)
        self.tensor = torch.frombuffer(raw, dtype=image.dtype).view(times, *image.shape)

    def halves(self) -> Tensor:
        """Return the repeated image and the last one, as they are now."""
        flat = torch.frombuffer(bytearray(self.file.read_bytes()), dtype=self.tensor.dtype)
        return flat.view(2, *self.tensor.shape[1:])


@pytest.mark.slow
@pytest.mark.skipif("native" not in able() or sys.platform != "linux", reason="no C++ kernel, or no such memory here")
def test_sums_and_gradients_beyond_two_to_the_31_elements(tmp_path: Path) -> None:
    """Also the number of pixels, and of bytes of course; what stands last is found, and written, at its place."""
    classes, pixels = 8, 2**18
    times = 2**31 // (classes * pixels) + 2
    torch.manual_seed(0)
    usual, last = torch.randn(classes, pixels), torch.randn(classes, pixels)
    maps = Repeated(tmp_path, usual, times, last)
    labels = Repeated(tmp_path, *(lambda a, b: (a, times, b))(*torch.randint(classes, (2, pixels))))
    assert maps.tensor.numel() > 2**31
    work = kernel_plan(LossPlan((Map("original", (1,)),), 1, classes))
    none = torch.zeros(0)
    one, other = (
        native.sums([part.view(1, classes, pixels)], where.view(1, pixels), none, work)
        for part, where in zip((usual, last), labels.halves(), strict=True)
    )
    found = native.sums([maps.tensor], labels.tensor, none, work)
    torch.testing.assert_close(found, one * (times - 1) + other, rtol=1e-9, atol=0)
    factors = [torch.randn(1, classes), torch.randn(1, classes), torch.randn(1)]
    expected = [
        native.gradients([part.view(1, classes, pixels)], where.view(1, pixels), none, work, factors)[0][0][0]
        for part, where in zip((usual, last), labels.halves(), strict=True)
    ]
    empty = torch.zeros(classes, pixels)
    grads = Repeated(tmp_path, empty, times, empty)
    chunks, to = 64, torch.zeros(64, 0, dtype=torch.float64)
    given = (*map(native._pointer, factors), None, native._pointers([grads.tensor]), native._pointer(to))
    native._call("backward", [maps.tensor], labels.tensor, none, work, None, chunks, ctypes.c_int64(0), *given)
    assert torch.equal(grads.halves(), torch.stack(expected))
    for one in (maps, labels, grads):  # else each process that a later test forks has thousands of mappings to copy
        one.unmap()
