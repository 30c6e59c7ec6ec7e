"""Scalarizers of TorchJD as weightings: ``torchjd:UW``, ``torchjd:DWA`` and so on."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from lomix_search.errors import LossError, nearest, require
from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, weighting_family

NEEDS_NUMBER = {"UW", "IMTLL"}
MEMBERS = ("DWA", "GeometricMean", "IMTLL", "Mean", "Random", "Sum", "UW")
"""Those that need only the losses and their number.

Of the others, Constant, STCH, PBI and COSMOS need preferences, and FAMO needs the losses of the same batch a second
time, after the step."""


class Scalarized(Weighting):
    """Any function of the m losses to one total, as a weighting: wₖ = ∂total/∂ℓₖ where it was last called.

    A scalarizer that learns has parameters, which train with the network's. Plain values that it holds between calls
    (DWA's averages) are part of the state, so that a resumed run goes on as it would have.

    Args:
        maps: The maps to weigh.
        scalarizer: Module (m,) → scalar.
        name: The word for it in mixture files.
        epochs: How often in a whole training its ``step()``, if it has one, is called.
        lr: Learning rate of its parameters, without weight decay; None: as the network's.
    """

    settles = True
    last: Tensor

    def __init__(
        self,
        maps: Sequence[Map],
        scalarizer: nn.Module,
        name: str = "custom",
        epochs: int = 50,
        lr: float | None = None,
    ) -> None:
        super().__init__(maps)
        self.name, self.scalarizer, self.epochs, self.lr = name, scalarizer, epochs, lr
        self.register_buffer("last", torch.ones(len(self.map_ids)))
        self._own = set(vars(nn.Module())) | {"training"}
        self._epoch = 0

    def weights(self) -> Tensor:
        """Return ∂total/∂ℓ of the last call, 1 before the first; negative ones show as 0."""
        return self.last.clamp(min=0)

    def forward(self, losses: Tensor) -> Tensor:
        """Hand the losses to the scalarizer.

        Args:
            losses: ℓ (m,).

        Returns:
            Its total.
        """
        total: Tensor = self.scalarizer(losses)
        if losses.requires_grad:
            (slope,) = torch.autograd.grad(total, losses, retain_graph=True)
            self.last.copy_(slope.detach())
        return total

    def advance(self, progress: float) -> None:
        """Call ``step()`` when another epoch begins.

        Args:
            progress: Part of training that is done.
        """
        epoch = int(progress * self.epochs)
        if epoch > self._epoch and hasattr(self.scalarizer, "step"):
            self.scalarizer.step()  # type: ignore[operator]
        self._epoch = epoch

    def keep(self, ids: Collection[str]) -> None:
        """Refuse: a scalarizer wants the losses it was built for.

        Args:
            ids: Maps to keep.

        Raises:
            LossError: always.
        """
        raise LossError(f'weighting "{self.name}" cannot drop maps during training.', hint="weighting.name=normalized")

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the scalarizer holds beside parameters and buffers."""
        held = {k: v for k, v in vars(self.scalarizer).items() if k not in self._own}
        return {"epoch": self._epoch, "held": held}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put back what ``get_extra_state`` returned."""
        self._epoch = state["epoch"]
        vars(self.scalarizer).update(state["held"])


@weighting_family("torchjd")
def torchjd(member: str) -> Callable[..., Weighting]:
    """Find a scalarizer of TorchJD.

    Args:
        member: One of ``MEMBERS``.

    Returns:
        A function (maps, settings) → weighting.

    Raises:
        LossError: it is none of them.
    """
    if member not in MEMBERS:
        raise LossError(f"unknown scalarizer. {nearest(member, MEMBERS)}")
    return partial(_build, member)


def _build(
    member: str,
    maps: Sequence[Map],
    epochs: Annotated[int, Field(ge=1)] = 50,
    lr: Annotated[float, Field(gt=0)] | None = 0.02,
) -> Weighting:
    """Build one of ``MEMBERS``; the arguments after the maps are the settings of a recipe.

    Args:
        member: Its name.
        maps: The maps to weigh.
        epochs: How often in a whole training its ``step()``, if it has one, is called.
        lr: Learning rate of its parameters, without weight decay; None: as the network's.

    Returns:
        The weighting.
    """
    kind = getattr(require("torchjd.scalarization", "torchjd"), member)
    built = kind(len(maps)) if member in NEEDS_NUMBER else kind()
    return Scalarized(maps, built, f"torchjd:{member}", epochs, lr)
