"""A network that its owner's own code calls, as ever: its stages are kept on the side, and maps are made of them later.

An instrumented network returns maps in the place of logits. Where other people's code stands between the network and
the loss, the network keeps its own output instead, and a :class:`Tape` finds the pass that a tensor came from.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from lomix_search.errors import StageError
from lomix_search.instrumentation.hooks import ForwardPass
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.trace import is_compiled, leaves, spell

_FORM = frozenset(
    f"{name}Backward{number}"
    for name in (
        "Alias", "Clone", "LogSigmoid", "LogSoftmax", "Reshape", "ReshapeAlias", "Sigmoid", "Softmax", "Squeeze",
        "ToCopy", "UnsafeView", "Unsqueeze", "UpsampleBicubic2D", "UpsampleBilinear2D", "UpsampleLinear1D",
        "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleTrilinear3D", "View",
    )
    for number in range(4)
)  # fmt: skip
"""Operations between a network and a loss that give logits another form, type or size and say nothing new. Those that
move pixels are not among them: labels may have been moved along."""

_FAR = 64
"""Operations that are looked at for the way from a tensor back to a network's output."""


class TapedPass:
    """One forward pass of a taped network.

    Args:
        net: The network with its heads.
        output: What the user's model returned.
        kept: What the hooks kept.
    """

    def __init__(self, net: Instrumented, output: Any, kept: dict[int, Tensor]) -> None:
        self.net, self.output, self.kept = net, output, kept

    def maps(self) -> list[Tensor]:
        """Return the logits of every stage, coarse to fine; the last is the model's own output."""
        return self.net.maps_of(self.output, self.kept)

    def made(self, tensor: Tensor) -> bool:
        """Say whether a tensor is this pass's main output, in whatever form a loss wants it.

        Raises:
            StageError: it is another of its maps, or was computed from the output.
        """
        stages = self.net.stages
        main = stages.returned.place if stages[-1].own is None else stages[-1].own
        outputs = [(place, leaf) for place, leaf in leaves(self.output) if isinstance(leaf, Tensor)]
        ways = [(way, place, leaf) for place, leaf in outputs if (way := _way(tensor, leaf)) is not None]
        if not ways:
            return False
        way, place, leaf = min(ways, key=lambda one: len(one[0]))  # an output may be made of another one
        if tuple(place) != tuple(main)[: len(place)]:
            raise self._refused(f"output{spell(place)}", "which is not the map that the network is used for")
        if strange := [node.name() for node in way if not _is_form(node, leaf)]:
            raise self._refused(f"what {', '.join(strange)} made of its output", "of which the maps would not know")
        return True

    def _refused(self, what: str, why: str) -> StageError:
        return StageError(
            f"the loss of {self.net.stages.network} was called with {what}, {why}.",
            seen=f"the finest stage: {self.net.stages[-1].name}",
            hint=[
                "loss = self.loss(self.net(images), labels)  # logits as they are, no deep supervision",
                "lomix.instrument(net, example)  # a loop of your own has the maps themselves",
            ],
        )


class Tape:
    """Keeps the stages of each call of a network while a module is in train mode; the calls return what they ever did.

    Args:
        net: The network with its heads; ``net.model`` is what the user's code calls.
        mode: Whose ``training`` says whether calls are kept.
    """

    def __init__(self, net: Instrumented, mode: nn.Module) -> None:
        self.net, self.mode = net, mode
        self.passes: list[TapedPass] = []
        self._open: list[ForwardPass | None] = []
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Put the hooks on; called again, on the modules that are there now."""
        self.detach()
        model = self.net.model
        self.net.training = True  # which puts on the hooks of the stages, and leaves the model's own mode alone
        self._handles = [
            model.register_forward_pre_hook(self._begin),
            model.register_forward_hook(self._end, always_call=True),
        ]
        if is_compiled(model):  # whose code skips hooks
            model.forward = _EagerInTraining(self, model.forward)

    def detach(self) -> None:
        """Take them off again."""
        model = self.net.model
        self.net.training = False
        self.passes.clear()
        self._open.clear()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if is_compiled(model) and isinstance(model.forward, _EagerInTraining):
            model.forward = model.forward.compiled

    def pass_of(self, tensor: Tensor) -> TapedPass | None:
        """Return the pass whose output a tensor is; None if no pass that was kept made it.

        Raises:
            StageError: it was computed from an output in a way that the maps would not know.
        """
        return next((one for one in reversed(self.passes) if one.made(tensor)), None)

    def _begin(self, _model: nn.Module, _args: Any) -> None:
        self._open.append(self.net._scope.begin() if self.mode.training else None)

    def _end(self, _model: nn.Module, _args: Any, output: Any) -> None:
        if self._open and (call := self._open.pop()) is not None:
            self.net._scope.end(call)
            if output is not None and call.kept:
                self.passes.append(TapedPass(self.net, output, call.kept))


class _EagerInTraining:
    """The forward of a compiled network: its code where no stage is kept, the network itself where some are."""

    def __init__(self, tape: Tape, compiled: Callable[..., Any]) -> None:
        self.tape, self.compiled = tape, compiled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model: Any = self.tape.net.model
        return model._orig_mod(*args, **kwargs) if self.tape.mode.training else self.compiled(*args, **kwargs)


def _is_form(node: Any, logits: Tensor) -> bool:
    if node.name() == "SelectBackward0":  # logits[:, 0] of one class
        return bool(node._saved_dim == 1 and logits.ndim > 1 and logits.shape[1] == 1)
    return node.name() in _FORM


def _way(tensor: Tensor, origin: Tensor) -> list[Any] | None:
    """Return the operations that made one tensor of another, as nodes of its graph; None if it was not made of it."""
    if tensor is origin:
        return []
    if tensor.grad_fn is None or origin.grad_fn is None:
        return None
    goal = origin.grad_fn, origin.output_nr
    if (tensor.grad_fn, tensor.output_nr) == goal:
        return []
    ways, seen = [(tensor.grad_fn, [tensor.grad_fn])], {tensor.grad_fn}
    for node, way in ways:  # grows while it is gone through
        for before in _before(node):
            if before == goal:
                return way
            if before[0] not in seen and len(ways) < _FAR:
                seen.add(before[0])
                ways.append((before[0], [*way, before[0]]))
    return None


def _before(node: Any) -> Iterator[tuple[Any, int]]:
    return ((fn, number) for fn, number in node.next_functions if fn is not None)
