"""What keeps the user's model as it was: a twin to run instead of it, and all that both share put back."""

import contextlib
import copy
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from lomix_search.errors import TraceError
from lomix_search.instrumentation.trace.inputs import Inputs
from lomix_search.instrumentation.trace.lent import Lent, Written
from lomix_search.instrumentation.trace.process import ProcessState, repeatable_kernels
from lomix_search.instrumentation.trace.reachable import reachable
from lomix_search.instrumentation.trace.snapshot import Snapshot

_T = TypeVar("_T")

ALONE = threading.RLock()
"""Held while a model is read: that changes settings of the whole process, and what it sees of torch's own classes."""


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


def duplicate(value: Any, led_to: dict[int, Any] | None = None, memo: dict[int, Any] | None = None) -> Any:
    """Return a deep copy in which nothing has the memory of the original.

    Args:
        value: A model, or what one is called with.
        led_to: What ``reachable(value)`` returns, where it is known already.
        memo: The copies to take, by the ``id`` of what they are of; those that are made are put in.

    Returns:
        The copy. Results of earlier passes that the value holds are copied without the graph of their gradients.
    """
    memo = {} if memo is None else memo
    for tensor in (reachable(value) if led_to is None else led_to).values():
        if isinstance(tensor, Tensor) and not tensor.is_leaf and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone()
        elif isinstance(tensor, nn.Parameter) and (vars(tensor) or tensor.grad is not None):
            _copy_of_parameter(tensor, memo)
    return copy.deepcopy(value, memo)


def _copy_of_parameter(parameter: nn.Parameter, memo: dict[int, Any]) -> None:
    """Note a copy with what else was set on the parameter, which torch leaves out."""
    made = copy.deepcopy(parameter, memo)
    for name, value in vars(parameter).items():
        if name not in vars(made):
            setattr(made, name, copy.deepcopy(value, memo))
    if made.grad is None and parameter.grad is not None:
        made.grad = memo[id(parameter.grad)] if id(parameter.grad) in memo else parameter.grad.detach().clone()


def fresh(inputs: Inputs) -> Inputs:
    """Return inputs for one run, which may change them in place; those that cannot be copied are given as they are."""
    try:
        copied: Inputs = duplicate(inputs)
    except Exception:  # whatever a user's class may raise
        return inputs
    return copied


def on_twin(model: nn.Module, inputs: Inputs, work: Callable[[nn.Module], _T], lend: bool = True) -> _T:
    """Do something with a twin of a model that may run in any mode: the user's model and inputs stay as they are.

    The twin is a deep copy that reads the parameters in the user's memory; before anything writes to them, all is begun
    anew with a copy of them, too. What it has in common with the model is put back afterwards: what functions close
    over, global variables that the network's code names, attributes of classes, what gives itself as its copy. A model
    that cannot be copied, or whose copy would go on to call it, is lent itself, and put back as a whole. So are the
    settings and random states of the process, which is why one thread at a time may do this.

    Not put back: what goes out of Python's objects (files, processes), iterators, what is added to a cache of functools
    that is in use, and variables of Python's modules that a function writes without naming them, as by
    ``setattr(config, name, value)``.

    Args:
        model: The user's model, unwrapped.
        inputs: What it is called with.
        work: Takes the twin; it may be called a second time, with another one.
        lend: Whether the twin may read the user's parameters; False for one that is used after this returns.

    Returns:
        What ``work`` returns.
    """
    with ALONE:
        lent = Lent(reachable(model)) if lend else None
        try:
            done = _on_twin(model, inputs, work, lent)
            if lent is None or not lent.refused:
                return done
            del done  # made by a network that caught what refused it to write
        except (Written, Exception):
            if lent is None or not lent.refused:
                raise
        return _on_twin(model, inputs, work, None)


def _on_twin(model: nn.Module, inputs: Inputs, work: Callable[[nn.Module], _T], lent: Lent | None) -> _T:
    states: list[ProcessState | Snapshot] = [ProcessState()]

    def put_back() -> None:
        for state in reversed(states):
            state.put_back()

    try:
        try:
            repeatable_kernels()
            twin, common = _twin_of(model, inputs, lent)
            states.append(Snapshot(common))
            with warnings.catch_warnings(), lent or contextlib.nullcontext():
                warnings.simplefilter("ignore")
                return work(twin)
        finally:
            put_back()
    finally:  # again, in case that Ctrl-C came in the middle of it
        put_back()


def _twin_of(model: nn.Module, inputs: Inputs, lent: Lent | None) -> tuple[nn.Module, list[Any]]:
    """Return the twin, and what may change with it."""
    led_to = reachable(model)
    users = led_to | reachable(inputs)
    copies = _others(led_to, lent)
    try:
        twin = duplicate(model, led_to, copies)
        common = _common(users, twin, inputs, lent)
        told = [value for value in common if isinstance(value, (dict, list, set)) and id(value) in copies]
        if told:  # a hook writes to the same dict that an attribute reads: the twin's attribute must be that dict, too
            twin = duplicate(model, led_to, _others(led_to, lent) | {id(value): value for value in told})
            common = _common(users, twin, inputs, lent)
    except Exception:  # whatever a user's class may raise
        return model, list(users.values())
    if {id(module) for module in model.modules()} & {id(v) for v in common} - {id(m) for m in twin.modules()}:
        return model, list(users.values())
    return twin, common


def _others(led_to: dict[int, Any], lent: Lent | None) -> dict[int, Any]:
    return {} if lent is None else dict(lent.others(led_to))


def _common(users: dict[int, Any], twin: nn.Module, inputs: Inputs, lent: Lent | None) -> list[Any]:
    """Return what the twin, called with copies of the inputs, reaches of what the model does, and may change."""
    held = reachable(twin, fresh(inputs))
    return [
        value
        for key, value in users.items()
        if key in held and not (lent is not None and isinstance(value, torch.UntypedStorage) and lent.holds(value))
    ]
