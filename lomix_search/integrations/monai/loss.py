"""The mixture of maps that a network returns itself, fine to coarse, coarse to fine, in a list or stacked."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.map_checks import list_shapes
from lomix_search.mixture.loss.network import NetworkLike, network_counts


class LoMixLoss(MixtureLoss):
    """The mixture of the maps that a network of MONAI's returns itself, in any of the forms that they come in.

    A tensor (B, L, C, *spatial) whose first map is the finest, as DynUNet's deep supervision returns it, or a list of
    maps: their sizes say which is the finest. One map (B, C, *spatial) is the finest alone, as in eval mode.

    Args:
        space: The search space, or the name or path of one.
        num_maps: L; of DynUNet ``deep_supr_num + 1``.
        num_classes: C.
        finest: Where the finest map of a list of maps of one size is; None refuses such a list.
        **options: Any other argument of :class:`~lomix_search.mixture.loss.MixtureLoss`.
    """

    def __init__(
        self,
        space: Any,
        num_maps: int,
        num_classes: int,
        finest: Literal["first", "last"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(space, num_maps, num_classes, **options)
        self.finest = finest
        self._told = False

    @classmethod
    def for_network(cls, net: NetworkLike | nn.Module, space: Any = "lomix", **options: Any) -> "LoMixLoss":
        """Build the loss for an instrumented network, whose last map is the finest.

        Args:
            net: What ``instrument`` returned.
            space: The search space, or the name or path of one.
            **options: Any other argument of ``LoMixLoss``.

        Returns:
            The loss.
        """
        num_maps, num_classes = network_counts(net)
        return cls(space, num_maps, num_classes, **({"finest": "last"} | options))

    def forward(self, maps: Sequence[Tensor] | Tensor, labels: Tensor | Sequence[Tensor]) -> Tensor:
        """Compute the total, as ``MixtureLoss`` does.

        Args:
            maps: What the network returned.
            labels: (B, 1, *spatial), or any other form that ``MixtureLoss`` takes.

        Returns:
            The total, a scalar.

        Raises:
            LossError: maps or labels do not fit, or which map is the finest cannot be told.
        """
        ordered = self.coarse_to_fine(maps)
        if isinstance(ordered, Tensor) and ordered.requires_grad and torch.is_grad_enabled() and not self._told:
            self._told = True
            warnings.warn(one_map_alone(self, ordered), stacklevel=2)
        return super().forward(ordered, labels)

    def coarse_to_fine(self, maps: Sequence[Tensor] | Tensor) -> Sequence[Tensor] | Tensor:
        """Return the maps as a list, coarse to fine; one map alone as it is.

        Args:
            maps: What the network returned.

        Raises:
            LossError: they are of one size and nothing says which is the finest.
        """
        counts = (self.plan.num_maps, self.num_classes)
        if isinstance(maps, Tensor):
            return list(maps.unbind(1))[::-1] if maps.ndim > 3 and maps.shape[1:3] == counts else maps
        if not all(isinstance(one, Tensor) and one.ndim > 2 for one in maps):
            return maps  # which the loss refuses by name
        sizes = [one.shape[2:].numel() for one in maps]
        if len(set(sizes)) < 2 and len(sizes) > 1 and self.finest is None:
            raise LossError(
                f"{len(sizes)} maps of one size; which of them is the finest cannot be told.",
                seen=list_shapes(maps),
                hint='LoMixLoss(…, finest="first"), or "last": the one that the network returns in eval mode',
            )
        first = self.finest == "first" if len(set(sizes)) < 2 else sizes[0] > sizes[-1]
        return list(maps)[::-1] if first else list(maps)


def one_map_alone(loss: MixtureLoss, alone: Tensor) -> str:
    """Say that a network returned one map where the loss is of several.

    Args:
        loss: The mixture loss.
        alone: The map.

    Returns:
        Two sentences.
    """
    return (
        f"the network returned one map {tuple(alone.shape)} in training; the loss mixes {loss.plan.num_maps}, so that "
        "only the last layer would be trained. Its deep supervision is off, or it is not instrumented."
    )
