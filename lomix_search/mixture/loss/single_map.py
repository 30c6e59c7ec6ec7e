"""The one map that a network gives in eval mode."""

from collections.abc import Sequence

from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.mixture.maps import Map

FINEST_ALONE = (Map("original", (1,)),)
"""The maps of a plan of one original."""


def single_map(maps: Sequence[Tensor] | Tensor, labels: Tensor, plan: LossPlan) -> Tensor | None:
    """Return the map of logits that is given alone, as a network gives it in eval mode, or as the one item of a list.

    One tensor may also hold the maps of all stages, stacked, as they are given in train mode: its sides tell which.

    Args:
        maps: What the loss was given.
        labels: Classes (B, *spatial) or (B, 1, *spatial), one-hot, or of several labels a pixel (B, C, *spatial).
        plan: What the loss computes.

    Returns:
        The map; None where maps of all stages were given, or no map that fits.

    Raises:
        LossError: it was given a mapping or another object in which the logits are.
    """
    if isinstance(maps, list | tuple):
        return maps[0] if len(maps) == 1 and plan.num_maps > 1 and isinstance(maps[0], Tensor) else None
    if not isinstance(maps, Tensor):
        raise LossError(
            f"MixtureLoss got a {type(maps).__name__}; maps are tensors, coarse to fine, or one tensor.",
            hint="loss(net.logits(images), labels)  # the finest map, whatever the network returns in eval mode",
        )
    if not labels.ndim:
        return None
    channels = labels.ndim > 1 and labels.shape[1] in (1, max(2, plan.num_classes), plan.num_classes)
    ranks = (labels.ndim + 1, labels.ndim) if channels else (labels.ndim + 1,)
    batch = len(labels)
    stacked = maps.ndim - 1 in ranks and maps.shape[:3] == (plan.num_maps, batch, plan.num_classes)
    alone = maps.ndim in ranks and maps.shape[:2] == (batch, plan.num_classes)
    return maps if alone and not stacked else None
