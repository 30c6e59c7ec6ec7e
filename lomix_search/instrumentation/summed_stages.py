"""An instrumented network that predicts by the sum of all its stages, as the LoMix paper does on binary sets."""

import torch
from torch import Tensor, nn

from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.utils.interpolation import interpolate


class SummedStages(nn.Module):
    """Returns Σ Pᵢ, the logits of all stages at the size of the images. Unlike the finest map alone it costs the heads.

    Args:
        net: The network, with the heads that were trained with it.
    """

    def __init__(self, net: Instrumented) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the summed logits.

        Args:
            images: (B, C, *spatial).

        Returns:
            (B, classes, *spatial).
        """
        size = images.shape[2:]
        maps = [one if one.shape[2:] == size else interpolate(one, size) for one in self.net.stage_logits(images)]
        return torch.stack(maps).sum(0)
