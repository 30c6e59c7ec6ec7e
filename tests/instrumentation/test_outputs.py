"""Which output is the logits, and what they say: each kind of network by one rule, checked against a hand computation.

Each network here is a real U-net; labels are what its finest map says, by hand, with some pixels changed, so that the
right Dice is known. Validation in training, ``evaluate``, pictures and reports must find that Dice.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from support.logit_kinds import (
    KINDS,
    Items,
    Shaped,
    build,
    up,
)
from support.zoo import SmallUNet
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import StageError
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.predictions import look
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.outputs import class_numbers, largest_channel, reader_of


def found(network: nn.Module, items: Items, ignored: int | None = None) -> dict[str, float]:
    names = [f"class {i}" for i in range(items.classes)]
    kwargs: dict[str, Any] = {"ignore_index": ignored}
    whole = evaluate(network, items.cases(), names, progress=False, **kwargs)
    shown = look(network, items, names, **kwargs)  # type: ignore[arg-type]
    return {
        "validation": score_items(network, items, names, 2, **kwargs).mean,
        "evaluate": whole.mean("dice"),
        "pictures": float((torch.from_numpy(shown.predictions).long() == items.said)[items.kept].float().mean()),
    }


SLOW = {
    "two channels", "coarse, fine", "fine, coarse resized", "stacked coarse first", "label and mask", "named tuple",
    "class axis dropped", "class axis dropped after a sigmoid", "sigmoid module", "softmax", "log-softmax module",
    "log of a softmax", "hardsigmoid", "tanh", "sigmoid of three channels", "sigmoid of a sum", "decision alone",
    "probabilities and logits", "list in train mode alone", "decision and probabilities", "dict", "logsigmoid",
    "one channel", "coarse resized, fine", "stacked by cat", "stacked fine first", "dict, aux resized", "dataclass",
    "nested", "clamped sigmoid", "foreground of a softmax", "sigmoid method in a dict", "sigmoid in bytes",
    "logits and probabilities", "stacked in train mode alone", "mask and label", "sigmoid of a scaled map",
    "channels last", "both probabilities", "clamped to 0 … 1", "sigmoid in eval mode alone", "one minus a sigmoid",
    "sigmoid where there is an image", "sigmoid", "rows", "rows of a sigmoid",
}  # fmt: skip
"""Kinds that are close to another one: tried with --slow."""


def some_slow(kinds: Iterable[str]) -> list[Any]:
    return [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("kind", some_slow(KINDS))
def test_training_evaluation_and_pictures_find_the_dice_of_a_hand_computation(kind: str) -> None:
    network = build(kind)
    items = Items(network)
    right = items.dice()
    assert 0.5 < right < 0.95 and items.labels.unique().tolist() == list(range(items.classes))
    expected = {"validation": right, "evaluate": right, "pictures": 1.0}
    assert found(network, items) == pytest.approx(expected, abs=1e-6)
    if kind == "decision alone":  # whose logits a module shows
        assert torch.equal(
            instrument(network, items.images[:2]).eval().logits(items.images) > 0, network(items.images) > 0
        )
    if kind == "sigmoid where there is an image":
        return  # its stages are not found, which instrument says
    net = instrument(network.train(), torch.rand(2, 1, 32, 24))
    assert found(net, items) == pytest.approx(expected, abs=1e-6)
    assert net.training and net.strip() is network


def test_every_kind_is_unlike_what_another_output_or_threshold_would_give() -> None:
    """So that the tests above can fail: the coarse map and a threshold of 0 give other pixels."""
    network = build("fine, coarse (nnU-Net)")
    items = Items(network)
    with torch.no_grad():
        fine, coarse = network(items.images)
        assert (up(coarse).argmax(1) != items.said).float().mean() > 0.2 and (fine.argmax(1) == items.said).all()
        network = build("sigmoid")
        assert ((network(Items(network).images) > 0)[:, 0] != Items(network).said).float().mean() > 0.2


EXACT = {
    "softmax", "sigmoid", "sigmoid module", "log-softmax", "dict", "stacked in front", "channels last", "hardsigmoid",
    "class axis dropped, sigmoid", "without the background", "sigmoid in eval mode alone", "clamped sigmoid",
    "sigmoid of a scaled map", "sigmoid of a sum", "logsigmoid", "one minus a sigmoid",
    "sigmoid in bytes", "rows", "rows of a softmax", "rows of a sigmoid",
}  # fmt: skip


@pytest.mark.parametrize("kind", some_slow(sorted(EXACT)))
def test_the_finest_map_is_the_same_in_both_modes_and_its_probability_the_networks_own(kind: str) -> None:
    network, images = build(kind), torch.rand(2, 1, 32, 24)
    net = instrument(network, images).eval()
    tapped, (fine, coarse, _) = net.logits(images), network.parts(images)
    expected = {"sigmoid of a scaled map": fine / 3, "sigmoid of a sum": fine + 0.5 * up(coarse)}
    right = {"one minus a sigmoid": -fine}.get(kind, expected.get(kind, fine))
    if kind == "log-softmax":
        torch.testing.assert_close(tapped.log_softmax(1), fine.log_softmax(1))
    elif kind in ("sigmoid of a scaled map", "sigmoid of a sum", "one minus a sigmoid"):  # undone: no module sees them
        inside = right.abs() < 10
        torch.testing.assert_close(tapped[inside], right[inside], atol=1e-2, rtol=1e-2)
    else:
        assert torch.equal(tapped, right)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that both modes compute the same
            module.forward = lambda x, m=module: F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias)
    torch.testing.assert_close(net.train()(images)[-1], tapped, atol=1e-5, rtol=1e-5)
    assert torch.equal(net.logits(images), net(images)[-1])
    net(images)[-1].square().mean().backward()
    assert network.head.weight.grad.abs().sum() > 0


QUICK = [("plain", 255), ("plain", 1), ("sigmoid", -1), ("sigmoid", 300)]


@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        pytest.param(kind, ignored, marks=[pytest.mark.slow] * ((kind, ignored) not in QUICK))
        for kind in ("plain", "sigmoid")
        for ignored in (255, -1, -100, 7, 300, 1)
        if (kind, ignored) != ("sigmoid", 1)  # the only class
    ],
)
def test_ignored_pixels_count_nowhere(kind: str, ignored: int) -> None:
    network = build(kind)
    items = Items(network, ignored)
    if ignored == 1:  # a class of which no pixel counts has no score
        p, t = (((x == 2) & items.kept & (items.labels != 1)).numpy() for x in (items.said, items.labels))
        right = np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(p, t, strict=True)])
    else:
        right = items.dice()
        assert abs(right - Items(network).dice()) > 0.01
    expected = {"validation": right, "evaluate": right, "pictures": 1.0}
    kept = items.kept & (items.labels != ignored)
    items.kept = kept
    for one in (network, instrument(copy.deepcopy(network), items.images[:2])):
        assert found(one, items, ignored) == pytest.approx(expected, abs=1e-6)


def test_supervision_that_is_switched_off_at_inference_is_followed() -> None:
    """nnU-Net sets deep_supervision = False before it predicts: the list becomes a tensor, whose [0] is an image."""

    class Switched(Shaped):
        supervised = True

        def forward(self, x: Tensor) -> Any:
            found = super().forward(x)
            return found if self.supervised else found[0]

    torch.manual_seed(0)
    net, images = instrument(Switched("fine, coarse (nnU-Net)"), torch.rand(2, 1, 32, 24)), torch.rand(2, 1, 32, 24)
    net.eval()
    before = net.logits(images)
    net.model.supervised = False
    assert torch.equal(net.logits(images), before)
    net.train()
    with pytest.raises(StageError, match=r"Switched returned no map of 3 channels at output\[1\], as it did on the"):
        net(images)


class OneClass(nn.Module):
    """Returns the probability of its second class alone, without an axis of classes."""

    def __init__(self, seen: bool) -> None:
        super().__init__()
        self.body, self.seen = SmallUNet(), seen
        self.body.head, self.head = nn.Identity(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.body(x))
        return (logits if self.seen else 2 * logits).softmax(1)[:, 1]


def test_one_class_of_a_softmax_is_read_as_the_logits_of_all() -> None:
    network, images = OneClass(seen=True).eval(), torch.rand(2, 1, 32, 24)
    logits = network.head(network.body(images))
    net = instrument(network, images)
    assert net.num_classes == 2 and [stage.name for stage in net.stages] == ["body.up.0", "body.head"]
    for read in (reader_of(network, 2), reader_of(net.eval(), 2)):
        assert torch.equal(read(images), logits) and torch.equal(
            class_numbers(read(images)), (network(images) > 0.5).long()
        )
    made = list[Tensor]()
    network.head.register_forward_hook(lambda _module, _given, out: made.append(out))
    assert torch.equal(net.train()(images)[-1], made[0])


def test_one_class_of_a_softmax_of_what_no_module_sees_is_refused() -> None:
    with pytest.raises(StageError, match="OneClass returns 2 × 32 × 24, which has no axis of classes"):
        instrument(OneClass(seen=False), torch.rand(2, 1, 32, 24))


def test_one_plain_tensor_is_read_without_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr("lomix_search.instrumentation.outputs.find_returned_logits", never)
    for kind in ("plain", "one channel", "log-softmax"):
        network = build(kind)
        read = reader_of(network, max(2, KINDS[kind][0]))
        images = torch.rand(2, 1, 32, 24)
        assert torch.equal(read(images), network(images)) and torch.equal(
            read(images[:1] * 0.1), network(images[:1] * 0.1)
        )


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_the_largest_channel_is_argmax_with_ties_infinities_and_nan(kind: torch.dtype) -> None:
    odd = torch.tensor([float("nan"), float("-inf"), float("inf"), 0.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    values = odd[torch.randint(0, 5, (2, 4, 9, 11), generator=generator)].to(kind)
    for laid in (values, values.contiguous(memory_format=torch.channels_last), values.transpose(2, 3)):
        assert torch.equal(largest_channel(laid, 1), laid.argmax(1))
        assert torch.equal(largest_channel(laid[0], 0), laid[0].argmax(0))
