"""What only a GPU can show: networks of every family instrumented on it, in half precision, compiled, in parallel."""

import pytest
import torch
from published.judge import judge
from support.families import FAMILIES
from support.known_families import KNOWN
from support.zoo import small_unet_2d
from torch import nn

from lomix_search import MixtureLoss, instrument

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare network's own output must be the same twice before an instrumented one's can be."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


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
    scaler.scale(loss(maps, torch.zeros_like(maps[-1][:, 0], dtype=torch.int64))).backward()
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
