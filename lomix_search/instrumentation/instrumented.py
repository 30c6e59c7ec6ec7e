"""Stages → an instrumented network: heads on the stages in training, the user's own network otherwise."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import StageError
from lomix_search.instrumentation.heads import make_heads
from lomix_search.instrumentation.hooks import (
    HookScope,
    TapHook,
    attach_hooks,
    detach_hooks,
    eager_of,
    module_at,
    run_tapped,
)
from lomix_search.instrumentation.logits import LOGITS, logits_in
from lomix_search.instrumentation.own_keys import bring_together, set_apart
from lomix_search.instrumentation.stages import Stages, Tap, find_stages
from lomix_search.instrumentation.stages.read_logits import returned_map, undo_ending
from lomix_search.instrumentation.trace import ALONE, bare_tensor, is_compiled, is_freed, unwrap

_OWN = frozenset(("model", "heads", "stages", "num_classes", "training"))
"""What is this object's own, whatever the model has of the name."""

_CHANGING = threading.Lock()
"""Held while hooks are put on and taken off, so that two threads never leave two sets."""


def instrument(
    model: nn.Module, example: Any, num_classes: int | None = None, stages: Sequence[str] | None = None
) -> "Instrumented":
    """Give any segmentation network a logits map for each decoder stage in training.

    The model is not changed except by hooks, which :meth:`Instrumented.strip` removes; its weights, mode, buffers and
    the random generators stay as they were.

    Args:
        model: The user's network.
        example: What the model is called with: a tensor, a tuple of inputs, or a mapping of keyword inputs; moved to
            the model's device and floating type. Values do not matter, shapes do.
        num_classes: Channels of the logits; None reads them from the model's output.
        stages: Module paths to tap instead of what is detected; ``in:path`` for a module's input, ``path#1`` for its
            second call, ``path[1]['key']`` for a place in what it returns.

    Returns:
        The network to train; ``print(net.stages)`` shows what was found.

    Raises:
        TraceError: the model does not run on the example or cannot be read.
        StageError: it has fewer than two stages, returns no map of logits, or is instrumented already.

    Example:
        >>> net = instrument(unet, torch.zeros(1, 1, 64, 64))  # doctest: +SKIP
        >>> [tuple(logits.shape) for logits in net(images)]  # doctest: +SKIP
        [(4, 3, 16, 16), (4, 3, 32, 32), (4, 3, 64, 64)]
    """
    if isinstance(model, Instrumented):
        raise StageError(
            f"this {model.stages.network} is instrumented already.",
            seen=", ".join(stage.name for stage in model.stages),
            hint="train it as it is, or instrument(net.strip(), example) to begin anew",
        )
    with ALONE:  # another thread may be reading this very model
        found = find_stages(model, example, num_classes, stages)
        heads = make_heads(found.stages, found.num_classes, found.tensors)
        if is_compiled(model):
            warnings.warn(
                f"{found.stages.network} is compiled; with heads it trains uncompiled, as compiled code skips hooks.\n"
                "  Try:  net = torch.compile(lomix.instrument(model, example))  # of the bare model: trains compiled",
                stacklevel=2,
            )
        return Instrumented(model, found.stages, found.num_classes, heads)


