"""Hooks on the modules of a network: they keep the tensors that taps ask for, for each forward pass on its own."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lomix_search.instrumentation.stages import Tap
from lomix_search.instrumentation.trace import is_compiled, pick, unwrap


class ForwardPass:
    """What hooks keep of one forward pass; no other pass, whatever thread, replica or copy it runs in, sees it.

    Args:
        scope: Whose pass it is.
    """

    def __init__(self, scope: "HookScope") -> None:
        self.scope = scope
        self.kept: dict[int, Tensor] = {}
        self.counts: Counter[tuple[str, str]] = Counter()


class _Running(threading.local):
    """The passes that this thread is in, the innermost last; made at once, so that compiled code sees no change."""

    def __init__(self) -> None:
        self.calls: list[ForwardPass] = []


_RUNNING = _Running()


class HookScope:
    """Ties hooks to the forward passes that they serve; a copy of a network gets one of its own, with its hooks."""

    def __init__(self) -> None:
        self.hooked = False  # whether there are hooks; torch.compile reads this, and could not read their handles

    def keep(self, run: Callable[[], Any]) -> tuple[Any, dict[int, Tensor]]:
        """Run a forward pass.

        Args:
            run: Calls the model.

        Returns:
            What it returned, and the tensors that hooks kept, by the number of their stage.
        """
        call = self.begin()
        try:
            return run(), call.kept
        finally:
            self.end(call)

    def begin(self) -> ForwardPass:
        """Begin a forward pass of this thread: what is tapped from now on is kept in it."""
        call = ForwardPass(self)
        _RUNNING.calls.append(call)
        return call

    def end(self, call: ForwardPass) -> None:
        """End a pass, and those that began within it and were left open by an exception."""
        running = _RUNNING.calls
        if call in running:
            del running[running.index(call) :]

    def call(self) -> ForwardPass | None:
        """Return the pass of this scope that the thread is in, if it is in one."""
        for call in reversed(_RUNNING.calls):  # no generator: where a network breaks the graph, none can be compiled
            if call.scope is self:
                return call
        return None


class TapHook:
    """A hook on one module that keeps the tensors of its stages.

    Args:
        scope: Whose passes it serves.
        side: "input" or "output".
        taps: Stage number → tap, all on this module and side.
    """

    def __init__(self, scope: HookScope, side: str, taps: dict[int, Tap]) -> None:
        self.scope, self.side, self.taps = scope, side, taps
        self.key = (next(iter(taps.values())).path, side)

    def __call__(self, _module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        """Keep what a tap asks for in this call."""
        call = self.scope.call()
        if call is None:
            return
        count = call.counts[self.key]
        call.counts[self.key] = count + 1
        for number, tap in self.taps.items():
            if tap.call == count:
                try:
                    tensor = pick((args, kwargs) if self.side == "input" else output, tap.place)
                except (LookupError, TypeError, AttributeError):
                    continue  # nothing sits there in this pass, which is said where it is missed
                if isinstance(tensor, Tensor):
                    call.kept[number] = tensor.clone() if tap.copy else tensor


def attach_hooks(model: nn.Module, scope: HookScope, taps: Mapping[int, Tap], handles: list[Any]) -> None:
    """Put hooks on the modules of a model: all of them or, if it is interrupted, none.

    Args:
        model: The user's network.
        scope: Whose passes they serve.
        taps: What to keep, by number. Where the model has no such module any more, nothing is kept.
        handles: Gets one for each hook; their ``remove()`` takes the hooks off again.
    """
    grouped: dict[tuple[str, str], dict[int, Tap]] = {}
    for number, tap in taps.items():
        grouped.setdefault((tap.path, tap.side), {})[number] = tap
    try:
        for (path, side), group in grouped.items():
            if (module := module_at(model, path)) is not None:
                register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
                handles.append(register(TapHook(scope, side, group), with_kwargs=True))
    except BaseException:
        detach_hooks(model, scope)
        raise


def detach_hooks(model: nn.Module, scope: HookScope) -> None:
    """Take all hooks of a scope off a model, those too whose handles an interruption lost.

    Args:
        model: The user's network.
        scope: Whose hooks to take off.
    """
    for module in unwrap(model).modules():
        before = module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs
        after = module._forward_hooks, module._forward_hooks_with_kwargs, module._forward_hooks_always_called
        for hooks, *flags in (before, after):
            for key in [key for key, one in hooks.items() if isinstance(one, TapHook) and one.scope is scope]:
                for flag in flags:
                    flag.pop(key, None)
                hooks.pop(key, None)  # last: an interruption before it leaves what another call finds again


def run_tapped(model: nn.Module, taps: Mapping[int, Tap], args: Any, kwargs: Any) -> tuple[Any, dict[int, Tensor]]:
    """Run a model once, in the mode it is in, with hooks for this pass alone.

    Args:
        model: The user's network.
        taps: What to keep, by number.
        args: What the model takes.
        kwargs: What the model takes by name.

    Returns:
        What it returned, and the tensors by number; those that were not reached are missing.
    """
    scope, handles = HookScope(), list[Any]()
    try:
        attach_hooks(model, scope, taps, handles)
        return scope.keep(lambda: eager_of(model)(*args, **kwargs))
    finally:
        for handle in handles:  # not detach_hooks(): a module may be replaced in the pass, and keeps its hook
            handle.remove()


def eager_of(model: nn.Module) -> nn.Module:
    """Return what runs hooks that were just put on: compiled code would skip them."""
    return model._orig_mod if is_compiled(model) else model


def module_at(model: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a dotted path; None if the model has none there."""
    try:
        return unwrap(model).get_submodule(path)
    except AttributeError:
        return None
