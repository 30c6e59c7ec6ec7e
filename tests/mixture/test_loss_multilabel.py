"""Several channels, each a class of its own: every engine agrees with the reference, and that with torch and MONAI."""

import os

import pytest
import torch
from support.agreement import RULES, able, agree, plain
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.dispatch import ENGINES
from lomix_search.mixture.space import SearchSpace

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
OPERATORS = ("add", "concat", "attention") if INTERPRETED else RULES
SCALES = 2 if INTERPRETED else 3
MASKS = ("some",) if INTERPRETED else ("none", "some", "an item", "all")


def built(
    channels: int, num_maps: int = SCALES, ignored: int | None = 200, dtype: torch.dtype = torch.float64
) -> MixtureLoss:
    space = SearchSpace(operator=tuple({"name": name} for name in OPERATORS))  # type: ignore[arg-type]
    return MixtureLoss(space, num_maps, channels, ignore_index=ignored, multilabel=True).to(dtype)


def inputs(
    channels: int, size: tuple[int, ...] = (7, 11), masked: str = "some", num_maps: int = SCALES
) -> tuple[list[Tensor], Tensor]:
    """Overlapping regions; ignored pixels hold 200 in every channel, and NaN in every map."""
    maps = [torch.randn(2, channels, *size, dtype=torch.float64) for _ in range(num_maps)]
    labels = (torch.rand(2, channels, *size) < 0.4).long()
    out = {"none": torch.zeros(2, *size), "some": torch.rand(2, *size) < 0.3, "all": torch.ones(2, *size)}
    out["an item"] = torch.stack([torch.ones(size), torch.zeros(size)])
    ignored = out[masked].bool()[:, None].expand_as(labels)
    return [one.masked_fill(ignored, torch.nan) for one in maps], labels.masked_fill(ignored, 200)


def losses(loss: MixtureLoss, maps: list[Tensor], labels: Tensor, engine: str) -> tuple[Tensor, Tensor]:
    ce, dice = ENGINES[engine](maps, labels, loss.plan, dict(loss.operators.items()))
    return ce, dice


def outcome(loss: MixtureLoss, maps: list[Tensor], labels: Tensor, engine: str) -> list[Tensor]:
    leaves = [one.detach().requires_grad_() for one in maps]
    ce, dice = losses(loss, leaves, labels, engine)
    share = torch.linspace(0.5, 1.5, len(ce), dtype=ce.dtype)
    grads = torch.autograd.grad((share * (0.3 * ce + 0.7 * dice)).sum(), [*leaves, *loss.operators.parameters()])
    return [ce.detach(), dice.detach(), *grads]


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("channels", [2] if INTERPRETED else [1, 2, 5])
@pytest.mark.parametrize("engine", able())
def test_float64_agrees_to_1e_10(engine: str, channels: int, masked: str) -> None:
    loss, (maps, labels) = built(channels), inputs(channels, masked=masked)
    agree(outcome(loss, maps, labels, engine), outcome(loss, maps, labels, "reference"), 1e-10, plain)


@pytest.mark.parametrize("engine", able())
def test_float32_agrees_to_1e_5(engine: str) -> None:
    loss, (maps, labels) = built(3, dtype=torch.float32), inputs(3, (3, 5, 7))
    maps = [one.float() for one in maps]
    found = outcome(loss, maps, labels, engine)
    expected = outcome(loss.double(), [one.double() for one in maps], labels, "reference")
    agree([one.double() for one in found], expected, 1e-5, plain)


def test_the_reference_is_torchs_cross_entropy_and_monais_dice() -> None:
    monai = pytest.importorskip("monai.losses")
    loss, (maps, labels) = built(3, ignored=None), inputs(3, masked="none")
    ce, dice = losses(loss, maps, labels, "reference")
    expected = monai.DiceLoss(sigmoid=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    torch.testing.assert_close(ce[0], F.binary_cross_entropy_with_logits(maps[0], labels.double()), rtol=1e-12, atol=0)
    torch.testing.assert_close(dice[0], expected(maps[0], labels.double()), rtol=1e-12, atol=0)


def test_ignored_pixels_are_as_if_cut_out() -> None:
    loss, (maps, labels) = built(3), inputs(3)
    kept = (labels[:1, 0] != 200).flatten()
    left = [one[:1].flatten(2)[:, :, kept] for one in maps], labels[:1].flatten(2)[:, :, kept]
    whole = losses(loss, [one[:1] for one in maps], labels[:1], "reference")
    torch.testing.assert_close(whole, losses(loss, *left, "reference"), rtol=1e-12, atol=0)


def test_a_pixel_ignored_in_one_channel_only_is_refused() -> None:
    loss, (maps, labels) = built(3), inputs(3)
    partly = labels.clone()
    partly[:, 1:][partly[:, 1:] == 200] = 1
    for loss.engine in ("reference", *able()):
        with pytest.raises(LossError, match="the ignored 200 in some channels of a pixel only"):
            loss(maps, partly)


@pytest.mark.parametrize("engine", ("reference", *able()))
def test_gradcheck(engine: str) -> None:
    loss, (maps, labels) = built(2, 2), inputs(2, (3,), "none", 2)
    leaves = [one.requires_grad_() for one in maps]
    assert torch.autograd.gradcheck(lambda *given: losses(loss, list(given), labels, engine), leaves)


@pytest.mark.skipif("native" not in able(), reason="no C++ compiler")
def test_the_same_to_the_last_bit_on_any_number_of_threads() -> None:
    loss, (maps, labels) = built(3, dtype=torch.float32), inputs(3, (33, 47))
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(outcome(loss, [one.float() for one in maps], labels, "native"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
