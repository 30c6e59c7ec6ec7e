"""What tells whether a model, and the process around it, are as they were."""

import builtins
import collections
import contextlib
import functools
import gc
import hashlib
import random
import sys
import types
import warnings
import weakref
from typing import Any, ClassVar

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


PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def state_of(*roots: Any) -> dict[str, Any]:
    """Everything that can be seen of some values, by its path: of tensors a hash of the bits, version, flags, gradient.

    Of networks and other objects also what their classes hold, and the variables of the Python modules that these are
    defined in: what a network writes may lie there.
    """
    picture = Picture()
    for i, root in enumerate(roots):
        picture.walk(f"{i}", root)
    while picture.around:
        picture.walk(*picture.around.pop(0))
    return picture.found


class Picture:
    """Walks values; ``found`` is what was seen, ``around`` classes and modules that are still to be looked into."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.around: list[tuple[str, Any]] = []
        self.seen: dict[int, str] = {}
        self.keep: list[Any] = []

    def walk(self, path: str, value: Any) -> None:
        if isinstance(value, PLAIN):
            self.found[path] = repr(value)
        elif id(value) in self.seen:
            self.found[path] = f"the same as {self.seen[id(value)]}"
        else:
            self.seen[id(value)] = path
            self.keep.append(value)
            kinds = {types.ModuleType: self.variables, type: self.members}
            next((look for kind, look in kinds.items() if isinstance(value, kind)), self.parts)(path, value)

    def parts(self, path: str, value: Any) -> None:
        self.found[path] = (type(value).__qualname__, id(value))
        for kind, look in self.LOOKS.items():
            if isinstance(value, kind):
                look(self, path, value)
                break
        if not foreign(type(value)):
            self.around.append((type(value).__qualname__, type(value)))
        for name in getattr(type(value), "__slots__", ()):
            self.walk(f"{path}.{name}", getattr(value, name, "nothing"))
        if not isinstance(value, types.MethodType):
            with contextlib.suppress(AttributeError):
                self.walk(f"{path}.__dict__", object.__getattribute__(value, "__dict__"))

    def tensor(self, path: str, value: Tensor) -> None:
        self.found[f"{path}!"] = bits_of(value)
        self.walk(f"{path}.grad", value.grad if value.is_leaf else None)

    def mapping(self, path: str, value: dict[Any, Any]) -> None:
        self.found[f"{path} keys"] = [repr(key) for key in value]
        for key, item in value.items():
            self.walk(f"{path}[{key!r}]", item)

    def row(self, path: str, value: Any) -> None:
        self.found[f"{path} length"] = len(value)
        for i, item in enumerate(value):
            self.walk(f"{path}[{i}]", item)

    def function(self, path: str, value: types.FunctionType) -> None:
        for i, cell in enumerate(value.__closure__ or ()):
            try:
                self.walk(f"{path} sees {value.__code__.co_freevars[i]}", cell.cell_contents)
            except ValueError:
                self.found[f"{path} sees {value.__code__.co_freevars[i]}"] = "nothing"
        self.walk(f"{path} defaults", value.__defaults__)

    def method(self, path: str, value: types.MethodType) -> None:
        self.walk(f"{path} of", value.__self__)
        self.walk(f"{path} function", value.__func__)

    def partial(self, path: str, value: functools.partial[Any]) -> None:
        for item in (value.func, value.args, value.keywords):
            self.walk(f"{path} partial {type(item)}", item)

    def members(self, _path: str, value: type) -> None:
        """What a class holds; and next, what its bases and the Python module that defines it hold."""
        if foreign(value):
            return
        for name, item in vars(value).items():
            self.member(f"class {value.__qualname__}.{name}", item)
        self.around += [(base.__qualname__, base) for base in value.__mro__[1:]]
        if isinstance(module := sys.modules.get(value.__module__), types.ModuleType):
            self.around.append((value.__module__, module))

    def variables(self, path: str, value: types.ModuleType) -> None:
        if not foreign(value):
            for name, item in list(vars(value).items()):
                if not isinstance(item, (type, types.ModuleType)):
                    self.member(f"module {path}.{name}", item)

    def member(self, path: str, item: Any) -> None:
        bound = isinstance(
            item, staticmethod | classmethod | types.MethodType
        )  # others may make what they are asked for
        inner = item.__func__ if bound else item
        known = isinstance(inner, (*PLAIN, *self.LOOKS, Tensor, nn.Module)) and not isinstance(inner, weakref.ref)
        if not path.endswith("__") and (known or not foreign(type(inner))) and not foreign(inner):
            self.walk(path, inner)

    def cache(self, path: str, value: Any) -> None:
        self.note(path, value.cache_info().currsize)
        for held in gc.get_referents(value):
            for i, item in enumerate(held.values() if isinstance(held, dict) else (held,)):
                self.walk(f"{path} caches {type(item).__name__} {i}", item)

    LOOKS: ClassVar[dict[type, Any]] = {
        Tensor: tensor,
        np.ndarray: lambda self, path, value: self.note(path, (value.shape, value.tobytes())),
        torch.Generator: lambda self, path, value: self.note(path, value.get_state().numpy().tobytes()),
        random.Random: lambda self, path, value: self.note(path, repr(value.getstate())),
        np.random.RandomState: lambda self, path, value: self.note(path, repr(value.get_state())),
        np.random.Generator: lambda self, path, value: self.note(path, repr(value.bit_generator.state)),
        bytearray: lambda self, path, value: self.note(path, bytes(value)),
        dict: mapping,
        list: row,
        tuple: row,
        collections.deque: row,
        set: lambda self, path, value: self.note(path, sorted(map(repr, value))),
        frozenset: lambda self, path, value: self.note(path, sorted(map(repr, value))),
        types.FunctionType: function,
        types.MethodType: method,
        functools.partial: partial,
        type(functools.cache(len)): cache,
        weakref.ref: lambda self, path, value: self.walk(f"{path}()", value()),
    }

    def note(self, path: str, what: Any) -> None:
        self.found[f"{path}!"] = what


def foreign(value: Any) -> bool:
    """Whether a class, function or module is Python's, numpy's or torch's, which hold nothing of a network's."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or "builtins"
    return str(name).partition(".")[0] in {*sys.stdlib_module_names, "numpy", "torch"} - {"__main__"}


def bits_of(value: Tensor) -> Any:
    form = (type(value), value.requires_grad, value.is_leaf)
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        return form
    form = (*form, value.dtype, value.shape, value._version)
    if value.layout != torch.strided or value.is_meta:
        return form if value.is_meta else (*form, repr(value))
    plain = value.detach().contiguous().clone().view(-1)  # numpy() forbids the user's own memory to be resized
    return (*form, value.stride(), hashlib.blake2b(plain.view(torch.uint8).numpy().data).hexdigest())


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
