"""Which output is the logits, and what they say: each kind of network by one rule, checked against a hand computation.

Each network here is a real U-net; labels are what its finest map says, by hand, with some pixels changed, so that the
right Dice is known. Validation in training, ``evaluate``, pictures and reports must find that Dice.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.tiny_recipe import PARTS, write_tiny
from support.zoo import SmallUNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from lomix_search.data.case import Case
from lomix_search.errors import LomixError, RunError, StageError
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions
from lomix_search.evaluation.inference import predict_case as predict_case
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.predictions import PredictedSlices, look
from lomix_search.experiments.run import evaluate_run, run_recipe
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.instrumentation.outputs import reader_of
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe


@dataclass
class Out:
    features: Tensor
    logits: Tensor
    loss: Tensor | None = None


class Pair(NamedTuple):
    coarse: Tensor
    fine: Tensor


class ModelOutput(OrderedDict):
    """As those of transformers: a mapping that also has attributes and can be indexed by number."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Shaped(SmallUNet):
    """A SmallUNet whose answer is laid out, activated and accompanied as a kind says."""

    def __init__(self, kind: str, dims: int = 2) -> None:
        classes = KINDS[kind][0]
        super().__init__(dims, classes)
        self.kind = kind
        self.side, self.other = type(self.head)(8, classes, 1), type(self.head)(4, classes, 1)
        self.sigmoid, self.softmax, self.log_softmax = nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1)
        self.dropout.p = 0.0
        for part in (self.head, self.side, self.other):
            nn.init.normal_(part.weight, std=4.0)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The finest logits, those of the level below, and the last features."""
        self.image, skips = (x > 0.3).float(), []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            skips.append(x)
        x, maps = self.dropout(skips.pop()), []
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            maps.append(x)
        return self.head(maps[1]), self.side(maps[0]), maps[1]

    def forward(self, x: Tensor) -> Any:
        fine, coarse, features = self.parts(x)
        return KINDS[self.kind][1](self, fine, coarse, features)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2)


def binary(z: Tensor) -> Tensor:
    return (z[:, 0] > 0).long()


def largest(z: Tensor) -> Tensor:
    return z.argmax(1)


# kind → classes, what forward returns, how the finest logits are decided by hand
KINDS: dict[str, tuple[int, Any, Any]] = {
    "plain": (3, lambda n, z, c, f: z, largest),
    "one channel": (1, lambda n, z, c, f: z, binary),
    "two channels": (2, lambda n, z, c, f: z, largest),
    "fine, coarse (nnU-Net)": (3, lambda n, z, c, f: [z, c], largest),
    "coarse, fine": (3, lambda n, z, c, f: (c, z), largest),
    "coarse resized, fine": (3, lambda n, z, c, f: [up(c), z], largest),
    "fine, coarse resized": (3, lambda n, z, c, f: [z, up(c)], largest),
    "stacked fine first": (3, lambda n, z, c, f: torch.stack([z, up(c)], 1), largest),
    "stacked coarse first": (3, lambda n, z, c, f: torch.stack([up(c), z], 1), largest),
    "stacked in front": (3, lambda n, z, c, f: torch.stack([up(c), z]), largest),
    "stacked by cat": (3, lambda n, z, c, f: torch.cat([up(c).unsqueeze(1), z.unsqueeze(1)], 1), largest),
    "mask and label": (3, lambda n, z, c, f: (z, z.mean((2, 3))), largest),
    "label and mask": (3, lambda n, z, c, f: (z.mean((2, 3)), z), largest),
    "dict": (3, lambda n, z, c, f: {"features": f, "aux": c, "out": z}, largest),
    "dict, aux resized": (3, lambda n, z, c, f: {"out": z, "aux": up(c)}, largest),
    "nested": (3, lambda n, z, c, f: {"maps": [c, (z, None)], "name": "unet"}, largest),
    "dataclass": (3, lambda n, z, c, f: Out(f, z), largest),
    "named tuple": (3, lambda n, z, c, f: Pair(c, z), largest),
    "ModelOutput": (3, lambda n, z, c, f: ModelOutput(logits=z, hidden_states=(c, f)), largest),
    "channels last": (3, lambda n, z, c, f: z.permute(0, 2, 3, 1), largest),
    "class axis dropped": (1, lambda n, z, c, f: z.squeeze(1), binary),
    "class axis dropped, sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z.squeeze(1)), binary),
    "class axis dropped after a sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z)[:, 0], binary),
    "sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z), binary),
    "sigmoid module": (1, lambda n, z, c, f: n.sigmoid(z), binary),
    "sigmoid method in a dict": (1, lambda n, z, c, f: {"mask": z.sigmoid(), "coarse": c.sigmoid()}, binary),
    "softmax": (3, lambda n, z, c, f: z.softmax(1), largest),
    "softmax module, fine first": (3, lambda n, z, c, f: [n.softmax(z), n.softmax(c)], largest),
    "log-softmax": (3, lambda n, z, c, f: F.log_softmax(z, 1), largest),
    "log-softmax module": (3, lambda n, z, c, f: n.log_softmax(z), largest),
    "log of a softmax": (3, lambda n, z, c, f: torch.log(z.softmax(1)), largest),
    "logsigmoid": (1, lambda n, z, c, f: F.logsigmoid(z), binary),
    "sigmoid of three channels": (3, lambda n, z, c, f: torch.sigmoid(z), largest),
    "clamped sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z).clamp(1e-6, 1 - 1e-6), binary),
    "clamped to 0 … 1": (1, lambda n, z, c, f: z.clamp(0, 1), lambda z: (z[:, 0] > 0.5).long()),
    "hardsigmoid": (1, lambda n, z, c, f: F.hardsigmoid(z), binary),
    "tanh": (1, lambda n, z, c, f: torch.tanh(z), binary),
    "sigmoid of a sum": (1, lambda n, z, c, f: torch.sigmoid(z + 0.5 * up(c)), None),
    "sigmoid of a scaled map": (1, lambda n, z, c, f: torch.sigmoid(z / 3), binary),
    "mean of two sigmoids": (1, lambda n, z, c, f: (z.sigmoid() + n.other(f).sigmoid()) / 2, None),
    "one minus a sigmoid": (1, lambda n, z, c, f: 1 - torch.sigmoid(z), lambda z: (z[:, 0] < 0).long()),
    "sigmoid where there is an image": (1, lambda n, z, c, f: z.sigmoid() * n.image, None),
    "both probabilities": (2, lambda n, z, c, f: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1), binary),
    "sigmoid in bytes": (1, lambda n, z, c, f: 255 * torch.sigmoid(z), binary),
    "foreground of a softmax": (2, lambda n, z, c, f: z.softmax(1)[:, 1:], largest),
    "without the background": (3, lambda n, z, c, f: z.softmax(1)[:, 1:], largest),
    "logits and probabilities": (1, lambda n, z, c, f: (z, z.sigmoid()), binary),
    "probabilities and logits": (1, lambda n, z, c, f: {"p": z.sigmoid(), "logits": z}, binary),
    "decision and logits": (3, lambda n, z, c, f: (z.argmax(1, keepdim=True).float(), z), largest),
    "decision and probabilities": (1, lambda n, z, c, f: ((z.sigmoid() > 0.5).float(), z.sigmoid()), binary),
    "decision alone": (1, lambda n, z, c, f: (z.sigmoid() > 0.5).float(), binary),
    "sigmoid in eval mode alone": (1, lambda n, z, c, f: z if n.training else z.sigmoid(), binary),
    "list in train mode alone": (3, lambda n, z, c, f: [z, c] if n.training else z, largest),
    "stacked in train mode alone": (3, lambda n, z, c, f: torch.stack([z, up(c)], 1) if n.training else z, largest),
}  # fmt: skip

COMPUTED = {
    "sigmoid where there is an image": lambda n, z, c, f: (z[:, 0] > 0) & (n.image[:, 0] > 0),
    "sigmoid of a sum": lambda n, z, c, f: (z + 0.5 * up(c))[:, 0] > 0,
    "mean of two sigmoids": lambda n, z, c, f: (z.sigmoid() + n.other(f).sigmoid())[:, 0] > 1,
}


def build(kind: str) -> Shaped:
    torch.manual_seed(1)
    network = Shaped(kind)
    with torch.no_grad():  # running statistics as after a training
        for _ in range(30):
            network.parts(torch.rand(8, 1, 32, 24))
        fine, coarse, _ = network.eval().parts(torch.rand(8, 1, 32, 24))
        network.head.bias -= fine.mean((0, 2, 3))
        network.side.bias -= coarse.mean((0, 2, 3))
    return network


def by_hand(network: Shaped, images: Tensor) -> Tensor:
    with torch.no_grad():
        parts = network.parts(images)
    decide = KINDS[network.kind][2]
    return decide(parts[0]) if decide else COMPUTED[network.kind](network, *parts).long()


class Items(Dataset):
    """Images whose labels are what a network says by hand, a band of them changed."""

    def __init__(self, network: Shaped, ignored: int | None = None, number: int = 3) -> None:
        self.images = torch.rand(number, 1, 32, 24, generator=torch.Generator().manual_seed(2))
        self.said = by_hand(network, self.images)
        self.labels, self.classes = self.said.clone(), max(2, KINDS[network.kind][0])
        self.labels[:, 4:9] = (self.labels[:, 4:9] + 1) % self.classes
        self.kept = torch.ones_like(self.labels, dtype=torch.bool)
        if ignored is not None:
            self.kept[:, 2:14, :20] = False
            self.labels[~self.kept] = ignored
        self.names = [f"item {i}" for i in range(number)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]

    def cases(self) -> list[Case]:
        return [Case(str(i), x[None].numpy(), y[None].numpy()) for i, (x, y) in enumerate(self)]

    def dice(self) -> float:
        """Mean over classes of the mean over items, by counting pixels one class at a time."""
        means = []
        for c in range(1, self.classes):
            scores = []
            for said, true, kept in zip(self.said.numpy(), self.labels.numpy(), self.kept.numpy(), strict=True):
                p, t = (said == c) & kept, (true == c) & kept
                if p.sum() + t.sum():
                    scores.append(2 * (p & t).sum() / (p.sum() + t.sum()))
            means.append(np.mean(scores))
        return float(np.mean(means))


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
}  # fmt: skip
"""Kinds that are close to another one: tried with --slow."""


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in KINDS])
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
    "sigmoid in bytes",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(EXACT))
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


@pytest.mark.parametrize("ignored", [255, -1, -100, 7, 300, 1])
@pytest.mark.parametrize("kind", ["plain", "sigmoid"])
def test_ignored_pixels_count_nowhere(kind: str, ignored: int) -> None:
    network = build(kind)
    if kind == "sigmoid" and ignored == 1:
        return  # the only class
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


# -- what is refused ---------------------------------------------------------------------------------------------------


def case(size: tuple[int, int] = (32, 24)) -> Case:
    return Case("x", np.random.default_rng(0).random((2, 1, *size), np.float32), np.zeros((2, *size), np.uint8))


def test_two_maps_that_could_be_meant_are_told_to_the_user() -> None:
    class Twins(Shaped):
        def forward(self, x: Tensor) -> Any:
            fine, _, features = self.parts(x)
            return {"edge": self.other(features).sigmoid(), "mask": fine}

    torch.manual_seed(0)
    network = Twins("one channel")
    with pytest.raises(RunError) as caught:
        predict_case(network, case(), InferenceOptions())
    assert str(caught.value) == (
        "Twins returns 2 maps that could be the logits; which is meant cannot be told.\n"
        "  Seen: output float32 2 × 1 × 32 × 24\n"
        "        output float32 2 × 1 × 32 × 24\n"
        "  Try:  return the logits alone from forward(), or evaluate lomix.instrument(network, example), which says "
        "which map it takes"
    )
    net = instrument(network, torch.rand(1, 1, 32, 24))
    assert "Twins returns another map of this shape; output['edge'] is taken as its logits" in net.stages.notes
    assert predict_case(net, case(), InferenceOptions()).label.shape == (2, 32, 24)


def test_channels_that_are_not_the_classes_are_refused() -> None:
    network = build("plain")
    for one in (network, instrument(copy.deepcopy(network), torch.rand(2, 1, 32, 24))):
        with pytest.raises(RunError, match="Shaped returns 3 channels; the data has 4 classes"):
            evaluate(one, [case()], ("background", "a", "b", "c"), progress=False)
        with pytest.raises(RunError, match="Shaped returns 3 channels; the data has 2 classes"):
            evaluate(one, [case()], ("background", "a"), progress=False)
        data = torch.utils.data.TensorDataset(torch.rand(2, 1, 32, 24), torch.zeros(2, 32, 24).long())
        with pytest.raises(RunError, match="Shaped returns 3 channels; the data has 2 classes"):
            score_items(one, data, ("background", "a"))


def test_values_that_are_neither_logits_nor_probabilities_are_refused() -> None:
    class Shifted(Shaped):
        def forward(self, x: Tensor) -> Any:
            return 2 * self.parts(x)[0].sigmoid() - 1.5

    with pytest.raises(StageError) as caught:
        instrument(Shifted("one channel"), torch.rand(2, 1, 32, 24))
    assert str(caught.value) == (
        "Shifted ends in sigmoid, and what it returns is neither logits nor all of the probabilities.\n"
        "  Seen: output: 2 × 1 × 32 × 24\n"
        "  Try:  return the logits from forward(), and apply the activation outside"
    )
    with pytest.raises(RunError, match="what Shifted returns cannot be read as logits"):
        predict_case(Shifted("one channel"), case(), InferenceOptions())


def test_decisions_are_no_map_to_train() -> None:
    class Decides(Shaped):
        def forward(self, x: Tensor) -> Any:
            return self.parts(x)[0].argmax(1, keepdim=True).float()

    with pytest.raises(StageError) as caught:
        instrument(Decides("plain"), torch.rand(2, 1, 32, 24))
    assert str(caught.value) == (
        "Decides returns decisions, through which nothing can be trained; a segmentation network returns logits.\n"
        "  Seen: output: 2 × 1 × 32 × 24\n"
        "  Try:  return the logits from forward(), and decide outside"
    )


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


def test_a_network_that_cannot_be_traced_is_read_where_its_values_tell() -> None:
    class Bright(SmallUNet):
        end = staticmethod(lambda z: z)

        def forward(self, x: Tensor) -> Any:
            return self.end(super().forward(x if x.mean() > 0.4 else 2 * x))

    network, images = Bright(2, 1).eval(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        network.head.bias += 3
        assert torch.equal(reader_of(network, 2)(images), network(images))
        network.end = torch.sigmoid
        with pytest.raises(LomixError, match="what Bright returns cannot be read as logits"):
            reader_of(network, 2)(images)
        network = Bright(2, 3).eval()
        network.end = lambda z: z.softmax(1)
        assert torch.equal(reader_of(network, 3)(images).argmax(1), network(images).argmax(1))


# -- published networks ------------------------------------------------------------------------------------------------


def basic_unet_plus_plus() -> nn.Module:
    from monai.networks.nets import BasicUNetPlusPlus

    return BasicUNetPlusPlus(2, 1, 3, deep_supervision=True, features=(4, 4, 8, 8, 16, 4))


def dynunet() -> nn.Module:
    from monai.networks.nets import DynUNet

    return DynUNet(
        2, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[4, 8, 8, 16], deep_supervision=True, deep_supr_num=2
    )


PUBLISHED = {
    "BasicUNetPlusPlus": (basic_unet_plus_plus, lambda n, x: n(x)[-1]),
    "DynUNet": (dynunet, lambda n, x: n(x)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_read_at_their_own_finest_map(name: str) -> None:
    make, own = PUBLISHED[name]
    torch.manual_seed(0)
    network, images = make().eval(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        said = own(network, images).argmax(1)
    data = torch.utils.data.TensorDataset(images, said)
    cases = [Case(str(i), x[None].numpy(), y[None].numpy()) for i, (x, y) in enumerate(data)]
    names = ("background", "a", "b")
    for one in (network, instrument(network, images)):
        assert score_items(one, data, names).mean == 1.0
        assert evaluate(one, cases, names, progress=False).mean("dice") == 1.0
    assert isinstance(one, Instrumented) and torch.equal(one.eval().logits(images), own(network, images))
    three_d = "DynUNet" in name
    assert three_d or len(network(images)) == 4


# -- from a recipe to its scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", ["[self.head(x), self.side(y)]", "{'p': self.head(x).softmax(1)}"])
def test_a_run_its_evaluation_and_its_pictures_agree(returns: str, tmp_path: Path) -> None:
    """With ignored pixels, and a network that does not return its logits alone."""
    folder = write_tiny(tmp_path / "recipe")
    text = PARTS.replace("return self.head(x)", f"return {returns}").replace("x = up(", "y, x = x, up(")
    text = text.replace("self.head = ", "self.side = nn.Conv2d(2 * width, 3, 1)\n        self.head = ")
    text = text.replace("labels[start:stop], cases, ", "labels[start:stop], cases, ignore_index=-1, ")
    text = text.replace("    def slowly", "    labels[:, :4, 3:] = -1\n\n    def slowly")
    text = text.replace('("background", "large", "small"), 1)', '("background", "large", "small"), 1, volumes=volumes)')
    text = text.replace(
        "    return Splits(", "    volumes = {'test': [case(i, images, labels) for i in (10, 11)]}\n    return Splits("
    )
    text += """

def case(i, images, labels):
    from lomix_search.data.case import Case

    return Case(f"case{i}", images[i][None], labels[i][None])
"""
    (folder / "parts.py").write_text(text)
    recipe = load_recipe(folder, ["loss.ignore_index=-1", "search.steps=30", "search.validate_every=10"])
    validate_recipe(recipe).check()
    outcome = run_recipe(recipe, tmp_path / "run")
    for name in ("best", "final"):
        whole = evaluate_run(tmp_path / "run", name)
        for label, dice in list(outcome.test[name].per_class.items())[1:]:
            assert whole.per_class("dice")[label] == pytest.approx(dice, abs=1e-9)
    assert 0 < outcome.test["final"].mean < 1
    seen = PredictedSlices.load(tmp_path / "run" / "seen.npz")
    assert (seen.truth[:, :4, 3:] == 255).all() and (seen.truth[:, 4:] < 3).all()
    kept = seen.truth != 255
    for number, label in ((1, "large"), (2, "small")):
        pairs = [((p == number) & k, t == number) for p, t, k in zip(seen.predictions, seen.truth, kept, strict=True)]
        dice = np.mean([2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in pairs])
        assert outcome.test["final"].per_class[label] == pytest.approx(dice, abs=1e-9)
