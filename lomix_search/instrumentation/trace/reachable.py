"""Everything that a value leads to: the objects that it holds, and those that its functions and classes use."""

import collections
import contextlib
import dis
import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_Reader = Callable[[Any], list[Any]]

_PLAIN = {type(None), bool, int, float, complex, str, bytes, range, slice, torch.Size, torch.dtype, torch.device}
_HOLDING = {"argparse", "collections", "functools", "queue", "random", "types"}  # whose objects hold a user's things
_CLOSED = (set(sys.stdlib_module_names) | {"numpy"}) - _HOLDING
_FOREIGN = {*sys.stdlib_module_names, "numpy", "torch", "lomix_search"}
CACHED = type(functools.cache(len))
"""What ``functools.cache`` and ``lru_cache`` make of a function."""

memory_of = Tensor.untyped_storage
"""As torch has it; while memory is lent, a network that asks a tensor for it is answered otherwise (see lent.py)."""

_STORES = {dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]}


def is_freed(tensor: Tensor) -> bool:
    """Whether a tensor's memory was given back while the tensor is still there, so that reading it ends the process."""
    with contextlib.suppress(Exception):  # tensors under torch.func, and those of other devices, show no memory
        return tensor.layout == torch.strided and tensor.numel() > 0 and memory_of(tensor).nbytes() == 0
    return False


def reachable(*roots: Any) -> dict[int, Any]:
    """Return everything that values lead to, by its ``id``.

    Of Python's modules (``import config``) only the variables are looked into that a function names; iterators, open
    files, locks and what C code hides are not.

    Args:
        *roots: Any values.

    Returns:
        Every object once; the dictionary keeps them alive, so that an ``id`` stays theirs.
    """
    found: dict[int, Any] = {}
    readers: dict[type, _Reader] = {}
    left = list(roots)
    while left:
        value = left.pop()
        kind = type(value)
        if kind not in _PLAIN and id(value) not in found:
            found[id(value)] = value
            with contextlib.suppress(Exception):  # whatever a user's class, or a tensor of a rare kind, may raise
                if kind not in readers:
                    readers[kind] = _reader_of(kind)
                left += readers[kind](value)
    return found


def _reader_of(kind: type) -> _Reader:
    """Return a function that lists what an object of a class leads to: decided once for all objects of the class."""
    if issubclass(kind, type):
        return _parts_of_class
    known = () if foreign(kind) else (kind,)
    is_open = issubclass(kind, (nn.Module, Tensor, types.FunctionType)) or not _closed(kind)
    slots = slot_members(kind) if is_open else []
    held = next((held for base, held in _HELD.items() if issubclass(kind, base)), _nothing)

    def parts(value: Any) -> list[Any]:
        attributes = _attributes(value, slots) if is_open else ()
        return [*known, *attributes, *held(value)]

    return parts


def _parts_of_class(value: type) -> list[Any]:
    return [] if foreign(value) else [*vars(value).values(), *value.__mro__]


def _attributes(value: Any, slots: list[Any]) -> Iterator[Any]:
    with contextlib.suppress(AttributeError):
        yield object.__getattribute__(value, "__dict__")
    for slot in slots:
        with contextlib.suppress(AttributeError):
            yield slot.__get__(value)


def slot_members(kind: type) -> list[Any]:
    """Return what reads and writes the ``__slots__`` of a user's class and its bases."""
    classes = [base for base in kind.__mro__ if not foreign(base)]
    return [a for base in classes for a in vars(base).values() if isinstance(a, types.MemberDescriptorType)]


def _parts_of_tensor(tensor: Tensor) -> Iterator[Any]:
    with contextlib.suppress(Exception):  # sparse and lazy tensors have none
        yield memory_of(tensor)
    if tensor.is_leaf:
        yield tensor.grad
    yield tensor._backward_hooks


def _parts_of_array(array: np.ndarray[Any, Any]) -> Iterable[Any]:
    return array.ravel() if array.dtype.hasobject else (array.base,)


def _parts_of_function(function: types.FunctionType) -> Iterable[Any]:
    seen = (function.__globals__.get(name) for name in global_names(function))
    lent = (vars(module)[name] for module, name in module_variables(function))
    return (*(function.__closure__ or ()), function.__defaults__, function.__kwdefaults__, *seen, *lent)


def _parts_of_builtin(method: types.BuiltinMethodType) -> Iterable[Any]:
    """Of one that is bound, such as ``self.note = self.history.append``."""
    return () if isinstance(method.__self__, types.ModuleType) else (method.__self__,)


def contents(cell: types.CellType) -> tuple[Any, ...]:
    """Return the value of a variable that a function closes over; nothing if it has none yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _parts_of_cache(cache: Any) -> Iterator[Any]:
    """What a cache of functools holds, but not its table, which nobody else may write."""
    for value in gc.get_referents(cache):
        yield from (*value, *value.values()) if type(value) is dict else (value,)


def _nothing(_value: Any) -> Iterable[Any]:
    return ()


_HELD: dict[type, Callable[[Any], Iterable[Any]]] = {
    dict: lambda value: (*dict.values(value), *dict.keys(value)),
    **{base: base.__iter__ for base in (list, tuple, set, frozenset, collections.deque)},
    Tensor: _parts_of_tensor,
    np.ndarray: _parts_of_array,
    torch.jit.ScriptModule: lambda value: (*value.parameters(recurse=False), *value.buffers(recurse=False)),
    types.FunctionType: _parts_of_function,
    types.CellType: contents,
    types.MethodType: lambda method: (method.__self__, method.__func__),
    types.BuiltinMethodType: _parts_of_builtin,
    CACHED: _parts_of_cache,
    functools.partial: lambda value: (value.func, value.args, value.keywords),
    staticmethod: lambda method: (method.__func__,),
    classmethod: lambda method: (method.__func__,),
    property: lambda value: (value.fget, value.fset, value.fdel),
    weakref.ref: lambda reference: (reference(),),
}
"""What objects of a class hold besides their attributes; the first class fits that is a base of theirs."""


def foreign(kind: Any) -> bool:
    """Whether a class or function comes from Python, numpy, torch or this package, and so holds no state of a user."""
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


def module_variables(function: types.FunctionType) -> list[tuple[types.ModuleType, str]]:
    """The variables of other modules that a user's function uses by their module's name, as in ``config.TABLE``."""
    names, known = _names(function.__code__), function.__globals__
    found: list[tuple[types.ModuleType, str]] = []
    left = [] if foreign(function) else [known[name] for name in names if isinstance(known.get(name), types.ModuleType)]
    seen: set[int] = set()
    while left:
        module = left.pop()
        if id(module) in seen or module.__name__.partition(".")[0] in _FOREIGN:
            continue
        seen.add(id(module))
        for name in names & vars(module).keys():
            value = vars(module)[name]
            if isinstance(value, types.ModuleType):
                left.append(value)
            elif not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
                found.append((module, name))
    return found


def _changes(value: Any) -> bool:
    constant = type(value) in _PLAIN or isinstance(value, (types.ModuleType, types.BuiltinFunctionType))
    return not constant and not (isinstance(value, (type, types.FunctionType)) and foreign(value))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> frozenset[str]:
    """All names in a function and those within it, attributes too; finding the global ones among them takes longer."""
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
