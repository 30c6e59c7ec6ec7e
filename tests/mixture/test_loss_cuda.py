"""What only a GPU can show: the Triton kernels as they run there."""

from pathlib import Path

import pytest
import torch
from support.agreement import agree, outcome
from support.golden import GOLDEN, Golden, close
from support.loss_terms import CASES as LOSSES
from support.loss_terms import ON_INTERPRETER, built, given
from support.mixture_losses import taken
from support.triton_cases import BASE, CASES, build, set_kernels
from torch import Tensor

from lomix_search import MixtureLoss
from lomix_search.mixture.loss.dispatch import choose_engine

pytestmark = pytest.mark.gpu


def on_both(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The kernels' outcome on the GPU, and the reference's in float64 on the CPU."""
    found = outcome(loss.cuda(), [one.cuda() for one in maps], labels.cuda(), "triton")
    expected = outcome(loss.cpu().double(), [one.double() for one in maps], labels, "reference")
    return [one.cpu() for one in found], expected


def test_triton_is_chosen():
    assert choose_engine("auto", "cuda") == choose_engine("auto", "cuda", 1) == "triton"


@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, monkeypatch: pytest.MonkeyPatch):
    case = BASE | CASES[name]
    set_kernels(case, monkeypatch)
    found, expected = on_both(*build(case, torch.float64))
    agree(found, expected, 1e-10, case)


@pytest.mark.parametrize("classes", [1, 3, 9])
@pytest.mark.parametrize("space", ["lomix", "extended"])
def test_float32_at_a_size_of_real_use(space: str, classes: int):
    maps = [torch.randn(2, classes, 224, 224) for _ in range(4)]
    labels = torch.randint(max(2, classes), (2, 224, 224))
    found, expected = on_both(MixtureLoss(space, 4, classes), maps, labels)
    agree([one.double() for one in found], expected, 1e-5, {"scale": 1.0, "pixels": labels.numel()})


@pytest.mark.parametrize("name", ["classes: top", *(name for name in ON_INTERPRETER if "weights" not in name)])
def test_float32_with_options(name: str):
    kind, options = LOSSES[name]
    maps, labels = given(kind, (96, 101))
    found, expected = on_both(built(kind, options).float(), [one.float() for one in maps], labels)
    agree([one.double() for one in found], expected, 1e-5, {"scale": 1.0, "pixels": 1})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype):
    maps = [(30 * torch.randn(2, 9, 61, 67)).to(dtype) for _ in range(4)]
    labels = torch.randint(9, (2, 61, 67))
    found, expected = on_both(MixtureLoss("lomix", 4, 9), maps, labels)
    case = {"scale": 30.0, "pixels": labels.numel()}
    assert all(one.dtype == dtype for one in found[2:6])
    agree([one.double() for one in found[:2]], expected[:2], 1e-5, case)
    agree([one.double() for one in found[2:6]], expected[2:6], torch.finfo(dtype).eps, case)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_agrees_with_the_authors(path: Path):
    golden = Golden(path, "triton")
    loss, maps = golden.loss.cuda(), golden.maps.detach().cuda().requires_grad_()
    step = taken(loss, list(maps), golden.file["labels"].cuda())
    step.total.backward()
    close(step.total.detach().cpu().reshape(1), golden.file["loss_total"])
    close(maps.grad.cpu(), golden.file["grad_maps"])
    close(loss.weighting.theta.grad.cpu(), golden.thetas("grad_"))


def test_the_same_from_run_to_run():
    loss, labels = MixtureLoss("extended", 4, 9).cuda(), torch.randint(9, (3, 100, 101)).cuda()
    maps = [torch.randn(3, 9, 100, 101).cuda() for _ in range(4)]
    first, again = (outcome(loss, maps, labels, "triton") for _ in range(2))
    assert all(map(torch.equal, first, again))


def real_sizes(dtype: torch.dtype = torch.float32) -> tuple[MixtureLoss, list[Tensor], Tensor]:
    """A loss of four originals at strides 8, 4, 2 and 1, two images."""
    maps = [torch.randn(2, 9, 224 // s, 224 // s, device="cuda").to(dtype).requires_grad_() for s in (8, 4, 2, 1)]
    return MixtureLoss("lomix", 4, 9).cuda(), maps, torch.randint(9, (2, 224, 224), device="cuda")


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, torch.finfo(torch.bfloat16).eps)]
)
def test_coarse_originals(dtype: torch.dtype, tolerance: float):
    loss, maps, labels = real_sizes(dtype)
    found, expected = on_both(loss, [one.detach().cpu() for one in maps], labels.cpu())
    agree([one.double() for one in found], expected, tolerance, {"scale": 1.0, "pixels": labels.numel()})


def test_coarse_originals_take_less_memory_than_the_last_layer_has_logits():
    loss, _, labels = real_sizes()
    maps = [torch.randn(2, 9, 224 // s, 224 // s, device="cuda", requires_grad=True) for s in (32, 16, 8, 4)]
    loss(maps, labels).backward()
    for one in (*maps, *loss.parameters()):
        one.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(maps, labels).backward()
    assert torch.cuda.max_memory_allocated() - before < max(labels.numel() * 9 * 4, 2**24)


def test_forward_and_backward_wait_for_nothing():
    loss, maps, labels = real_sizes()
    for _ in range(2):
        loss(maps, labels).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(maps, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_cuda_graph_holds_it():
    loss, maps, labels = real_sizes()
    wanted = [*maps, *loss.parameters()]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            torch.autograd.grad(loss(maps, labels), wanted)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = loss(maps, labels)
        grads = torch.autograd.grad(total, wanted)
    with torch.no_grad():
        for one in maps:
            one.mul_(0.5)
        labels.copy_(labels.flip(0))
    graph.replay()
    expected = loss(maps, labels)
    assert torch.equal(total, expected)
    assert all(map(torch.equal, grads, torch.autograd.grad(expected, wanted)))


def test_torch_compile_reduces_its_overhead():
    loss, maps, labels = real_sizes()
    wanted = [*maps, *loss.parameters()]
    expected = loss(maps, labels)
    slopes = torch.autograd.grad(expected, wanted)
    compiled = torch.compile(loss, mode="reduce-overhead", fullgraph=True)
    for _ in range(4):  # warmed up, recorded, replayed
        total = compiled(maps, labels)
        grads = [one.clone() for one in torch.autograd.grad(total, wanted)]
    torch.testing.assert_close(total, expected)
    for found, right in zip(grads, slopes, strict=True):
        torch.testing.assert_close(found, right)
