"""``instrument`` changes neither the model nor the example nor the process, whatever the network does in forward."""

import builtins
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from hostile import HOSTILE, state_of
from torch import nn
from torch.fx.experimental import symbolic_shapes  # noqa: F401  imports sympy, which adds a filter of warnings

import lomix_search as lomix
from lomix_search.trace.settings import Noted

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated", "ignore:.*leaf Tensor", "ignore:.*Lazy")
CUDNN = torch.backends.cudnn


def process():
    """What belongs to the whole process."""
    return {
        "random": (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes()),
        "seed": (torch.initial_seed(), vars(torch.cuda._lazy_seed_tracker).copy()),
        "kernels": (CUDNN.enabled, CUDNN.benchmark, CUDNN.deterministic, CUDNN.allow_tf32),
        "precision": (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        ),
        "modes": (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
            torch.is_anomaly_enabled(), torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack(),
        ),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")],
        "torch": (nn.Module.__call__, builtins.isinstance, sys.stderr),
        "warnings": list(warnings.filters), "numpy": np.geterr(), "threads": torch.get_num_threads(),
    }  # fmt: skip


def built(name):
    torch.manual_seed(3)
    model = HOSTILE[name]()
    model.down[1][0].weight.requires_grad_(False)
    model.down[1][0].bias.grad = torch.ones(8)
    return model.train()


def picture(model, example):
    return state_of(model, example, *getattr(type(model), "watched", list)())


def same(before, after):
    """Compare two pictures, and say where they differ."""
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    assert not changed, changed[:20]


@pytest.fixture(autouse=True)
def _process():
    """Whatever a test finds changed, the next one does not."""
    noted = Noted()
    yield
    noted.put_back()


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_network_that_writes_in_forward_is_left_as_it_was(name, mode):
    model, example = built(name), torch.rand(2, 1, 16, 16)
    if mode == "frozen":
        model.up[0].eval(), model.down[0][1].eval()
    else:
        model.train(mode == "train")
    before, around = picture(model, example), process()
    net = lomix.instrument(model, example)
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"]
    assert net.strip() is model
    same(before, picture(model, example))
    same(around, process())


@pytest.mark.parametrize("name", HOSTILE)
def test_the_picture_sees_what_each_of_them_writes(name):
    """Else nothing would be tested: a plain pass in train mode changes the picture of each, or of the process."""
    around = process()
    model, example = built(name), torch.rand(2, 1, 16, 16)
    before = picture(model, example)
    with torch.no_grad():
        model(example)
    assert before != picture(model, example) or around != process()
