"""Says once, in a user's own loop, that an optimizer trains the network but not the heads, operators or weights."""

import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CALLS_APART = 20
"""Training calls between two looks."""
LOOKS = 3
"""Looks in a row that find the network moved, and a part of it or of the loss waiting with a gradient."""

_ADD = {
    "heads": "net.parameters(), of the net that instrument returned",
    "operators": "*loss.parameter_groups()",
    "weights": "*loss.parameter_groups()",
}


@dataclass
class _Part:
    parameters: list["weakref.ref[nn.Parameter]"]
    version: int
    values: list[Tensor]
    looks: int = 0

    def alive(self) -> list[nn.Parameter]:
        return [p for ref in self.parameters if (p := ref()) is not None and p.requires_grad]


class LeftOut:
    """Compares the change counters of parameters, which costs no look at a value and no wait for a device.

    A part is left out if it has gradients that nobody takes away and stays as it is while the network moves. Parameters
    are held weakly. What is frozen by ``requires_grad_(False)`` is left out on purpose.

    Args:
        network: Parameters of the user's network.
        parts: Parameters of what LoMix adds, by a name of ``heads``, ``operators`` and ``weights``.
    """

    def __init__(self, network: Iterable[nn.Parameter], parts: Mapping[str, Iterable[nn.Parameter]]) -> None:
        self._network = [weakref.ref(p) for p in network]
        self._given = {name: list(map(weakref.ref, given)) for name, given in parts.items()}
        self._parts: dict[str, _Part] = {}
        self._calls, self._version = 0, 0

    def learns(self, *parts: str) -> bool:
        """Whether any of these parts has a parameter that is trained.

        Args:
            *parts: Names of parts.
        """
        return any(p.requires_grad for name in parts for ref in self._given[name] if (p := ref()) is not None)

    def look(self) -> None:
        """Count a call and, if it is time, warn of the parts that no optimizer has."""
        self._calls += 1
        if self._calls % CALLS_APART != 1:
            return
        version = sum(p._version for ref in self._network if (p := ref()) is not None)
        moved, self._version = version != self._version, version
        if self._calls == 1:
            self._begin()
            return
        late = [name for name, part in self._parts.items() if self._waits(part, moved)]
        for name in late:
            del self._parts[name]
        if late:
            warnings.warn(
                f"MixtureLoss: the {' and '.join(late)} did not change in {CALLS_APART * LOOKS} steps in which the "
                "network did: the optimizer lacks them. Make it after instrument and the loss, with "
                f"{' and '.join(dict.fromkeys(_ADD[name] for name in late))}; or freeze them: requires_grad_(False).",
                stacklevel=5,
            )

    def _begin(self) -> None:
        for name, refs in self._given.items():
            part = _Part(refs, 0, [])
            if parameters := part.alive():
                part.version = sum(p._version for p in parameters)
                part.values = [p.detach().clone() for p in parameters]
                self._parts[name] = part

    def _waits(self, part: _Part, moved: bool) -> bool:
        """Whether a part has now waited for long enough; its values are compared once, before that is said."""
        parameters = part.alive()
        still = len(parameters) == len(part.values) and sum(p._version for p in parameters) == part.version
        part.looks = part.looks + 1 if still and moved and any(p.grad is not None for p in parameters) else 0
        if part.looks < LOOKS:
            return False
        part.looks = 0  # a fused optimizer changes values and leaves the counters
        return all(torch.equal(p, was) for p, was in zip(parameters, part.values, strict=True))
