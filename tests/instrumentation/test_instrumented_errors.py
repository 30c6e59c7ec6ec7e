"""Each input that ``instrument`` cannot use: one clear error, compared in full."""

import pytest
import torch
from support.zoo import SmallUNet
from torch import nn

from lomix_search.errors import LomixError, StageError, TraceError
from lomix_search.instrumentation.instrumented import instrument

IMAGE = torch.zeros(1, 1, 32, 32)


class Classifier(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class OneScale(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


class Bright(SmallUNet):
    """Takes another way for dark images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.mean() > 0 else 2 * x)


class Rare(SmallUNet):
    """Takes another way, past a stage, for images no one expects."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.abs().max() < 10 else self.head(self.down[0](x))


class Timed(SmallUNet):
    def forward(self, image: torch.Tensor, time: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return super().forward(image * time * scale)


class Packed(SmallUNet):
    def forward(self, both: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return super().forward(both[0] * both[1])


class Boxes(SmallUNet):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"boxes": super().forward(x).mean((2, 3)), "scores": torch.ones(3)}


class Masks(SmallUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).argmax(1)


class Depth(SmallUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, 0]


class Last(SmallUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).permute(0, 2, 3, 1).softmax(-1)


class Tokens(SmallUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


READS = f"test_instrumented_errors.py:{Bright.forward.__code__.co_firstlineno + 1} reads a tensor's value: "
READS += "return super().forward(x if x.mean() > 0 else 2 * x)"
BAD = "did not run on the example in eval mode; it needs an example as it gets in training."

FAULTS: dict[str, tuple[nn.Module, object, type[LomixError], str]] = {
    "no decoder": (
        Classifier(), IMAGE, StageError,
        "Classifier returns no map of logits (batch × classes × size); only networks that do have stages to mix.\n"
        "  Seen: output: 1 × 8\n"
        "  Try:  instrument a network whose output is a map, e.g. the segmentation model around this encoder",
    ),
    "a single scale": (
        OneScale(), IMAGE, StageError,
        "OneScale has no decoder stage that was found; a mixture needs at least 2.\n"
        "  Seen: 32 × 32: 1 (4 channels)\n"
        "  Try:  a network whose decoder has several scales; one scale leaves nothing to mix",
    ),
    "control flow that depends on data": (
        Bright(), IMAGE, TraceError,
        "no graph of Bright gives its output again; its control flow may depend on data values.\n"
        f"  Seen: fx: its graph gives another output on other values of the same shape; {READS}\n"
        f"        record: its graph gives another output on other values of the same shape; {READS}\n"
        "        export: a branch depends on the values of a tensor\n"
        "  Try:  replace branches on tensor values (if x.mean() > 0) by torch.where, or move them out of forward()",
    ),
    "an example that is rejected": (
        SmallUNet(), torch.zeros(1, 3, 32, 32), TraceError,
        f"SmallUNet {BAD}\n"
        "  Seen: example: float32 1 × 3 × 32 × 32\n"
        "        RuntimeError: Given groups=1, weight of size [4, 1, 3, 3], expected input[1, 3, 32, 32] "
        "to have 1 channels, but got 3 channels instead\n"
        "  Try:  example=torch.zeros(batch, channels, *size) with the channels and size of the training images",
    ),
    "a shape for an example": (
        SmallUNet(), (1, 1, 32, 32), TraceError,
        f"SmallUNet {BAD}\n"
        "  Seen: example: no tensor\n"
        "        TypeError: SmallUNet.forward() takes 2 positional arguments but 5 were given\n"
        "  Try:  example=torch.zeros(1, 1, 32, 32)  # a tensor, not its shape",
    ),
    "an array for an example": (
        SmallUNet(), IMAGE.numpy(), TraceError,
        f"SmallUNet {BAD}\n"
        "  Seen: example: no tensor\n"
        "        TypeError: conv2d() received an invalid combination of arguments - got (numpy.ndarray, Parameter, "
        "Parameter, tuple, tuple, tuple, int), but expected one of:\n"
        "  Try:  example=torch.from_numpy(array)  # a tensor, not an array",
    ),
    "a class instead of a network": (
        SmallUNet, IMAGE, TraceError,
        "SmallUNet is a class; a network made of it can be instrumented.\n"
        "  Try:  instrument(SmallUNet(…), example)",
    ),
    "what is no module": (
        "unet.pt", IMAGE, TraceError,
        "str is no torch.nn.Module; only modules can be instrumented.\n"
        "  Try:  instrument(network, example, num_classes=…)",
    ),
    "a network that is instrumented": (
        instrument(SmallUNet(), IMAGE), IMAGE, StageError,
        "this SmallUNet is instrumented already.\n"
        "  Seen: up.0, up.1\n"
        "  Try:  train it as it is, or instrument(net.strip(), example) to begin anew",
    ),
    "several inputs given as one": (
        Timed(), IMAGE, TraceError,
        f"Timed {BAD}\n"
        "  Seen: example: float32 1 × 1 × 32 × 32\n"
        "        TypeError: Timed.forward() missing 1 required positional argument: 'time'\n"
        "  Try:  example=(image, time) or example={'image': image, 'time': time}  # all that forward() takes",
    ),
    "logits with their channels last": (
        Last(), IMAGE, StageError,
        "Last returns its 3 channels laid out as channels last; logits are batch × classes × size.\n"
        "  Seen: output: 1 × 32 × 32 × 3\n"
        "  Try:  return logits.permute(0, 3, 1, 2) from forward(), without a softmax",
    ),
    "logits as tokens": (
        Tokens(), IMAGE, StageError,
        "Tokens returns its 3 channels laid out as tokens; logits are batch × classes × size.\n"
        "  Seen: output: 1 × 1024 × 3\n"
        "  Try:  return logits.transpose(1, 2).unflatten(2, (32, 32)) from forward(), without a softmax",
    ),
    "an output without an axis of classes": (
        Depth(), IMAGE, StageError,
        "Depth returns 1 × 32 × 32, which has no axis of classes; logits are batch × classes × size.\n"
        "  Seen: output: 1 × 32 × 32\n"
        "  Try:  return logits.unsqueeze(1) from forward()",
    ),
    "one input given as several": (
        Packed(), (IMAGE, torch.ones(1)), TraceError,
        f"Packed {BAD}\n"
        "  Seen: example: float32 1 × 1 × 32 × 32, float32 1\n"
        "        TypeError: Packed.forward() takes 2 positional arguments but 3 were given\n"
        "  Try:  example=(both,)  # all that forward() takes",
    ),
    "an output that is no map": (
        Boxes(), IMAGE, StageError,
        "Boxes returns no map of logits (batch × classes × size); only networks that do have stages to mix.\n"
        "  Seen: output['boxes']: 1 × 3\n"
        "        output['scores']: 3\n"
        "  Try:  instrument a network whose output is a map, e.g. the segmentation model around this encoder",
    ),
    "an output of class numbers": (
        Masks(), IMAGE, TraceError,
        "Masks returned whole numbers; a segmentation network returns logits.\n"
        "  Seen: output: int64 1 × 32 × 32\n"
        "  Try:  return the logits from forward(), and take argmax(1) of them outside",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_whole_error(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    model, example, kind, text = FAULTS[fault]
    with pytest.raises(kind) as caught:
        instrument(model, example)
    assert str(caught.value) == text
    assert capfd.readouterr() == ("", "")  # and torch says nothing beside it


CHOICES: dict[str, tuple[object, str]] = {
    "one name": ("up.0", 'stages="up.0" is no list of names.\n  Try:  stages=["up.0", …], two or more'),
    "one map twice": (
        ["up.0", "up.1", "in:up.1", "up.0.2"],
        'stages=[…] names one map of SmallUNet twice: "up.0" and "up.0.2".\n  Try:  leave one of them out',
    ),
    "no module": (
        ["up0", "up.1"],
        'SmallUNet has no module "up0", which stages=[…] names.\n'
        '  Seen: Nearest: "up.0". Known: down, dropout, head, pool, up.\n'
        "  Try:  [name for name, _ in net.named_modules()]   # all that there are",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_stages_that_cannot_be_chosen(choice: str) -> None:
    names, text = CHOICES[choice]
    with pytest.raises(StageError) as caught:
        instrument(SmallUNet(), IMAGE, stages=names)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_what_is_said_to_type_works() -> None:
    image, time = IMAGE, torch.ones(1)
    assert len(instrument(Timed(), (image, time)).stages) == 2
    assert len(instrument(Timed(), {"image": image, "time": time}).stages) == 2
    both = (image, time)
    assert len(instrument(Packed(), (both,)).stages) == 2


def test_a_branch_that_no_example_takes() -> None:
    """Nothing can see it beforehand: eval output stays the network's own, and training says which stage is missing."""
    model = Rare().eval()
    usual, rare = torch.rand(2, 1, 32, 32), 20 * torch.rand(2, 1, 32, 32)
    expected = [model(usual), model(rare)]
    net = instrument(model, usual[:1])
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"]
    assert all(torch.equal(net(x), y) for x, y in zip((usual, rare), expected, strict=True))
    net.train()
    assert len(net(usual)) == 2
    with pytest.raises(StageError) as caught:
        net(rare)
    assert str(caught.value) == (
        'stage "up.0" of Rare was not reached in this forward pass.\n'
        "  Seen: tapped at the output of up.0\n"
        "  Try:  instrument again with an example like this input"
    )


def test_class_numbers_beside_the_logits_are_not_taken_for_them() -> None:
    class Both(SmallUNet):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = super().forward(x)
            return logits.argmax(1, keepdim=True), logits

    assert instrument(Both(), IMAGE).num_classes == 3


def test_an_attention_larger_than_the_image_is_not_taken_for_the_logits() -> None:
    class Attending(SmallUNet):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = super().forward(x)
            flat = logits[..., ::4, ::4].flatten(2)
            return logits, (flat.transpose(1, 2) @ flat).unsqueeze(1)

    net = instrument(Attending(), torch.zeros(1, 1, 32, 32))
    assert net.num_classes == 3 and [stage.size for stage in net.stages] == [(16, 16), (32, 32)]
