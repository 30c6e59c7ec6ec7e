"""What a LightningModule gets while it is fitted: heads and mixture, which leave no trace in its ``state_dict``."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lomix_search.errors import LossError, RunError
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.tape import Tape
from lomix_search.mixture.loss import MixtureLoss

GUEST_NAME = "_lomix"
"""The attribute of the LightningModule under which its guest lives, so that it is moved, synchronised and averaged."""


class Guest(nn.Module):
    """Heads and loss of a fit. They are parameters as all others, but no state_dict holds them.

    Args:
        net: The network with its heads.
        loss: The mixture.
        watched: Names of the network and the loss, for messages.
        keys: Let state_dict hold them after all.
    """

    def __init__(self, net: Instrumented, loss: MixtureLoss, watched: str, keys: bool = False) -> None:
        super().__init__()
        self.watched = watched
        self.heads, self.loss, self.keys = net.heads, loss, keys
        self.tape = Tape(net, self)
        self.answered, self.ever_answered = (
            False,
            False,
        )  # whether the mixture took a call of the loss: in this step, ever
        self.copies: list[weakref.ref[Guest]] = []  # of callbacks that average, whose parts here belong to a checkpoint

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return nothing, unless the keys are wanted: the checkpoint is the stock module's."""
        if self.keys:
            return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        return {} if destination is None else destination

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Miss nothing in the state of a stock module: what it lacks stays as it is."""
        for name, tensor in super().state_dict(prefix=prefix).items():
            state_dict.setdefault(name, tensor)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Guest":
        twin = Guest.__new__(Guest)
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy({**self.__dict__, "copies": []}, memo)
        self.copies.append(weakref.ref(twin))
        return twin

    def begin_step(self) -> None:
        """Forget the passes of the step before."""
        self.answered = False
        self.tape.passes.clear()

    end_step = begin_step

    def check_answered(self, title: str) -> None:
        """Check that the loss was called with what the network returned.

        Args:
            title: Class name of the LightningModule.

        Raises:
            LossError: it was not.
        """
        if not self.answered:
            called = "the network ran, and the loss was called without its output" if self.tape.passes else "it did not"
            raise LossError(
                f"training_step of {title} did not call the network and then the loss with what it returned.",
                seen=f"{called}; looked for: {self.watched}",
                hint=["loss = self.loss(self.net(images), labels)", 'LoMixCallback(network="…", loss="…")'],
            )

    def check_gradient(self, title: str) -> None:
        """Check that a backward pass came from the mixture.

        Args:
            title: Class name of the LightningModule.

        Raises:
            LossError: it did not.
        """
        if not any(p.grad is not None for p in self.parameters()) and any(p.requires_grad for p in self.parameters()):
            raise LossError(
                f"what training_step of {title} returned does not come from its loss; nothing would train the mixture.",
                seen=f"{self.watched}",
                hint="return self.loss(self.net(images), labels)",
            )

    def named_weights(self) -> dict[str, float]:
        """Return the weight of each map, by the name that loggers show."""
        weights = self.loss.weighting.weights().detach().tolist()
        return {f"lomix/{name}": weight for name, weight in zip(self.loss.map_ids, weights, strict=True)}

    def own_state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint needs to go on exactly: the state of this one, then of its copies that are alive."""
        alive = [self, *(twin for ref in self.copies if (twin := ref()) is not None)]
        return [{"heads": one.heads.state_dict(), "loss": one.loss.state_dict()} for one in alive]

    def load_own_state(self, states: list[dict[str, Any]]) -> None:
        """Put back what ``own_state`` returned.

        Args:
            states: Of this one and of its copies; copies without a state stay as they are.

        Raises:
            RunError: they are of another network or search space.
        """
        alive = [self, *(twin for ref in self.copies if (twin := ref()) is not None)]
        for one, state in zip(alive, states, strict=False):
            try:
                one.heads.load_state_dict(state["heads"])
                one.loss.load_state_dict(state["loss"])
            except (RuntimeError, KeyError) as cause:
                raise RunError(
                    "the checkpoint's mixture is of another network, search space or weighting.",
                    seen=str(cause).splitlines()[:3],
                    hint="LoMixCallback(…) as in the run that wrote it",
                ) from None


class MixedLoss:
    """Stands where the user's loss stood: of a call with the network's logits it returns the mixture.

    Args:
        guest: Whose tape knows the logits.
        original: The user's loss.
        name: How the user's code calls it.
    """

    def __init__(self, guest: Guest, original: Callable[..., Any], name: str) -> None:
        self.guest, self.original, self.name = guest, original, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the mixture in train mode, where one argument is the network's output; else the user's own loss.

        Raises:
            LossError: beside logits and labels the loss was given something else, which the mixture cannot take.
        """
        given = [value for value in (*args, *kwargs.values()) if value is not None]
        for i, value in enumerate(given if self.guest.training else ()):
            if isinstance(value, Tensor) and (found := self.guest.tape.pass_of(value)) is not None:
                labels = given[:i] + given[i + 1 :]
                if len(labels) != 1 or not isinstance(labels[0], Tensor | list | tuple):
                    raise LossError(
                        f"{self.name} was called with {len(labels)} values beside the logits; the mixture takes one.",
                        seen=", ".join(type(one).__name__ for one in labels),
                        hint=f"{self.name}(logits, labels)",
                    )
                self.guest.answered = self.guest.ever_answered = True
                return self.guest.loss(found.maps(), labels[0])
        return self.original(*args, **kwargs)


class EachMap:
    """The user's own loss, called on map by map.

    Args:
        original: The user's loss.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return its loss of one map."""
        value: Tensor = self.original(logits, labels)
        return value
