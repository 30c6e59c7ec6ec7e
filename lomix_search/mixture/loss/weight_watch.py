"""Watches the weights in a user's own loop, and says once, in plain words, when they die or wait in vain.

``search`` has a watch of its own, which sees every step; this one looks now and then and never waits for a device.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.mixture.loss.backends.on_cuda import in_recording
from lomix_search.mixture.loss.left_out import LeftOut
from lomix_search.mixture.weighting import Weighting
from lomix_search.utils.distributed import size

EVERY = 20
"""Calls between two looks."""
DYING = 0.2
"""Weights die when the largest has less than this part of what the largest had at first."""


class WeightWatch:
    """Looks at learned weights every so many training steps; a copy begins anew."""

    def __init__(self) -> None:
        self.on = True
        self._told_apart = False
        self._left_out: LeftOut | None = None
        self._calls, self._first = 0, 0.0
        self._largest: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def beside(self, network: Any, operators: nn.Module, weighting: nn.Module) -> None:
        """Watch also whether an optimizer that trains an instrumented network trains what is added to it."""
        heads = network.heads.parameters()
        self._left_out = LeftOut(
            network.model.parameters(),
            {"heads": heads, "operators": operators.parameters(), "weights": weighting.parameters()},
        )

    def look(self, weighting: Weighting, alone: bool) -> None:
        """Count a step, look at the weights if it is time, and warn of what the last look found.

        Args:
            weighting: Of the loss. Whether they die is not watched of those without parameters, and those that settle.
            alone: Whether the loss is that of this process's part of a batch.
        """
        if self.on and alone and not self._told_apart and self._left_out is not None and size() > 1:
            self._tell_apart()
        if self.on and self._left_out is not None and not in_recording(weighting.kept):
            self._left_out.look()
        if self.on and weighting.waits_for:
            self._wait(weighting)
        if not self.on or weighting.settles or not any(p.requires_grad for p in weighting.parameters()):
            return
        if in_recording(weighting.kept):
            return
        if self._largest is not None and (self._arrived is None or self._arrived.query()):  # type: ignore[no-untyped-call]
            self._judge(float(self._largest), weighting)
            self._largest = self._arrived = None
        if self._calls % EVERY == 0:
            largest = weighting.weights().detach().amax()
            self._largest = largest.to("cpu", non_blocking=True)
            if largest.is_cuda:
                self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._arrived.record()
        self._calls += 1

    def _tell_apart(self) -> None:
        """Warn that each process trains operators and weights of its own, unless the loss is inside DDP itself."""
        self._told_apart = True
        assert self._left_out is not None
        wrapped = getattr(nn.parallel.DistributedDataParallel, "_active_ddp_module", None) is not None
        if wrapped or not self._left_out.learns("operators", "weights"):
            return
        warnings.warn(
            f"MixtureLoss: each of the {size()} processes has the loss of its own part of the batch, and operators and "
            "weights of the mixture that nobody averages: they drift apart.\n"
            "  Try:  loss = MixtureLoss.for_network(net, together=True)   # the loss of the whole batch\n"
            "        average_gradients([*loss.parameters()])   # after backward(); from lomix_search.utils.distributed",
            stacklevel=6,
        )

    def _wait(self, weighting: Weighting) -> None:
        """Count a step of weights that cannot move, and warn of it after some."""
        self._calls += 1
        if self._calls <= EVERY:
            return
        self.on = False
        warnings.warn(
            f'MixtureLoss: the weights of "{weighting.name}" are still those of the start after {EVERY} steps, and '
            f"will stay so until this is called: {weighting.waits_for}",
            stacklevel=6,
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look at nothing while another watch does."""
        was, self.on = self.on, False
        try:
            yield
        finally:
            self.on = was

    def _judge(self, largest: float, weighting: Weighting) -> None:
        self._first = self._first or largest
        if largest >= DYING * self._first:
            return
        self.on = False
        warnings.warn(
            f"MixtureLoss: the weights die. By call {self._calls} the largest fell from {self._first:.2g} to "
            f'{largest:.2g}, so that the loss hardly trains the network any more. Nothing holds weights of "'
            f'{weighting.name}" up, and momentum or a large learning rate drives them down fast. Give them a learning '
            "rate of their own without momentum or weight decay: "
            'torch.optim.SGD([{"params": net.parameters()}, *loss.parameter_groups()], lr=…, momentum=…); or take a '
            'weighting that keeps the sum of its weights: MixtureLoss(…, weighting="normalized").',
            stacklevel=6,
        )

    def __reduce__(self) -> tuple[type["WeightWatch"], tuple[()]]:
        """Copies begin anew: events cannot be copied."""
        return WeightWatch, ()
