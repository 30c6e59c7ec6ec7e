"""Networks that work at a size of their own."""

from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.unet.ascents import Decoder


@family("works at a larger size than its input", ["local.ups.0", "local.ups.1", "local.ups.2"], source="fifteenth")
class Enlarged(nn.Module):
    """The image is enlarged before, and the logits are brought back to its size."""

    def __init__(self):
        super().__init__()
        self.local, self.head = Decoder(), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        larger = F.interpolate(x, (96, 96), mode="bilinear")
        return F.interpolate(self.head(self.local(larger)), x.shape[2:], mode="bilinear")
