"""What a value leads to: the objects that it holds, and those that its functions and classes see."""

import collections
import contextlib
import dis
import functools
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = {type(None), bool, int, float, complex, str, bytes, range, slice, torch.Size, torch.dtype, torch.device}
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, collections.deque)
_HOLDING = {"argparse", "collections", "functools", "queue", "random", "types"}  # whose objects hold a user's things
_CLOSED = (set(sys.stdlib_module_names) | {"numpy"}) - _HOLDING
_FOREIGN = {*sys.stdlib_module_names, "numpy", "torch", "lomix_search"}
_STORES = {dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]}


def reachable(*roots: Any) -> dict[int, Any]:
    """Return everything that values lead to, by its ``id``.

    Python's modules (``import config``), iterators, open files, locks and what C code hides are not looked into.

    Args:
        *roots: Any values.

    Returns:
        Every object once; the dictionary keeps them alive, so that an ``id`` stays theirs.
    """
    found: dict[int, Any] = {}
    left = list(roots)
    while left:
        value = left.pop()
        if type(value) not in _PLAIN and id(value) not in found:
            found[id(value)] = value
            with contextlib.suppress(Exception):  # whatever a user's class, or a tensor of a rare kind, may raise
                left += list(_parts(value))
    return found


def _parts(value: Any) -> Iterator[Any]:
    kind = type(value)
    if isinstance(value, type):
        yield from () if foreign(value) else (*vars(value).values(), *value.__mro__)
        return
    if not foreign(kind):
        yield kind
    yield from _attributes(value)
    if issubclass(kind, dict):
        yield from (*dict.values(value), *dict.keys(value))
    elif base := next((base for base in _CONTAINERS if issubclass(kind, base)), None):
        yield from base.__iter__(value)
    elif issubclass(kind, Tensor):
        yield from _parts_of_tensor(value)
    elif issubclass(kind, np.ndarray):
        yield from value.ravel() if value.dtype.hasobject else (value.base,)
    elif issubclass(kind, torch.jit.ScriptModule):
        yield from (*value.parameters(recurse=False), *value.buffers(recurse=False))
    else:
        yield from _seen_by(value)


def _attributes(value: Any) -> Iterator[Any]:
    if isinstance(value, (nn.Module, Tensor, types.FunctionType)) or not _closed(type(value)):
        with contextlib.suppress(AttributeError):
            yield object.__getattribute__(value, "__dict__")
        for slot in slot_members(type(value)):
            with contextlib.suppress(AttributeError):
                yield slot.__get__(value)


def slot_members(kind: type) -> list[Any]:
    """Return what reads and writes the ``__slots__`` of a user's class and its bases."""
    classes = [base for base in kind.__mro__ if not foreign(base)]
    return [a for base in classes for a in vars(base).values() if isinstance(a, types.MemberDescriptorType)]


def _parts_of_tensor(tensor: Tensor) -> Iterator[Any]:
    with contextlib.suppress(Exception):  # sparse and lazy tensors have none
        yield tensor.untyped_storage()
    if tensor.is_leaf:
        yield tensor.grad
    yield tensor._backward_hooks


def _seen_by(value: Any) -> Iterable[Any]:
    """What a function, a method or another callable of Python sees."""
    match value:
        case types.FunctionType():
            seen = (value.__globals__.get(name) for name in global_names(value))
            return (*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__, *seen)
        case types.CellType():
            return contents(value)
        case types.MethodType():
            return value.__self__, value.__func__
        case types.BuiltinMethodType():  # such as self.note = self.history.append
            return () if isinstance(value.__self__, types.ModuleType) else (value.__self__,)
        case functools.partial():
            return value.func, value.args, value.keywords
        case staticmethod() | classmethod():
            return (value.__func__,)
        case property():
            return value.fget, value.fset, value.fdel
        case weakref.ref():
            return (value(),)
    return ()


def contents(cell: types.CellType) -> tuple[Any, ...]:
    """Return the value of a variable that a function closes over; nothing if it has none yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def foreign(kind: Any) -> bool:
    """Whether a class or function is Python's, numpy's, torch's or ours: their own variables are no user's state."""
    return _top(kind) in _FOREIGN


def _closed(kind: type) -> bool:
    """Whether what objects of a class hold is not looked into: files, locks, loggers, compilers."""
    return _top(kind) in _CLOSED or str(kind.__module__).startswith("torch._")


def _top(kind: Any) -> str:
    return str(getattr(kind, "__module__", None) or "builtins").partition(".")[0]


def global_names(function: types.FunctionType) -> frozenset[str]:
    """Return the global variables that a user's function uses and that may change, or that it writes."""
    code, known = function.__code__, function.__globals__
    if foreign(function) or not (_writes(code) or any(_changes(known.get(name)) for name in _names(code))):
        return frozenset()
    used, written = _used(code)
    return frozenset(name for name in used if name in written or _changes(known.get(name)))


def _changes(value: Any) -> bool:
    constant = type(value) in _PLAIN or isinstance(value, (types.ModuleType, types.BuiltinFunctionType))
    return not constant and not (isinstance(value, (type, types.FunctionType)) and foreign(value))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> frozenset[str]:
    """All names in a function and those within it, attributes too: sooner known than which of them are global."""
    return frozenset(code.co_names).union(*map(_names, _inner(code)))


@functools.lru_cache(maxsize=4096)
def _writes(code: types.CodeType) -> bool:
    return any(op in _STORES for op in code.co_code[::2]) or any(map(_writes, _inner(code)))


@functools.lru_cache(maxsize=4096)
def _used(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global variables that a function and those within it use, and those that they write."""
    steps = [step for step in dis.get_instructions(code) if step.opname.endswith("_GLOBAL")]
    used = {str(step.argval) for step in steps}
    written = {str(step.argval) for step in steps if step.opcode in _STORES}
    inner = [_used(one) for one in _inner(code)]
    return frozenset(used).union(*(u for u, _ in inner)), frozenset(written).union(*(w for _, w in inner))


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
