"""Stages → an instrumented network: heads on the stages in training, the user's own network otherwise."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import StageError
from lomix_search.stages import Stages, Tap, find_stages
from lomix_search.trace import ALONE, is_compiled, pick, unwrap

_LOGITS = -1
"""The number under which hooks keep the logits of a model that returns probabilities."""

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


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
        found, classes, tensors = find_stages(model, example, num_classes, stages)
        return Instrumented(model, found, classes, make_heads(found, classes, tensors))


def make_heads(stages: Stages, num_classes: int, tensors: Sequence[dict[str, Any]]) -> nn.ModuleDict:
    """Make a 1×1 convolution for each stage that has no logits of its own.

    Weights are small and biases zero, so that every head starts near equal probabilities whatever the features' scale.
    The random generators are left alone; the draw follows ``torch.initial_seed()``.

    Args:
        stages: Coarse to fine.
        num_classes: Output channels.
        tensors: ``dtype`` and ``device`` of each stage's features.

    Returns:
        Heads by the stage's number.
    """
    generator = torch.Generator().manual_seed(torch.initial_seed())
    heads = nn.ModuleDict()
    for i, (stage, tensor) in enumerate(zip(stages, tensors, strict=True)):
        if stage.own is None:
            outputs = num_classes // stage.parts
            head = nn.utils.skip_init(_CONVOLUTION[len(stage.size)], stage.channels, outputs, 1)  # type: ignore[no-untyped-call]
            nn.init.normal_(head.weight, std=0.1 * stage.channels**-0.5, generator=generator)
            nn.init.zeros_(head.bias)
            heads[str(i)] = head.to(tensor["device"], tensor["dtype"])
    return heads


class Shelf:
    """Where hooks lay down the tensors of one forward pass."""

    def __init__(self) -> None:
        self.armed = False
        self.kept: dict[int, Tensor] = {}
        self.calls: Counter[tuple[str, str]] = Counter()

    def arm(self) -> None:
        """Begin a forward pass."""
        self.armed = True
        self.kept = {}
        self.calls = Counter()

    def take(self) -> dict[int, Tensor]:
        """End it; returns the tensors by the number of their stage."""
        kept, self.kept, self.armed = self.kept, {}, False
        return kept


class TapHook:
    """A hook on one module that keeps the tensors of its stages.

    Args:
        shelf: Where they go.
        side: "input" or "output".
        taps: Stage number → tap, all on this module and side.
    """

    def __init__(self, shelf: Shelf, side: str, taps: dict[int, Tap]) -> None:
        self.shelf, self.side, self.taps = shelf, side, taps
        self.key = (next(iter(taps.values())).path, side)

    def __call__(self, _module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        """Keep what a tap asks for in this call."""
        if not self.shelf.armed:
            return
        call = self.shelf.calls[self.key]
        self.shelf.calls[self.key] = call + 1
        for number, tap in self.taps.items():
            if tap.call == call:
                try:
                    tensor = pick((args, kwargs) if self.side == "input" else output, tap.place)
                except (LookupError, TypeError, AttributeError):
                    continue  # nothing sits there in this pass, which is said where it is missed
                if isinstance(tensor, Tensor):
                    self.shelf.kept[number] = tensor.clone() if tap.copy else tensor


class Instrumented(nn.Module):
    """The user's network with heads.

    In train mode it returns a list of logits, coarse to fine, each B × C × its own size; the last is the model's own
    output, with an axis for its one class if it came without. In eval mode it returns exactly what the model returns.

    The user's weights are in ``net.model``: ``net.model.load_state_dict(bare)`` and
    ``bare.load_state_dict(net.model.state_dict())`` carry them in both directions.

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
        self._shelf = Shelf()
        self._handles: list[Any] = []
        self._stripped = False
        self.training = model.training  # not train(): parts that the user froze stay as they are
        self._sync()

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
        model = self.model._orig_mod if is_compiled(self.model) else self.model  # compiled code would skip new hooks
        self._shelf.arm()
        output = model(*args, **kwargs)
        kept = self._shelf.take()
        *coarse, finest = (self._logits(i, kept, output) for i in range(len(self.stages)))
        return [*(_with_frames(logits, finest) for logits in coarse), finest]

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
        self._detach()
        self._attach(range(len(self.stages)))
        try:
            self._shelf.arm()
            unwrap(self.model)(*args, **kwargs)
            kept = self._shelf.take()
        finally:
            self._sync()
        return [self._kept(i, kept) for i in range(len(self.stages))]

    def train(self, mode: bool = True) -> "Instrumented":
        """Set the mode of model and heads; hooks exist in train mode only.

        Args:
            mode: True to train.

        Returns:
            Itself.
        """
        super().train(mode)
        self._sync()
        return self

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the heads, which the user's model does not have."""
        return self.heads.parameters()

    def strip(self) -> nn.Module:
        """Remove the hooks and give the user's own model back; this object cannot be used any more.

        Returns:
            The very object that was instrumented, with the weights it has now.
        """
        self._detach()
        self._stripped = True
        return self.model

    def _sync(self) -> None:
        """Hooks exist in train mode only, and only where a head needs them: eval mode costs nothing."""
        self._detach()
        if self.training and not self._stripped:
            numbers = [i for i, stage in enumerate(self.stages) if stage.own is None]
            self._attach([*numbers, _LOGITS] if self.stages[-1].logits else numbers)

    def _attach(self, numbers: Any) -> None:
        grouped: dict[tuple[str, str], dict[int, Tap]] = {}
        for number in numbers:
            tap = self.stages[-1].logits if number == _LOGITS else self.stages[number].tap
            assert tap is not None  # _LOGITS is only asked for where there is such a tap
            grouped.setdefault((tap.path, tap.side), {})[number] = tap
        for (path, side), taps in grouped.items():
            module, hook = unwrap(self.model).get_submodule(path), TapHook(self._shelf, side, taps)
            register = module.register_forward_pre_hook if side == "input" else module.register_forward_hook
            self._handles.append(register(hook, with_kwargs=True))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _logits(self, number: int, kept: dict[int, Tensor], output: Any) -> Tensor:
        own = self.stages[number].own
        if self.stages[number].logits is not None:
            return self._kept(_LOGITS, kept)
        if own is not None:
            return pick(output, own)  # type: ignore[no-any-return]
        logits: Tensor = self.heads[str(number)](self._kept(number, kept))
        parts = self.stages[number].parts  # classes that lie in the batch
        return logits if parts == 1 else logits.reshape(len(logits) // parts, -1, *logits.shape[2:])

    def _kept(self, number: int, kept: dict[int, Tensor]) -> Tensor:
        if number not in kept:
            stage = self.stages[number]
            raise StageError(
                f'stage "{stage.name}" of {self.stages.network} was not reached in this forward pass.',
                seen=f"tapped at the {stage.source}",
                hint="instrument again with an example like this input",
            )
        if torch.is_grad_enabled() and not kept[number].requires_grad:
            self._check_frozen(number)
        return self._laid_out(number, kept[number])

    def _laid_out(self, number: int, tensor: Tensor) -> Tensor:
        """Return a stage's tensor as B × C × space."""
        stage = self.stages[number]
        if number == _LOGITS or stage.tap.layout is None:
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