class Instrumented(nn.Module):
    """The user's network with heads.

    In train mode it returns a list of logits, coarse to fine, each B × C × its own size; the last is the model's own
    output, with an axis for its one class if it came without. In eval mode it returns exactly what the model returns.

    It is a good guest: public attributes of the model are reached and set through it (``net.decoder``); its own are
    ``model``, ``heads``, ``stages``, ``num_classes`` and its methods. ``state_dict`` has the model's keys, the heads
    lie beside them, so that ``net.load_state_dict(bare)`` and ``bare.load_state_dict(net.state_dict())`` carry weights
    in both directions, strictly; see :mod:`~lomix_search.instrumentation.own_keys`.

    Args:
        model: The user's network; becomes ``net.model``.
        stages: What was found in it.
        num_classes: Channels of the logits.
        heads: One for each stage without logits of its own, by number.
    """

    def __init__(self, model: nn.Module, stages: Stages, num_classes: int, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.model = model
        self.heads = heads
        self.stages = stages
        self.num_classes = num_classes
        self._scope = HookScope()
        self._handles: list[Any] = []
        self._stripped = False
        try:
            self.training = model.training  # not train(): parts that the user froze stay as they are
        except BaseException:  # nobody gets this object, so nobody could take its hooks off again
            detach_hooks(model, self._scope)
            raise

    def __getattr__(self, name: str) -> Any:
        """Return the model's attribute where this object has none of the name.

        Raises:
            AttributeError: neither has it.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            model = self.__dict__.get("_modules", {}).get("model")
            if name.startswith("_") or model is None or not hasattr(model, name):
                raise
            return getattr(model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Let the hooks follow the mode, whoever sets it: ``train()``, or a loop that sets ``.training`` itself.

        What the model alone has is set there: ``net.deep_supervision = False`` would change nothing here.
        """
        if not name.startswith("_") and name not in _OWN and not self._has(name) and hasattr(self.model, name):
            setattr(self.model, name, value)
            return
        super().__setattr__(name, value)
        if name == "training" and "_stripped" in self.__dict__:
            self._sync()

    def _has(self, name: str) -> bool:
        return name in self.__dict__ or name in self._modules or hasattr(type(self), name)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return the model's state by the model's own keys; the heads lie in its metadata."""
        state = super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        set_apart(state, args[1] if len(args) > 1 else prefix)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, noted: Any, *rest: Any) -> None:
        bring_together(state_dict, prefix, noted, self.model.state_dict(), self.heads.state_dict())
        super()._load_from_state_dict(state_dict, prefix, noted, *rest)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network.

        Args:
            *args: What the model takes.
            **kwargs: What the model takes by name.

        Returns:
            Logits, coarse to fine, in train mode; what the model returns in eval mode.

        Raises:
            StageError: the network was stripped, or a stage was not reached in this pass.
        """
        self._check()
        if not self.training:
            return self.model(*args, **kwargs)
        if not self._scope.hooked and self._taps():  # the mode was set past this object, as on a shallow copy
            with _CHANGING:
                if not self._scope.hooked:
                    self._attach()
        output, kept = self._scope.keep(lambda: eager_of(self.model)(*args, **kwargs))
        return self.maps_of(output, kept)

    def maps_of(self, output: Any, kept: dict[int, Tensor]) -> list[Tensor]:
        """Make the maps of a pass in train mode that somebody else ran, as a :class:`~.tape.Tape` does.

        Args:
            output: What the model returned.
            kept: The tensors that the hooks kept.

        Returns:
            Logits, coarse to fine.

        Raises:
            StageError: a stage was not reached in that pass.
        """
        *coarse, finest = (self._logits(i, kept, output) for i in range(len(self.stages)))
        return [*(_with_frames(logits, finest) for logits in coarse), finest]

    def logits(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the network and return its finest map alone, in eval mode too, whatever the user's model returns.

        Args:
            *args: What the model takes.
            **kwargs: What the model takes by name.

        Returns:
            Logits B × C × size; those that come before a final softmax or sigmoid.

        Raises:
            StageError: the network was stripped, or returned something else than on the example.
        """
        self._check()
        if self.training:
            finest: Tensor = self(*args, **kwargs)[-1]
            return finest
        return logits_in(self.model, self.stages.returned, args, kwargs)

    def stage_logits(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Run the model, in the mode it is in, and return the logits of every stage, coarse to fine.

        Args:
            *args: What the model takes.
            **kwargs: What the model takes by name.

        Returns:
            Logits, each B × C × its own size.

        Raises:
            StageError: the network was stripped, a stage was not reached, or the model returns the maps of its stages
                in train mode alone.
        """
        self._check()
        output, kept = run_tapped(self.model, self._taps(), args, kwargs)
        return self.maps_of(output, kept)

    def stage_features(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Run the model, in the mode it is in, and return the tensor of each stage, coarse to fine.

        Args:
            *args: What the model takes.
            **kwargs: What the model takes by name.

        Returns:
            One tensor for each of ``net.stages``.

        Raises:
            StageError: the network was stripped, or a stage was not reached in this pass.
        """
        self._check()
        _, kept = run_tapped(self.model, {i: stage.tap for i, stage in enumerate(self.stages)}, args, kwargs)
        return [self._kept(i, kept) for i in range(len(self.stages))]

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the heads, which the user's model does not have."""
        return self.heads.parameters()

    def strip(self) -> nn.Module:
        """Remove the hooks and give the user's own model back; this object cannot be used any more.

        Returns:
            The very object that was instrumented, with the weights it has now.
        """
        with _CHANGING:
            self._detach()
        self._stripped = True
        return self.model

    def _sync(self) -> None:
        """Hooks exist in train mode only, and only where a head needs them: eval mode costs nothing."""
        with _CHANGING:
            self._detach()
            if self.training and not self._stripped:
                self._attach()

    def _attach(self) -> None:
        attach_hooks(self.model, self._scope, self._taps(), self._handles)
        self._scope.hooked = bool(self._handles)

    def _taps(self) -> dict[int, Tap]:
        """Return what hooks keep in train mode, by number."""
        taps = {i: stage.tap for i, stage in enumerate(self.stages) if stage.own is None}
        logits = self.stages[-1].logits
        return taps if logits is None else {**taps, LOGITS: logits}

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._scope.hooked = False

    def _logits(self, number: int, kept: dict[int, Tensor], output: Any) -> Tensor:
        stage = self.stages[number]
        if stage.logits is not None:
            return undo_ending(self._kept(LOGITS, kept), stage.ends)
        if stage.own is not None:
            rank = self.stages.returned.rank
            main = number == len(self.stages) - 1
            own = returned_map(output, stage.own, rank, self.num_classes, self.stages.network, main)
            return undo_ending(own, stage.ends)
        features = bare_tensor(self._kept(number, kept))
        if features.shape[1] != stage.channels:
            raise StageError(
                f'stage "{stage.name}" of {self.stages.network} has {features.shape[1]} channels; its head was made '
                f"for {stage.channels}.",
                seen=f"tapped at the {stage.source}",
                hint="net = lomix.instrument(net.strip(), example)  # makes new heads",
            )
        logits: Tensor = self.heads[str(number)](features)
        parts = stage.parts  # classes that lie in the batch
        return logits if parts == 1 else logits.reshape(len(logits) // parts, -1, *logits.shape[2:])

    def _kept(self, number: int, kept: dict[int, Tensor]) -> Tensor:
        if number not in kept:
            raise self._missed(number)
        if not torch.compiler.is_compiling() and is_freed(kept[number]):
            raise self._freed(number)
        if torch.is_grad_enabled() and not kept[number].requires_grad:
            self._check_frozen(number)
        return self._laid_out(number, kept[number])

    def _freed(self, number: int) -> StageError:
        """Return the error for a stage whose values are gone: to read them would end the process."""
        stage = self.stages[number]
        return StageError(
            f'stage "{stage.name}" of {self.stages.network} has no memory any more after the pass: the network gives '
            "it back, and makes the map again in the backward pass.",
            seen=f"tapped at the {stage.source}",
            hint=f"{self.stages.network}(…, keep_input=True)  # or as its layers call it; or other stages=[…]",
        )

    def _missed(self, number: int) -> StageError:
        """Return the error for a stage that was not reached: its module is gone, or this pass does not call it."""
        stage = self.stages[number]
        tap = stage.logits if number == LOGITS and stage.logits is not None else stage.tap
        what, module = f'stage "{stage.name}" of {self.stages.network}', module_at(self.model, tap.path)
        instrument_again = "net = lomix.instrument(net.strip(), example)"
        if module is None:
            return StageError(
                f'{what} was tapped at "{tap.path}"; the network has no such module any more.',
                hint=instrument_again,
            )
        hooks = module._forward_pre_hooks if tap.side == "input" else module._forward_hooks
        hooked = any(isinstance(one, TapHook) and one.scope is self._scope for one in hooks.values())
        if self.training and number in self._taps() and not hooked:
            return StageError(
                f"{what} was tapped at a module that is no longer in it; another one stands there now.",
                seen=f"{tap.path or 'the model'} was replaced after instrument()",
                hint=[
                    "net.train()  # taps what stands there now, and keeps the heads",
                    f"{instrument_again}  # with new heads, if it has other channels",
                ],
            )
        return StageError(
            f"{what} was not reached in this forward pass.",
            seen=f"tapped at the {stage.source}",
            hint="instrument again with an example like this input",
        )

    def _laid_out(self, number: int, tensor: Tensor) -> Tensor:
        """Return a stage's tensor as B × C × space."""
        stage = self.stages[number]
        if number == LOGITS or stage.tap.layout is None:
            return tensor
        try:
            return stage.tap.layout.map_of(tensor)
        except ValueError as error:
            raise StageError(
                f'stage "{stage.name}" of {self.stages.network}: {error}.',
                seen=f"tapped at the {stage.source}",
                hint="instrument again with an example of the proportions of this input",
            ) from error

    def _check_frozen(self, number: int) -> None:
        tap = self.stages[number].tap
        if any(p.requires_grad for p in unwrap(self.model).get_submodule(tap.path).parameters()):
            raise StageError(
                f'stage "{self.stages[number].name}" of {self.stages.network} carries no gradient, '
                "so that its head would not train the network.",
                seen=f"the {tap} was made without gradients, as reentrant checkpointing does",
                hint="torch.utils.checkpoint.checkpoint(…, use_reentrant=False)",
            )

    def _check(self) -> None:
        if self._stripped:
            raise StageError(
                f"this instrumented {self.stages.network} was stripped; its hooks are gone.",
                hint="net = lomix.instrument(model, example)  # or use the model that strip() returned",
            )


def _with_frames(logits: Tensor, finest: Tensor) -> Tensor:
    """Put frames (or slices) that the network lays into the batch back on an axis of their own, as in its output."""
    if logits.ndim != finest.ndim - 1:
        return logits
    return logits.reshape(len(finest), -1, *logits.shape[1:]).movedim(1, 2)
