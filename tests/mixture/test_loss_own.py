"""A user's own loss: one map at a time, the gradients of the plain way, the same random numbers twice."""

import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from support.mixture_losses import build
from support.places import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.reference import fuse


def given(size: int = 5) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    return maps, torch.randint(3, (2, size, size))


def plainly(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> Tensor:
    """All maps held, autograd through everything."""
    operators = dict(loss.operators.items())
    assert loss.loss is not None
    return loss.weighting(torch.stack([loss.loss(fuse(m, maps, operators), labels) for m in loss.maps]))


def gradients(total: Tensor, loss: MixtureLoss, maps: list[Tensor], *more: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, [*maps, *loss.parameters(), *more]))


def dropped(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.dropout(z, 0.4), y)


@pytest.mark.parametrize("own", [F.cross_entropy, dropped])
def test_gradients_are_those_of_the_plain_way(own: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Of random losses too: both ways draw the same numbers, and leave the generator in the same state."""
    loss, (maps, labels) = build(loss=own), given()
    torch.manual_seed(7)
    total = loss(maps, labels)
    after = torch.get_rng_state()
    found = gradients(total, loss, maps)
    assert torch.equal(after, torch.get_rng_state())
    torch.manual_seed(7)
    expected = plainly(loss, maps, labels)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, gradients(expected, loss, maps), rtol=1e-12, atol=1e-15)


class Tempered(nn.Module):
    """A loss that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(z * self.heat.exp(), y)


def test_a_loss_that_learns_gets_its_gradient() -> None:
    tempered = Tempered()
    loss, (maps, labels) = build(loss=tempered), given()
    found = gradients(loss(maps, labels), loss, maps)
    expected = gradients(plainly(loss, maps, labels), loss, maps)
    assert any(p is tempered.heat for p in loss.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_no_map_outlives_its_loss() -> None:
    """Of 19 maps none is alive after its loss, in the forward pass and in the backward pass."""
    seen: list[weakref.ref[Tensor]] = []
    most = 0

    def watched(z: Tensor, y: Tensor) -> Tensor:
        nonlocal most
        most = max(most, sum(one() is not None for one in seen))
        hot = z * 1.5
        seen.append(weakref.ref(hot))
        return F.cross_entropy(hot, y)

    loss, (maps, labels) = build(loss=watched), given()
    loss(maps, labels).backward()
    assert len(seen) == 2 * len(loss.maps) == 38
    assert most <= 1


def test_a_loss_without_gradient_and_maps_without_one() -> None:
    loss, (maps, labels) = build(loss=lambda z, y: torch.zeros((), dtype=z.dtype)), given()
    loss(maps, labels).backward()
    assert maps[0].grad is None
    loss = build(loss=F.cross_entropy)
    maps[0].requires_grad_(False)
    loss(maps, labels).backward()
    assert maps[0].grad is None
    assert maps[1].grad is not None
    with torch.no_grad():
        assert not loss(maps, labels).requires_grad


def test_a_second_derivative_is_refused() -> None:
    loss, (maps, labels) = build(loss=F.cross_entropy), given()
    with pytest.raises(LossError, match="no second derivative"):
        torch.autograd.grad(loss(maps, labels), maps, create_graph=True)


MEASURE = """
import torch, sys
from pathlib import Path
from torch.nn import functional as F
from lomix_search.mixture.loss import MixtureLoss

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

loss = MixtureLoss(sys.argv[1], 4, 4, loss=lambda z, y: F.cross_entropy(z, y) + (z.softmax(1) * z.sigmoid()).mean())
maps = [torch.randn(1, 4, 48, 48, 48, requires_grad=True) for _ in range(4)]
labels = torch.randint(4, (1, 48, 48, 48))
loss([one[..., :4, :4, :4] for one in maps], labels[..., :4, :4, :4]).backward()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS:")
loss(maps, labels).backward()
print((status("VmHWM:") - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_maps() -> None:
    def mib(space: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, space]
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    few, many = mib("deep_supervision"), mib("lomix")
    a_map = 4 * 4 * 48**3 / 2**20
    assert many < few + 60 * a_map  # held, 48 maps with what their losses keep are 240 such; malloc strews some about


def dice_of_batch(z: Tensor, y: Tensor) -> Tensor:
    """As users write it: with labels of other axes it would go over all pairs of items, and not say so."""
    p = z.sigmoid()
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def test_labels_come_as_they_were_given() -> None:
    """A binary network's masks (B, 1, H, W) of floats, which BCE asks for, in train and eval mode."""
    torch.manual_seed(0)
    maps, labels = [torch.randn(3, 1, 4, 4) for _ in range(2)], torch.randint(2, (3, 1, 4, 4)).float()

    def own(z: Tensor, y: Tensor) -> Tensor:
        assert y is labels
        return F.binary_cross_entropy_with_logits(z, y) + dice_of_batch(z, y)

    loss = MixtureLoss("last_layer", 2, 1, loss=own, weighting="uniform")
    expected = own(maps[-1], labels)
    assert loss(maps, labels) == expected
    assert loss(maps[-1], labels) == expected


@pytest.mark.parametrize(
    ("own", "seen"), [(lambda z, y: (z[:, 0] - y).square(), r"shape \(2, 5, 5\) of P1"), (lambda z, y: 1.0, "a float")]
)
def test_what_is_no_number_is_refused(own: Callable[[Tensor, Tensor], Tensor], seen: str) -> None:
    maps, labels = given()
    with pytest.raises(LossError, match=rf"must return one number[\s\S]*{seen}"):
        build(loss=own)(maps, labels)


def test_a_name_is_no_loss() -> None:
    with pytest.raises(LossError, match=r"loss='dice' is no function"):
        build(loss="dice")
