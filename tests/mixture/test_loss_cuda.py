"""What only a GPU can show: the Triton kernels as they run there, and networks of every family instrumented on it."""

from pathlib import Path

import pytest
import torch
from published.judge import judge
from support.agreement import agree, outcome
from support.families import FAMILIES
from support.golden import GOLDEN, Golden, close
from support.known_families import KNOWN
from support.triton_cases import BASE, CASES, build
from support.zoo import small_unet_2d
from torch import Tensor, nn

from lomix_search import MixtureLoss, instrument
from lomix_search.mixture.loss.dispatch import choose_engine

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare network's own output must be the same twice before an instrumented one's can be."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def on_both(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The kernels' outcome on the GPU, and the reference's in float64 on the CPU."""
    found = outcome(loss.cuda(), [one.cuda() for one in maps], labels.cuda(), "triton")
    expected = outcome(loss.cpu().double(), [one.double() for one in maps], labels, "reference")
    return [one.cpu() for one in found], expected


def test_triton_is_chosen():
    assert choose_engine("auto", "cuda") == choose_engine("auto", "cuda", 1) == "triton"


def test_one_map_in_float64_is_left_to_pytorch():
    case = BASE | CASES["none"]
    loss, maps, labels = build(case, torch.float64)
    found = outcome(loss.cuda(), [one.cuda() for one in maps], labels.cuda(), "auto")
    agree([one.cpu() for one in found], outcome(loss.cpu(), maps, labels, "reference"), 1e-10, case)


@pytest.mark.parametrize("name", [name for name in CASES if name != "none"])
def test_float64(name: str):
    case = BASE | CASES[name]
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
    step = loss(list(maps), golden.file["labels"].cuda())
    step.total.backward()
    close(step.total.detach().cpu().reshape(1), golden.file["loss_total"])
    close(maps.grad.cpu(), golden.file["grad_maps"])
    close(loss.weighting.theta.grad.cpu(), golden.thetas("grad_"))


def test_the_same_from_run_to_run():
    loss, labels = MixtureLoss("extended", 4, 9).cuda(), torch.randint(9, (3, 100, 101)).cuda()
    maps = [torch.randn(3, 9, 100, 101).cuda() for _ in range(4)]
    first, again = (outcome(loss, maps, labels, "triton") for _ in range(2))
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry["id"])
def test_networks_are_instrumented_where_they_are(entry):
    verdict = judge(entry, device="cuda")
    assert verdict.same
    if entry["id"] not in KNOWN and "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains


def test_the_example_may_be_elsewhere_and_the_random_state_stays():
    model, example, _ = small_unet_2d()
    before = torch.cuda.get_rng_state()
    net = instrument(model.cuda(), example).train()
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert {p.device.type for p in net.parameters()} == {"cuda"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_with_the_mixture(dtype: torch.dtype):
    model, example, _ = small_unet_2d()
    net, example = instrument(model.cuda(), example).train(), example.cuda()
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
    with torch.autocast("cuda", dtype):
        maps = net(example)
    assert {m.dtype for m in maps} == {dtype}
    loss = MixtureLoss("lomix", len(maps), net.num_classes).cuda()
    scaler.scale(loss(maps, torch.zeros_like(maps[-1][:, 0], dtype=torch.int64)).total).backward()
    assert all(p.grad.isfinite().all() for p in (*net.parameters(), *loss.parameters()))


def test_models_in_half_precision():
    model, example, _ = small_unet_2d()
    net = instrument(model.half().cuda(), example).train()
    assert all(m.dtype == torch.float16 for m in net(example.half().cuda()))


def test_compiled_with_the_default_back_end():
    model, example, _ = small_unet_2d()
    model.dropout.p = 0.0
    net, example = instrument(model.cuda(), example).train(), example.cuda()
    expected = [m.detach() for m in net(example)]
    for found, e in zip(torch.compile(net)(example), expected, strict=True):
        torch.testing.assert_close(found, e, rtol=1e-3, atol=1e-4)


def test_data_parallel():
    model, example, _ = small_unet_2d()
    net = instrument(nn.DataParallel(model.cuda()), example).train()
    maps = net(example.cuda())
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"] and len(maps) == 2
    sum(m.float().logsumexp(1).mean() for m in maps).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
