import pytest
import torch
from support.zoo import SmallUNet, monai_basic_unet, small_unet_2d
from torch import nn
from torch.nn import functional as F

from lomix_search.errors import StageError
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.stages import find_stages


def test_the_table_says_what_was_found_and_how():
    model, example, _ = small_unet_2d()
    text = str(instrument(model, example).stages)
    assert text.splitlines()[0].strip() == "SmallUNet: 2 stages, coarse to fine"
    assert "up.0" in text and "16 × 16" in text and "2 × 2" in text
    assert text.splitlines()[-1].strip() == "read by fx"


def test_stages_are_an_immutable_sequence():
    stages = instrument(*small_unet_2d()[:2]).stages
    assert repr(stages) == "Stages(['up.0', 'up.1'])"
    assert stages[0].channels == 8 and stages[-1].stride == (1, 1)
    with pytest.raises(TypeError):
        stages[0] = stages[1]


def test_a_single_scale_is_refused_kindly():
    class OneScale(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.head(self.up(self.down(x)))

    with pytest.raises(StageError) as caught:
        find_stages(OneScale(), torch.zeros(1, 1, 8, 8))
    assert str(caught.value) == (
        "OneScale has 1 decoder stage; a mixture needs at least 2.\n"
        "  Seen: 4 × 4: down (4 channels)\n"
        "        8 × 8: up (4 channels)\n"
        '  Try:  instrument(net, example, stages=["down", "up"])  '
        "# the last value of each size; leave out what is no decoder"
    )
    assert len(instrument(OneScale(), torch.zeros(1, 1, 8, 8), stages=["down", "up"]).stages) == 2  # the line runs


class Hypercolumns(nn.Module):
    """All levels of an encoder laid side by side as they are: nothing but the encoder works on a level."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 24, 3, 2, 1)])
        self.fuse, self.head = nn.Conv2d(48, 16, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        found = []
        for down in self.encoder:
            x = down(x)
            found.append(x)
        return self.head(self.fuse(torch.cat([F.interpolate(one, found[0].shape[2:]) for one in found], 1)))


def test_a_refused_network_shows_its_maps_by_level_and_the_line_to_type_works():
    model, inputs = Hypercolumns(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(StageError) as caught:
        find_stages(model, inputs)
    first, *seen, hint = str(caught.value).splitlines()
    assert first == "Hypercolumns has 1 decoder stage; a mixture needs at least 2."
    assert [line.removeprefix("  Seen:").strip() for line in seen] == [
        "4 × 4: encoder.2 (24 channels)",
        "8 × 8: encoder.1 (16 channels)",
        "16 × 16: fuse (16 channels)",
    ]
    line = hint.removeprefix("  Try:").strip()
    net = eval(line, {"instrument": instrument, "net": model, "example": inputs})
    assert [stage.name for stage in net.stages] == ["encoder.2", "encoder.1", "fuse"]


def test_a_network_of_one_resolution_is_refused_kindly():
    with pytest.raises(StageError) as caught:
        find_stages(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)), torch.zeros(1, 1, 8, 8))
    assert str(caught.value) == (
        "Sequential has no decoder stage that was found; a mixture needs at least 2.\n"
        "  Seen: 8 × 8: 0 (4 channels)\n"
        "  Try:  a network whose decoder has several scales; one scale leaves nothing to mix"
    )


def test_a_classifier_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    with pytest.raises(StageError) as caught:
        find_stages(net, torch.zeros(1, 1, 8, 8))
    assert str(caught.value) == (
        "Sequential returns no map of logits (batch × classes × size); only networks that do have stages to mix.\n"
        "  Seen: output: 1 × 10\n"
        "  Try:  instrument a network whose output is a map, e.g. the segmentation model around this encoder"
    )


def test_another_number_of_classes_is_refused():
    with pytest.raises(StageError) as caught:
        instrument(SmallUNet(classes=3), torch.zeros(1, 1, 16, 16), num_classes=9)
    assert str(caught.value) == (
        "SmallUNet returns 3 channels, but num_classes=9 was asked for.\n"
        "  Seen: output: 1 × 3 × 16 × 16\n"
        "  Try:  num_classes=3, or build the model with 9 output channels"
    )


def test_a_dot_names_the_model_itself():
    class Doubled(SmallUNet):
        def forward(self, x):
            return 2 * super().forward(x)

    model, example = Doubled().eval(), torch.rand(1, 1, 16, 16)
    (name, *_) = (stage.name for stage in instrument(Doubled(), example).stages)
    net = instrument(model, example, stages=[name, "."])
    assert [stage.name for stage in net.stages] == [name, "."]
    assert torch.equal(net.stage_features(example)[1], model(example))


def test_a_wrong_name_gets_the_nearest():
    model, example, _ = monai_basic_unet(2)
    with pytest.raises(StageError) as caught:
        instrument(model, example, stages=["upcat4", "upcat_1"])
    assert str(caught.value).startswith(
        'BasicUNet has no module "upcat4", which stages=[…] names.\n  Seen: Nearest: "upcat_4"'
    )


def test_a_module_without_a_map_is_refused():
    with pytest.raises(StageError) as caught:
        instrument(SmallUNet(), torch.zeros(1, 1, 16, 16), stages=["up", "up.1"])
    assert str(caught.value).startswith(
        '"up", which stages=[…] names, gives no feature map when the model runs.\n  Seen: the module'
    )


def test_a_value_that_no_module_sees_is_replaced_by_the_nearest_that_one_does():
    class Functional(SmallUNet):
        def forward(self, x):
            skips = []
            for i, down in enumerate(self.down):
                x = down(self.pool(x) if i else x)
                skips.append(x)
            x = skips.pop()
            for up in self.up:
                x = torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1)
                for layer in up:
                    x = nn.functional.conv2d(x, layer.weight, padding=1) if isinstance(layer, nn.Conv2d) else layer(x)
                x = nn.functional.gelu(x)
            return self.head(x)

    stages = find_stages(Functional(), torch.rand(1, 1, 32, 32)).stages
    assert [stage.name for stage in stages] == ["up.0.2", "in:head"]
