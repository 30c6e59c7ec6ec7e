"""The recorded run: note every operation at the dispatcher while the model runs once, and every module call by hooks.

Reads whatever eager PyTorch can run, because it only watches.
"""

import contextlib
import sys
from collections import Counter
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from lomix_search.instrumentation.trace.graph import (
    ModuleCall,
    Trace,
    ValuePath,
    after,
    describe,
    reading,
    replay,
    tensors,
)
from lomix_search.instrumentation.trace.lent import written_to
from lomix_search.instrumentation.trace.reachable import is_freed, memory_of

_READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
}


def record(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Run the model once and return what happened; parameters, buffers and RNG change as the run changes them.

    Args:
        model: Runs in whatever mode it is in, without gradients.
        args: Positional inputs.
        kwargs: Keyword inputs.

    Returns:
        A trace at the level of the ATen operations that forward() calls, views and in-place changes included.
    """
    recorder = Recorder(model)
    given = recorder.placeholders((args, kwargs))
    hooks: list[Any] = []
    try:
        for path, module in model.named_modules():
            hooks += recorder.watch(path, module)
        with torch.no_grad(), _WholeOperations(), recorder:
            result = model(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = tuple((path, recorder.node_of(leaf)) for path, leaf in tensors(result))
    recorder.graph.output(tuple(node for _, node in outputs))
    calls = tuple(sorted(recorder.calls, key=lambda call: (call.first, call.depth)))
    run = replay(recorder.constants, recorder.graph)
    return Trace(recorder.graph, run, calls, given, outputs, "record", notes=tuple(recorder.reads))


class _WholeOperations(TorchFunctionMode):
    """Lets the dispatcher show operations as they are called, while no gradients are asked for.

    Autograd comes before the dispatcher's modes and takes many operations apart: of a layer on channels that are last
    they would see a table of rows, of a norm several values, and neither is a map. A network that asks for gradients
    in forward() gets them.
    """

    def __enter__(self) -> "_WholeOperations":
        self.below = contextlib.ExitStack()
        self.below.enter_context(torch._C._AutoDispatchBelowAutograd())
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.below.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call any function as it is; where it switches gradients on or off, leave autograd's place or take it."""
        if func is torch._C._set_grad_enabled:
            self.below.close()
        result = func(*args, **(kwargs or {}))
        if func is torch._C._set_grad_enabled and not torch.is_grad_enabled():
            self.below.enter_context(torch._C._AutoDispatchBelowAutograd())
        return result


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns every operation under it into an fx node. Holds tensors weakly, so memory is that of the run itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.constants = nn.Module()
        self.calls: list[ModuleCall] = []
        self.reads: dict[str, None] = {}
        self._nodes: Any = WeakTensorKeyDictionary()
        self._memory: dict[int, _Memory] = {}
        self._names: Any = WeakTensorKeyDictionary(
            {tensor: name for named in (model.named_buffers(), model.named_parameters()) for name, tensor in named}
        )
        self._counts: Counter[str] = Counter()
        self._open: list[tuple[str, Any, int, BaseException | None]] = []
        self._position = 0

    def placeholders(self, value: Any) -> tuple[fx.Node, ...]:
        """Make the inputs of the graph."""
        made = []
        for i, (_, tensor) in enumerate(tensors(value)):
            made.append(self._made(self.graph.placeholder(f"input_{i}"), tensor))
        return tuple(made)

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Return the node that stands for a tensor.

        One never seen before is another view of what was seen, made without an operation (as another class, or
        ``.data``), or else a constant.
        """
        if tensor not in self._nodes and not self._seen_otherwise(tensor):
            name = self._names.get(tensor, f"constant_{self._position}").replace(".", "__")
            setattr(self.constants, name, tensor.detach())
            self._made(self.graph.create_node("get_attr", name, name=name), tensor)
        return self._nodes[tensor]  # type: ignore[no-any-return]

    def _seen_otherwise(self, tensor: Tensor) -> bool:
        """Give a tensor the node of what lies in the same memory in the same form, if there is such a one."""
        memory = self._memory_of(tensor)
        known = memory and memory.forms.get(_form(tensor))
        if not memory or not known:
            return False
        node, written = known
        if memory.written is not written:  # since then, by a view of it
            old, node = node, self.graph.call_function(after, (node, memory.written))
            node.meta.update(old.meta, writes=())
            self._position += 1
        self._note(tensor, node)
        return True

    def _memory_of(self, tensor: Tensor) -> "_Memory | None":
        """Return what is known of a tensor's memory; None where it has none of its own."""
        if tensor.layout != torch.strided:
            return None
        storage = memory_of(tensor)
        return self._memory.setdefault(storage._cdata, _Memory(StorageWeakRef(storage)))  # type: ignore[no-untyped-call]

    def _note(self, tensor: Tensor, node: fx.Node) -> None:
        """Note the node that stands for a tensor from now on."""
        self._nodes[tensor] = node
        memory = self._memory_of(tensor)
        if memory is not None:
            memory.aliases.append(TensorWeakRef(tensor))
            memory.forms[_form(tensor)] = node, memory.written

    def watch(self, path: str, module: nn.Module) -> list[Any]:
        """Note the calls of one module; returns the hooks to remove."""

        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs = tuple((place, self.node_of(leaf)) for place, leaf in tensors((args, kwargs)))
            self._open.append((path, inputs, self._position, sys.exception()))

        def done(_module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            _, inputs, first, handled = self._open.pop()
            if sys.exception() is not handled:  # this call ends in an exception, which the model may catch
                return
            for _, leaf in tensors((args, kwargs)):
                if is_freed(leaf):  # an invertible layer makes it again in the backward pass
                    given = self.node_of(leaf)
                    self._made(self.graph.call_function(is_freed, (given,)), None).meta["writes"] = (given,)
            outputs: tuple[tuple[ValuePath, fx.Node], ...]
            outputs = tuple((place, self.node_of(leaf)) for place, leaf in tensors(result))
            self.calls.append(ModuleCall(path, self._counts[path], inputs, outputs, first, self._position))
            self._counts[path] += 1

        return [
            module.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
            module.register_forward_hook(done, with_kwargs=True, always_call=True),
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        arguments = pytree.tree_map(self._argument, (args, kwargs))
        result = func(*args, **kwargs)
        if func in _READS:
            self.reads.setdefault(reading())
        if any(result is leaf for leaf in given) and not any(True for _ in written_to(func, args, kwargs)):
            return result  # contiguous() of what is so already: it stays the value that it was
        if given or any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)):
            node = self.graph.call_function(func, *arguments)
            self._made(node, result)
            self._changed(func, node, args, kwargs)
        return result

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.node_of(leaf)
        return None if isinstance(leaf, torch.Generator) else leaf

    def _made(self, node: fx.Node, result: Any) -> fx.Node:
        self._position += 1
        node.meta.update(describe(result), module=self._open[-1][0] if self._open else "", writes=())
        if isinstance(result, Tensor):
            self._note(result, node)
        elif isinstance(result, (tuple, list)):
            for i, item in enumerate(result):
                if isinstance(item, Tensor):
                    self._made(self.graph.call_function(_item, (node, i)), item)
        return node

    def _changed(self, func: Any, node: fx.Node, args: Any, kwargs: Any) -> None:
        """After an in-place operation, the changed tensor and all that shares its memory stand for new values."""
        for changed in written_to(func, args, kwargs):
            node.meta["writes"] += tuple(self._stale(changed, node))

    def _stale(self, changed: Tensor, node: fx.Node) -> list[fx.Node]:
        memory, old = self._memory_of(changed), list[fx.Node]()
        if memory is None:
            return old
        memory.written = node
        for reference in memory.aliases:
            alias = reference()
            if alias is None:
                continue
            if self._nodes.get(alias) is not node:
                old.append(self._nodes[alias])
                new = self.graph.call_function(after, (old[-1], node))
                new.meta.update(describe(alias), module=node.meta["module"], writes=())
                self._position += 1
                self._nodes[alias] = new
            memory.forms[_form(alias)] = self._nodes[alias], node
        return old


class _Memory:
    """What is known of a piece of memory while the run holds it.

    Its weak reference keeps the address from being given to another piece.
    """

    def __init__(self, storage: StorageWeakRef) -> None:
        self.storage = storage
        self.aliases: list[Any] = []  # weak references to the tensors that lie in it
        self.forms: dict[Any, tuple[fx.Node, fx.Node | None]] = {}  # node of a form, and the write it knows of
        self.written: fx.Node | None = None  # what wrote to it last


def _form(tensor: Tensor) -> Any:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _item(values: Any, index: int) -> Any:
    return values[index]
