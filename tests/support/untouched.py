"""What tells whether a model, and the process around it, are as they were."""

import builtins
import collections
import functools
import random
import sys
import types
import warnings
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental import symbolic_shapes  # noqa: F401  imports sympy, which adds a filter of warnings

from support.hostile import HOSTILE

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


def state_of(*roots: Any) -> dict[str, Any]:
    """Everything that can be seen of some values, by its path: for tensors bits, version, flags, gradient."""
    found: dict[str, Any] = {}
    seen: dict[int, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(
            value, (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
        ):
            found[path] = repr(value)
            return
        if id(value) in seen:
            found[path] = f"the same as {seen[id(value)]}"
            return
        seen[id(value)] = path
        keep.append(value)
        found[path] = (type(value).__qualname__, id(value))
        if isinstance(value, Tensor):
            found[f"{path}!"] = bits_of(value)
            walk(f"{path}.grad", value.grad if value.is_leaf else None)
        elif isinstance(value, np.ndarray):
            found[f"{path}!"] = (value.shape, value.tobytes())
        elif isinstance(value, torch.Generator):
            found[f"{path}!"] = value.get_state().numpy().tobytes()
        elif isinstance(value, (random.Random, np.random.RandomState)):
            found[f"{path}!"] = repr(value.getstate() if isinstance(value, random.Random) else value.get_state())
        elif isinstance(value, np.random.Generator):
            found[f"{path}!"] = repr(value.bit_generator.state)
        elif isinstance(value, bytearray):
            found[f"{path}!"] = bytes(value)
        elif isinstance(value, dict):
            found[f"{path} keys"] = [repr(key) for key in value]
            for key, item in value.items():
                walk(f"{path}[{key!r}]", item)
        elif isinstance(value, (list, tuple, collections.deque)):
            found[f"{path} length"] = len(value)
            for i, item in enumerate(value):
                walk(f"{path}[{i}]", item)
        elif isinstance(value, (set, frozenset)):
            found[f"{path}!"] = sorted(map(repr, value))
        elif isinstance(value, types.FunctionType):
            for i, cell in enumerate(value.__closure__ or ()):
                try:
                    walk(f"{path} sees {value.__code__.co_freevars[i]}", cell.cell_contents)
                except ValueError:
                    found[f"{path} sees {value.__code__.co_freevars[i]}"] = "nothing"
            walk(f"{path} defaults", value.__defaults__)
        elif isinstance(value, types.MethodType):
            walk(f"{path} of", value.__self__)
            walk(f"{path} function", value.__func__)
        elif isinstance(value, functools.partial):
            for item in (value.func, value.args, value.keywords):
                walk(f"{path} partial {type(item)}", item)
        elif isinstance(value, weakref.ref):
            walk(f"{path}()", value())
        for name in getattr(type(value), "__slots__", ()):
            walk(f"{path}.{name}", getattr(value, name, "nothing"))
        if not isinstance(value, (type, types.ModuleType, types.MethodType)) and hasattr(value, "__dict__"):
            walk(f"{path}.__dict__", object.__getattribute__(value, "__dict__"))
            if type(value).__module__.startswith(("support.hostile", "__main__")):
                for name, item in vars(type(value)).items():
                    if not name.startswith("__") and not callable(item):
                        walk(f"{path} class {name}", item)

    keep: list[Any] = []
    for i, root in enumerate(roots):
        walk(f"{i}", root)
    return found


def bits_of(value: Tensor) -> Any:
    form = (type(value), value.requires_grad, value.is_leaf)
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        return form
    form = (*form, value.dtype, value.shape, value._version)
    if value.layout != torch.strided or value.is_meta:
        return form if value.is_meta else (*form, repr(value))
    plain = value.detach().contiguous().clone().view(-1)  # numpy() forbids the user's own memory to be resized
    return (*form, value.stride(), plain.view(torch.uint8).numpy().tobytes())


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
