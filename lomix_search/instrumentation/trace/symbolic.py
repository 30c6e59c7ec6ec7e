"""torch.fx, carrying the example's value on every proxy, so that branches on shapes, flags and lengths resolve.

Gives the most readable graph: whole ``torch.nn`` layers as single nodes. The graph holds for the example's shapes.
"""

import builtins
import contextlib
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn

from lomix_search.instrumentation.trace.graph import (
    ModuleCall,
    Trace,
    ValuePath,
    after,
    describe,
    leaves,
    reading,
    replay,
)


def symbolic(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Trace with torch.fx; raises whatever the model raises when it meets a proxy.

    Args:
        model: Runs in whatever mode it is in, without gradients.
        args: Positional inputs.
        kwargs: Keyword inputs.

    Returns:
        A trace at the level of ``torch.nn`` layers and functions.
    """
    tracer = ValueTracer(model)
    proxies = tracer.placeholders((args, kwargs))
    given = tuple(tracer.graph.nodes)
    with torch.no_grad(), tracer.watching():
        result = model(*proxies[0], **proxies[1])
    outputs = tuple((path, leaf.node) for path, leaf in leaves(result) if type(leaf) is ValueProxy)
    tracer.graph.output(tuple(node for _, node in outputs))
    calls = tuple(sorted(tracer.calls, key=lambda call: (call.first, call.depth)))
    run = replay(model, tracer.graph)
    return Trace(tracer.graph, run, calls, given, outputs, "fx", notes=tuple(tracer.reads))


class ValueProxy(fx.Proxy):
    """A proxy that knows the value it stands for on the example."""

    tracer: "ValueTracer"

    def __init__(self, node: fx.Node, tracer: "ValueTracer", value: Any) -> None:
        super().__init__(node, tracer)
        self.value = value

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["value"], name)
        if isinstance(found, Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return fx.proxy.Attribute(self, name) if callable(found) else found

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})

    def __bool__(self) -> bool:
        return bool(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __float__(self) -> float:
        return float(self._read())

    def __index__(self) -> int:
        return operator.index(self._read())

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self.value))])  # type: ignore[index]

    def _read(self) -> Any:
        self.tracer.reads.setdefault(reading())
        return self.value


class ValueTracer(fx.Tracer):
    """Runs every operation as it records it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.root = model
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {}
        self.calls: list[ModuleCall] = []
        self.reads: dict[str, None] = {}
        self._paths = {module: path for path, module in model.named_modules()}
        self._open = [""]
        self._counts: Counter[str] = Counter()

    def placeholders(self, value: Any) -> Any:
        """Return the nested value with a proxy for each tensor."""
        if isinstance(value, Tensor):
            node = self.graph.placeholder(f"input_{len(self.graph.nodes)}")
            return self._described(ValueProxy(node, self, value))
        if isinstance(value, dict):
            return {key: self.placeholders(item) for key, item in value.items()}
        return type(value)(self.placeholders(item) for item in value) if type(value) in (list, tuple) else value

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """See every module call while this lasts, and let proxies of tensors pass for tensors where a model asks.

        In Python only, by replacing the builtin: a ``__class__`` on the proxy would deceive torch's C++ too, which
        would read it as a tensor and crash.
        """
        original = nn.Module.__call__

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not any(type(leaf) is ValueProxy for _, leaf in leaves((args, kwargs))):
                return original(module, *args, **kwargs)
            return self._called(module, original, args, kwargs)

        with mock.patch.object(nn.Module, "__call__", called), mock.patch.object(builtins, "isinstance", _isinstance):
            yield

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one layer: those of torch.nn are, unless the user gave one a forward() of its own."""
        return "forward" not in vars(m) and super().is_leaf_module(m, module_qualified_name)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """Record an operation and run it; values that are no tensors come back as they are."""
        values, named = fx.node.map_aggregate((args, kwargs), _value)
        node = self._last = super().create_proxy(kind, target, args, kwargs, *rest, **options).node
        touched = [leaf for _, leaf in leaves((args, kwargs)) if type(leaf) is ValueProxy]
        versions = [proxy.value._version if isinstance(proxy.value, Tensor) else 0 for proxy in touched]
        result = self._run(kind, target, values, named)
        proxy = self._described(ValueProxy(node, self, result))
        self._changed(
            [p for p, v in zip(touched, versions, strict=True) if getattr(p.value, "_version", 0) != v], proxy
        )
        return self._returned(proxy)

    def create_arg(self, a: Any) -> Any:
        """Turn an argument into graph form; a class of tensors, as ``as_subclass`` takes one, is one already."""
        if isinstance(a, type) and issubclass(a, Tensor):
            return a
        return a.node if type(a) is ValueProxy else super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy whose value is not known yet."""
        return ValueProxy(node, self, None)

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return (self.root.get_submodule(target) if kind == "call_module" else target)(*args, **kwargs)

    def _described(self, proxy: ValueProxy) -> ValueProxy:
        proxy.node.meta.update(describe(proxy.value), module=self._open[-1], writes=())
        return proxy

    def _changed(self, changed: list[ValueProxy], by: ValueProxy) -> None:
        """After an in-place operation, the changed proxies stand for new values."""
        for proxy in changed:
            by.node.meta["writes"] += (proxy.node,)
            if proxy.value is by.value:
                proxy.node = by.node
            else:
                proxy.node = self.create_node("call_function", after, (proxy.node, by.node), {})
                self._described(proxy)

    def _returned(self, proxy: ValueProxy) -> Any:
        value = proxy.value
        if isinstance(value, Tensor) or "torch.return_types" in str(type(value)):
            return proxy
        if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
            return type(value)(proxy[i] for i in range(len(value)))  # type: ignore[index]
        if not proxy.node.users and not proxy.node.meta["writes"]:
            self.graph.erase_node(proxy.node)
        return value

    @contextlib.contextmanager
    def _inside(self, path: str) -> Iterator[None]:
        self._open.append(path)
        try:
            yield
        finally:  # a model may catch what one of its modules raises, and go on
            self._open.pop()

    def _called(self, module: nn.Module, original: Any, args: Any, kwargs: Any) -> Any:
        path = self._paths.get(module)
        if path is None:  # made in forward(): nn.Upsample(size)(x)
            return original(module, *args, **kwargs)
        first = len(self.graph.nodes)
        inputs = _nodes((args, kwargs))
        with self._inside(path):
            if path and self.is_leaf_module(module, path):
                result = self.create_proxy("call_module", path, args, kwargs)
                self._last.meta["layer"] = type(module).__name__
            else:
                result = original(module, *args, **kwargs)
        self.calls.append(ModuleCall(path, self._counts[path], inputs, _nodes(result), first, len(self.graph.nodes)))
        self._counts[path] += 1
        return result


def _isinstance(value: Any, kind: Any, plain: Callable[[Any, Any], bool] = isinstance) -> bool:
    return plain(value, kind) or (type(value) is ValueProxy and plain(value.value, Tensor) and plain(value.value, kind))


def _value(leaf: Any) -> Any:
    return leaf.value if type(leaf) is ValueProxy else leaf


def _nodes(value: Any) -> tuple[tuple[ValuePath, fx.Node], ...]:
    return tuple((path, leaf.node) for path, leaf in leaves(value) if type(leaf) is ValueProxy)
