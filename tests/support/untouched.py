"""What tells whether a model, and the process around it, are as they were."""

import builtins
import random
import sys
import warnings

import numpy as np
import torch
from torch import nn
from torch.fx.experimental import symbolic_shapes  # noqa: F401  imports sympy, which adds a filter of warnings

from support.hostile import HOSTILE, state_of

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
