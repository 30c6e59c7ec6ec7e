"""What keeps the user's model as it was: a twin to run instead of it, and the random state put back."""

import contextlib
import copy
import inspect
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from lomix_search.errors import TraceError
from lomix_search.trace.graph import tensors

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.

    Args:
        model: The user's model.

    Returns:
        The module whose submodules are called in eager mode.

    Raises:
        TraceError: it is a ScriptModule, a class, or no module at all.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TraceError(
            f"{model.__name__} is a class; a network made of it can be instrumented.",
            hint=f"instrument({model.__name__}(…), example)",
        )
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"{type(model).__name__} is no torch.nn.Module; only modules can be instrumented.",
            hint="instrument(network, example, num_classes=…)",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise TraceError(
            f"{model.original_name} is a ScriptModule; its submodules take no hooks, and eager PyTorch is needed.",
            hint="instrument the model first and script it afterwards: torch.jit.script(net.strip())",
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrap(model.module)
    return unwrap(model._orig_mod) if is_compiled(model) else model


def is_compiled(model: nn.Module) -> TypeGuard["torch._dynamo.OptimizedModule"]:
    """Whether a module comes from ``torch.compile``; asked without importing the compiler, which takes seconds."""
    return "torch._dynamo" in sys.modules and isinstance(model, torch._dynamo.OptimizedModule)


def inputs_of(example: Any, model: nn.Module) -> Inputs:
    """Turn an example into ``(args, kwargs)`` on the model's device and in its floating type.

    Args:
        example: A tensor, a tuple or list of positional inputs, or a mapping of keyword inputs.
        model: Says which device and dtype.

    Returns:
        Positional and keyword inputs.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), None)

    def fitted(value: Any) -> Any:
        if isinstance(value, Tensor) and first is not None:
            return value.to(first.device, first.dtype if value.is_floating_point() else None)
        return value

    if isinstance(example, Mapping):
        return (), {key: fitted(value) for key, value in example.items()}
    if isinstance(example, (tuple, list)):
        return tuple(fitted(value) for value in example), {}
    return (fitted(example),), {}


def shapes(inputs: Inputs) -> str:
    """Write the inputs for an error message: ``float32 1 × 3 × 64 × 64``."""
    found = [f"{str(t.dtype).removeprefix('torch.')} {sizes(t.shape)}" for _, t in tensors(inputs)]
    return ", ".join(found) or "no tensor"


def sizes(shape: Any) -> str:
    """Write a shape: ``64 × 224 × 224``."""
    return " × ".join(map(str, shape)) or "scalar"


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Put the states of the random generators of torch, CUDA, numpy and Python back afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def same_kernels() -> Iterator[None]:
    """Have cuDNN take the same kernel for the same shapes, so that a network that runs twice gives one output.

    Kernels that add up in any order, and those that differ in the bits they keep (TF32), make outputs differ by more
    than a wrong graph may. Nor is it asked to try all kernels on shapes that it sees a few times.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextlib.contextmanager
def twin_of(model: nn.Module) -> Iterator[nn.Module]:
    """Lend a model that shares the parameters and nothing else, so that runs leave no mark on the user's.

    Buffers, mode and plain attributes are copied, parameters are not. A model that cannot be copied, or whose copy
    would go on to call it, is lent itself, and its buffers and modes are put back.

    Args:
        model: The user's model, unwrapped.

    Yields:
        The twin.
    """
    shared: dict[int, Any] = {id(p): p for p in model.parameters()}
    for module in model.modules():
        shared.update({id(t): t for t in vars(module).values() if isinstance(t, Tensor)})
    twin = None
    if not _bound(model):
        with contextlib.suppress(Exception):  # whatever a user's class may raise
            twin = copy.deepcopy(model, shared)
    if twin is not None:
        yield twin
        return
    with _restored(model):
        yield model


def _bound(model: nn.Module) -> bool:
    """Whether functions that were set on modules (``layer.forward = wrapped``) close over them: copies keep those."""
    modules = set(model.modules())
    values = [value for module in modules for value in vars(module).values()]
    for function in (value for value in values if isinstance(value, types.FunctionType)):
        with contextlib.suppress(ValueError):  # a name that has no value yet
            held = inspect.getclosurevars(function).nonlocals.values()
            owners = (one.__self__ if isinstance(one, types.MethodType) else one for one in held)
            if any(isinstance(one, nn.Module) and one in modules for one in owners):
                return True
    return False


@contextlib.contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
