"""Prediction of whole cases: sizes, windows, flips, and networks that cannot be read."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.oracle_networks import Threshold, picture_case
from torch import nn

from lomix_search.data.case import Case
from lomix_search.errors import RunError
from lomix_search.evaluation.inference import InferenceOptions, predict_case


@pytest.mark.parametrize("many", [False, True])
def test_prediction_at_native_size(many: bool) -> None:
    case, network = picture_case(), Threshold(many=many)
    network.train()
    found = predict_case(network, case, InferenceOptions(batch_size=2), foreground=True)
    np.testing.assert_array_equal(found.label, case.label)
    assert found.foreground is not None and ((found.foreground > 0.5) == (case.label > 0)).all()
    assert network.training and network.seen == [(2, 1, 32, 40), (2, 1, 32, 40), (1, 1, 32, 40)]


@pytest.mark.parametrize("resize", ["nearest", "linear"])
def test_prediction_at_another_size(resize: Any) -> None:
    case, network = picture_case(size=(64, 96)), Threshold()
    found = predict_case(network, case, InferenceOptions(size=32, resize=resize))
    assert found.label.shape == case.label.shape and network.seen[0][-2:] == (32, 32)
    assert np.mean(found.label != case.label) < 0.08
    if resize == "nearest":  # by another library: centres of pixels there and back
        small = np.stack(
            [np.asarray(Image.fromarray(p[0]).resize((32, 32), Image.Resampling.BICUBIC)) for p in case.image]
        )
        np.testing.assert_allclose(network.given[0][:, 0], small, atol=1e-5)
        with torch.no_grad():
            low = network(network.given[0]).softmax(1).argmax(1).numpy().astype(np.uint8)
        back = [np.asarray(Image.fromarray(p).resize((96, 64), Image.Resampling.NEAREST)) for p in low]
        np.testing.assert_array_equal(found.label, np.stack(back))


def test_binary_by_one_channel() -> None:
    case = picture_case(classes=2)
    found = predict_case(Threshold(one_channel=True), case, InferenceOptions())
    np.testing.assert_array_equal(found.label, case.label)


@pytest.mark.parametrize(("window", "shape"), [((16, 16), (16, 16)), ((4, 16, 16), (4, 16, 16))])
def test_sliding_windows(window: tuple[int, ...], shape: tuple[int, ...]) -> None:
    case, network = picture_case(), Threshold()
    found = predict_case(network, case, InferenceOptions(window=window, batch_size=3))
    np.testing.assert_array_equal(found.label, case.label)
    assert all(seen[2:] == shape and seen[0] <= 3 for seen in network.seen)


def test_flips_average_and_turn_back() -> None:
    class Leaning(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lean = torch.linspace(-3, 3, x.shape[-1])
            return super().forward(x) * 0 + torch.stack([lean, -lean, -lean]).reshape(1, 3, 1, -1)

    case = picture_case()
    with torch.no_grad():
        straight = predict_case(Leaning(), case, InferenceOptions(), foreground=True).foreground
        turned = predict_case(Leaning(), case, InferenceOptions(flips=True), foreground=True).foreground
    assert straight is not None and turned is not None
    np.testing.assert_allclose(turned, (straight + straight[..., ::-1]) / 2, atol=1e-6)


def test_a_network_that_cannot_be_scored() -> None:
    class Broken(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) * float("nan")

    with pytest.raises(RunError) as error:
        predict_case(Broken(), picture_case(), InferenceOptions())
    assert str(error.value).startswith("the network returned NaN or infinite logits.")

    class Dict(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return {"features": x, "out": super().forward(x), "number": 3}

    np.testing.assert_array_equal(predict_case(Dict(), picture_case(), InferenceOptions()).label, picture_case().label)

    class Nothing(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return {"out": super().forward(x).mean((2, 3))}

    with pytest.raises(RunError) as error:
        predict_case(Nothing(), picture_case(), InferenceOptions())
    assert str(error.value) == (
        "what Nothing returns cannot be read as logits (B, C, *spatial): Nothing returns no map of logits "
        "(batch × classes × size); only networks that do have stages to mix.\n"
        "  Seen: output float32 5 × 3\n"
        "  Try:  return the logits alone from forward(), without a softmax or sigmoid"
    )


def test_several_networks_are_averaged_by_their_probabilities() -> None:
    torch.manual_seed(0)
    networks = [nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 1)]
    case = Case("a", np.random.default_rng(0).random((5, 1, 12, 10), np.float32), np.zeros((5, 12, 10), np.uint8))
    how = InferenceOptions(8, batch_size=2)
    one, other = (predict_case(n, case, how, all_classes=True).probabilities for n in networks)
    both = predict_case(networks, case, how, True, all_classes=True)
    assert one is not None and other is not None and both.probabilities is not None and both.foreground is not None
    assert both.probabilities.shape == (3, 5, 12, 10) and both.probabilities.dtype == np.float32
    np.testing.assert_allclose(both.probabilities, (one + other) / 2, atol=1e-6)
    np.testing.assert_array_equal(both.label, both.probabilities.argmax(0))
    np.testing.assert_array_equal(both.foreground, 1 - both.probabilities[0])
    assert (both.label != one.argmax(0)).any() and predict_case(networks, case, how).probabilities is None
