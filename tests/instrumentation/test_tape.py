"""A taped network returns what it ever did; the pass that a tensor came from is found, or refused if it was changed."""

from collections.abc import Callable

import pytest
import torch
from support.zoo import SmallUNet
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import StageError
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.tape import Tape


def build(classes: int = 3) -> tuple[SmallUNet, Tape, Tensor]:
    torch.manual_seed(0)
    model, example = SmallUNet(classes=classes), torch.rand(2, 1, 16, 16)
    model.dropout.p = 0.0
    tape = Tape(instrument(model, example), nn.Module())
    tape.attach()
    return model, tape, example


def test_maps_are_those_of_the_instrumented_network() -> None:
    model, tape, example = build()
    other = instrument(SmallUNet(), example)
    other.dropout.p = 0.0
    other.load_state_dict(model.state_dict())
    other.heads.load_state_dict(tape.net.heads.state_dict())
    other.train()
    logits = model(example)
    found = tape.pass_of(logits)
    assert found is not None and found.maps()[-1] is logits
    for a, b in zip(found.maps(), other(example), strict=True):
        torch.testing.assert_close(a, b)


def test_each_tensor_is_led_back_to_its_own_pass() -> None:
    model, tape, example = build()
    first, second = model(example), model(2 * example)
    for logits, number in ((first, 0), (second.float().softmax(1), 1)):
        assert tape.pass_of(logits) is tape.passes[number]
    assert tape.pass_of(torch.rand(2, 3, 16, 16)) is None and tape.pass_of(example) is None
    assert tape.pass_of(nn.Conv2d(1, 3, 1)(example)) is None


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "resized": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "double sigmoid": lambda x: x.double().sigmoid(),
    "log_softmax": lambda x: x.log_softmax(1),
    "one channel": lambda x: x[:, 0],
    "squeezed": lambda x: x.squeeze(1),
}
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "MulBackward0": lambda x: (x * 2).softmax(1),
    "TransposeBackward0": lambda x: x.transpose(2, 3),
    "FlipBackward0": lambda x: x.flip(2),
    "SelectBackward0": lambda x: x[0],
    "SliceBackward0": lambda x: x[:, :, :8],
}


@pytest.mark.parametrize("form", FORMS)
def test_another_form_is_the_same_output(form: str) -> None:
    model, tape, example = build(classes=1)
    assert tape.pass_of(FORMS[form](model(example))) is tape.passes[0]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_output_is_refused(change: str) -> None:
    model, tape, example = build()
    with pytest.raises(StageError) as caught:
        tape.pass_of(CHANGES[change](model(example)))
    assert str(caught.value).startswith(
        f"the loss of SmallUNet was called with what {change} made of its output, of which the maps would not know.\n"
        "  Seen: the finest stage: up.1\n  Try:  "
    )


def test_nothing_is_kept_in_eval_mode_after_an_exception_or_after_all() -> None:
    model, tape, example = build()
    tape.mode.training = False
    model(example)
    tape.mode.training = True
    with pytest.raises(RuntimeError):
        model(torch.rand(2, 5, 16, 16))
    assert tape.passes == [] and tape._open == []
    assert tape.pass_of(model(example)) is tape.passes[0]
    tape.detach()
    model(example)
    assert tape.passes == [] and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
