"""Parameters that a twin reads in the user's own memory, as long as nothing writes to them.

A network seldom writes to its parameters in ``forward()``, and they are what is large: so a twin gets parameters of its
own, with the memory of the user's. What would write there is refused before it does; the twin is then made anew, with
memory of its own.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from lomix_search.instrumentation.trace.reachable import memory_of

_UNSEEN = (
    *((Tensor, name) for name in ("numpy", "untyped_storage", "data_ptr", "__dlpack__")),
    (threading.Thread, "start"),
)
"""What gives away memory that may then be written unseen by torch, or lets others write."""

_PLAIN = (Tensor, nn.Parameter)


class Written(BaseException):
    """A twin was about to write to memory that it is lent. No ``Exception``: a network may catch these and go on."""


class Lent(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The memory of a network's parameters and their gradients; while it is entered, this thread may not write to it.

    Not lent is what a buffer, an array of numpy or a tensor of another class lies in too, and what is not strided.

    Args:
        led_to: What the network leads to, by its ``id``.

    Attributes:
        refused: Whether something was about to write.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler for that, which takes seconds and a hundred MiB."""
        return False

    def __init__(self, led_to: dict[int, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refused = False
        self._thread = threading.get_ident()
        self._left = contextlib.ExitStack()
        tensors = [value for value in led_to.values() if isinstance(value, Tensor)]
        parameters = [tensor for tensor in tensors if type(tensor) is nn.Parameter]
        found = map(_memory_of, (*parameters, *(p.grad for p in parameters if type(p.grad) is Tensor)))
        self._memory = {memory._cdata: memory for memory in found if memory is not None}
        buffers = {id(b) for m in led_to.values() if isinstance(m, nn.Module) for b in m._buffers.values()}
        for tensor in tensors:
            if id(tensor) in buffers or type(tensor) not in _PLAIN or tensor.is_inference():
                self._memory.pop(getattr(_memory_of(tensor), "_cdata", None), None)
        for array in led_to.values():
            if isinstance(array, np.ndarray):
                self._drop(array.__array_interface__["data"][0])

    def _drop(self, address: int) -> None:
        for key, memory in [*self._memory.items()]:
            if memory.data_ptr() <= address < memory.data_ptr() + memory.nbytes():
                del self._memory[key]

    def holds(self, value: Any) -> bool:
        """Whether a tensor lies in this memory, or a storage is a part of it."""
        memory = _memory_of(value) if isinstance(value, Tensor) else value
        return isinstance(memory, torch.UntypedStorage) and memory._cdata in self._memory

    def others(self, led_to: dict[int, Any]) -> dict[int, Tensor]:
        """Return for each tensor in this memory, by its ``id``, another one that lies there: a leaf, as a copy is."""
        return {key: _other(value) for key, value in led_to.items() if isinstance(value, Tensor) and self.holds(value)}

    def __enter__(self) -> "Lent":
        super().__enter__()  # type: ignore[no-untyped-call]
        for owner, name in _UNSEEN:
            self._left.enter_context(mock.patch.object(owner, name, self._asking(getattr(owner, name))))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._left.close()
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(map(self.holds, (*written_to(func, args, kwargs), *_statistics(func, args, kwargs)))):
            self._refuse()
        return func(*args, **kwargs)

    def _asking(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def asked(owner: Any, *args: Any, **kwargs: Any) -> Any:
            mine = threading.get_ident() == self._thread and not _PAUSED.get(self._thread)
            works = isinstance(owner, threading.Thread) and not owner.daemon  # those of progress bars are daemons
            if mine and (works or self.holds(owner)):
                self._refuse()
            return plain(owner, *args, **kwargs)

        return asked

    def _refuse(self) -> None:
        self.refused = True
        raise Written


_PAUSED: dict[int, bool] = {}


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Let operations be as if no memory were lent: for what works on stand-ins of tensors, as torch.export does."""
    thread = threading.get_ident()
    _PAUSED[thread] = True
    try:
        with _disable_current_modes():
            yield
    finally:
        del _PAUSED[thread]


def written_to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[Tensor]:
    """Return the tensors that an operation at the dispatcher writes to, as its schema says."""
    schema = getattr(func, "_schema", None)
    if schema is None:  # an operation of higher order: those within it are seen
        return ()
    named = {**dict(zip((argument.name for argument in schema.arguments), args, strict=False)), **kwargs}
    changed = [named.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return (leaf for leaf in pytree.tree_leaves(changed) if isinstance(leaf, Tensor))


def _statistics(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[Any]:
    """Return what a batch norm may write to, which the schemas of some do not say."""
    schema = getattr(func, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    if "running_mean" not in names:
        return ()
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return (named.get("running_mean"), named.get("running_var"))


def _memory_of(tensor: Tensor) -> torch.UntypedStorage | None:
    with contextlib.suppress(Exception):  # tensors of rare kinds have none
        return memory_of(tensor) if tensor.layout == torch.strided else None
    return None


def _other(tensor: Tensor) -> Tensor:
    made = tensor.data  # with a version of its own, unlike what detach() gives
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad and tensor.is_leaf)
