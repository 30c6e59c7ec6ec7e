"""A snapshot of the state of objects, which is put back after the twin of a model has run.

It is taken of the objects that the user's model and its twin both lead to. A deep copy shares some things with its
original: functions and what they close over, classes, objects that return themselves as their copy. Some models cannot
be copied at all. Only objects that have changed are written.
"""

import collections
import contextlib
import logging
import random
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from lomix_search.instrumentation.trace.reachable import (
    CACHED,
    contents,
    foreign,
    global_names,
    memory_of,
    module_variables,
    slot_members,
)
from lomix_search.utils.random import note_generator

_Undo = Callable[[], Any]

_MISSING = object()


class Snapshot:
    """The state of some objects as it is now.

    Args:
        objects: As :func:`~lomix_search.instrumentation.trace.reachable.reachable` finds them; of each, only its own
            state is kept.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._undo: list[_Undo] = []
        for value in objects:
            with contextlib.suppress(Exception):  # whatever a user's class, or a tensor of a rare kind, may raise
                self._undo += _keepers(value)

    def put_back(self) -> None:
        """Put everything back that has changed; harmless a second time, so an interrupted call can be made again."""
        with torch.no_grad():
            for undo in self._undo:
                try:
                    undo()
                except Exception as error:  # the others must still be put back
                    logging.getLogger(__name__).debug("not put back: %s", error)


def _keepers(value: Any) -> Iterator[_Undo]:
    for slot in slot_members(type(value)):
        yield _keep_slot(value, slot)
    keep = next((keep for kind, keep in _KEEP.items() if issubclass(type(value), kind)), None)
    if keep is not None:
        yield keep(value)


def _keep_dict(value: dict[Any, Any]) -> _Undo:
    base: Any = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
    before = list(base.items(value))

    def undo() -> None:
        if not _same_items(before, list(base.items(value))):
            base.clear(value)
            for key, item in before:
                base.__setitem__(value, key, item)

    return undo


def _same_items(before: list[tuple[Any, Any]], now: list[tuple[Any, Any]]) -> bool:
    same = (key is k and item is i for (key, item), (k, i) in zip(before, now, strict=False))
    return len(before) == len(now) and all(same)


def _keep_list(value: list[Any]) -> _Undo:
    before = list.copy(value)

    def undo() -> None:
        if not _same(before, list.copy(value)):
            list.__setitem__(value, slice(None), before)

    return undo


def _keep_deque(value: collections.deque[Any]) -> _Undo:
    base: Any = collections.deque
    before = list(base.__iter__(value))

    def undo() -> None:
        if not _same(before, list(base.__iter__(value))):
            base.clear(value)
            base.extend(value, before)

    return undo


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=False))


def _keep_set(value: set[Any]) -> _Undo:
    before = set.copy(value)

    def undo() -> None:
        if before != value:
            set.clear(value)
            set.update(value, before)

    return undo


def _keep_bytes(value: bytearray) -> _Undo:
    before = bytes(value)

    def undo() -> None:
        if value != before:
            value[:] = before

    return undo


def _keep_array(value: np.ndarray[Any, Any]) -> _Undo:
    before, writeable = value.copy(), value.flags.writeable

    def undo() -> None:
        if value.shape != before.shape:
            value.resize(before.shape, refcheck=False)
        if value.tobytes() != before.tobytes():
            value.flags.writeable = True
            np.copyto(value, before)
        if value.flags.writeable != writeable:
            value.flags.writeable = writeable

    return undo


def _keep_storage(value: torch.UntypedStorage) -> _Undo:
    """Keep the bytes of a tensor's memory, once for all its views. Memory that grew is not cut: views may use it."""

    def raw() -> Tensor:
        return torch.empty(0, dtype=torch.uint8, device=value.device).set_(value)[:size]

    size = value.nbytes()
    before = None if value.device.type == "meta" else raw().clone()

    def undo() -> None:
        if value.nbytes() < size:
            value.resize_(size)
        if before is not None and not torch.equal(raw(), before):  # bit by bit; what is the same may be read-only
            raw().copy_(before)

    return undo


