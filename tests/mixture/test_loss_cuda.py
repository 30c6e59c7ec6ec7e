"""What only a GPU can show: the Triton kernels as they run there."""

from pathlib import Path

import pytest
import torch
from support.agreement import agree, outcome
from support.golden import GOLDEN, Golden, close
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
