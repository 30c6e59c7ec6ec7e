"""What cannot be read as logits is refused, and says so; what cannot be traced is read where its values tell."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from support.logit_kinds import (
    Shaped,
    build,
)
from support.zoo import SmallUNet
from torch import Tensor
from torch.nn import functional as F

from lomix_search.data.case import Case
from lomix_search.errors import LomixError, RunError, StageError
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions, predict_case
from lomix_search.evaluation.score_items import score_items
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.outputs import reader_of


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
        "  Try:  network.register_forward_hook(lambda module, inputs, output: output['edge'])\n"
        "        network.register_forward_hook(lambda module, inputs, output: output['mask'])"
    )
    net = instrument(network, torch.rand(1, 1, 32, 24))
    said = net.stages.notes[-5:]
    assert said == (
        "Twins returns 2 maps that could be its logits; output['edge'] is taken:",
        "  32 × 24: output['edge'] (1 channel)",
        "  32 × 24: output['mask'] (1 channel, made by head)",
        "to take another, type this and instrument anew:",
        "  net.register_forward_hook(lambda module, inputs, output: output['mask'])",
    )
    assert predict_case(net, case(), InferenceOptions()).label.shape == (2, 32, 24)
    eval(said[-1], {"net": net.strip()})
    image = torch.rand(1, 1, 32, 24)
    anew = instrument(network, image)
    assert not anew.stages.returned.rivals and len(anew.stages) == len(net.stages)
    assert torch.equal(anew.eval().logits(image), Twins.forward(network, image)["mask"])
    assert predict_case(network, case(), InferenceOptions()).label.shape == (2, 32, 24)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "ends",
    [
        lambda z: z.reshape(-1, 3),  # classes and positions mixed
        lambda z: (2 * z).permute(0, 2, 3, 1).reshape(-1, 3),  # no module sees these logits
        lambda z: z.clamp(0, 1).permute(0, 2, 3, 1).reshape(-1, 3),
        lambda z: F.softmin(z, 1).permute(0, 2, 3, 1).reshape(-1, 3),
    ],
)
def test_rows_of_what_is_no_map_of_logits_are_refused(ends: Any) -> None:
    class Rows(Shaped):
        def forward(self, x: Tensor) -> Any:
            return ends(self.parts(x)[0])

    with pytest.raises(StageError, match="Rows returns no map of logits"):
        instrument(Rows("plain"), torch.rand(2, 1, 32, 24))


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


@pytest.mark.slow
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