def _keep_tensor(value: Tensor) -> _Undo:
    """Keep which memory a tensor has, its form, flags, gradient and version; the bytes are kept with their storage."""
    if isinstance(value, UninitializedTensorMixin):
        return _keep_lazy(value)
    if value.layout != torch.strided:
        return _keep_sparse(value)
    kind, leaf, hooks = type(value), value.is_leaf, value._backward_hooks
    flag, grad, place, versions = value.requires_grad, value.grad if leaf else None, value.detach(), None
    if not value.is_inference():
        versions = torch.autograd._unsafe_preserve_version_counter(value)  # type: ignore[attr-defined]

    def undo() -> None:
        if leaf and value.grad_fn is not None:
            value.detach_()
        if _place(value) != _place(place):
            value.data = place
        if type(value) is not kind:
            value.__class__ = kind
        if leaf and value.requires_grad != flag:
            value.requires_grad_(flag)
        if leaf and value.grad is not grad:
            value.grad = grad
        if value._backward_hooks is not hooks:
            value._backward_hooks = hooks
        if versions is not None:
            versions.__exit__()

    return undo


def _place(tensor: Tensor) -> tuple[Any, ...]:
    form = tensor.dtype, tensor.device, tensor.shape, tensor.stride(), tensor.storage_offset()
    return (*form, id(memory_of(tensor)))


def _keep_sparse(value: Tensor) -> _Undo:
    place, before = value.detach(), value.detach().clone()
    return lambda: place.copy_(before)


def _keep_lazy(value: Any) -> _Undo:
    """Keep a parameter or buffer that gets its shape, and another class, in the first pass."""
    kind, place, flag = type(value), value.data, value.requires_grad

    def undo() -> None:
        if type(value) is not kind:
            value.data = place
            value.__class__ = kind
            value.requires_grad_(flag)

    return undo


def _keep_module(value: nn.Module) -> _Undo:
    """Keep the class, which lazy and parametrised layers change."""
    kind = type(value)

    def undo() -> None:
        if type(value) is not kind:
            value.__class__ = kind

    return undo


def _keep_cell(value: types.CellType) -> _Undo:
    before = contents(value)

    def undo() -> None:
        if before and not _same([*before], [*contents(value)]):
            value.cell_contents = before[0]

    return undo


def _keep_slot(value: Any, slot: Any) -> _Undo:
    def read() -> Any:
        try:
            return slot.__get__(value)
        except AttributeError:
            return _MISSING

    before = read()

    def undo() -> None:
        now = read()
        if before is _MISSING and now is not _MISSING:
            slot.__delete__(value)
        elif now is not before:
            slot.__set__(value, before)

    return undo


def _keep_function(value: types.FunctionType) -> _Undo:
    """Keep its default values and the global variables that it uses, of its own module and of others."""
    code, defaults, named = value.__code__, value.__defaults__, value.__kwdefaults__
    known = value.__globals__
    before = {name: known.get(name, _MISSING) for name in global_names(value)}
    lent = [(vars(module), name, vars(module)[name]) for module, name in module_variables(value)]

    def undo() -> None:
        if (value.__code__, value.__defaults__, value.__kwdefaults__) != (code, defaults, named):
            value.__code__, value.__defaults__, value.__kwdefaults__ = code, defaults, named
        for name, item in before.items():
            if item is _MISSING:
                known.pop(name, None)
            elif known.get(name, _MISSING) is not item:
                known[name] = item
        for variables, name, item in lent:
            if variables.get(name, _MISSING) is not item:
                variables[name] = item

    return undo


def _keep_class(value: type) -> _Undo:
    before = _members(value)

    def undo() -> None:
        now = _members(value)
        for name in now.keys() - before.keys():
            type.__delattr__(value, name)
        for name, item in before.items():
            if now.get(name, _MISSING) is not item:
                type.__setattr__(value, name, item)

    return undo


def _members(value: type) -> dict[str, Any]:
    return {} if foreign(value) else {k: v for k, v in vars(value).items() if not k.startswith("__")}


def _keep_cache(value: Any) -> _Undo:
    """Empty a cache of functools again that was empty: of one in use, single entries cannot be taken out."""
    before = value.cache_info().currsize

    def undo() -> None:
        if before == 0 and value.cache_info().currsize:
            value.cache_clear()

    return undo


_KEEP: dict[type, Callable[[Any], _Undo]] = {
    Tensor: _keep_tensor,
    torch.UntypedStorage: _keep_storage,
    dict: _keep_dict,
    list: _keep_list,
    set: _keep_set,
    collections.deque: _keep_deque,
    bytearray: _keep_bytes,
    np.ndarray: _keep_array,
    nn.Module: _keep_module,
    torch.Generator: note_generator,
    random.Random: note_generator,
    np.random.RandomState: note_generator,
    np.random.Generator: note_generator,
    types.CellType: _keep_cell,
    types.FunctionType: _keep_function,
    type: _keep_class,
    CACHED: _keep_cache,
}
