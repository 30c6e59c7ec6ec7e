"""Networks that work at a size of their own."""

import torch
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


@family("padding makes a small map half as large again", ["up.0", "up.1"], (1, 1, 16, 16), source="twenty-third")
class PaddedLayers(nn.Module):
    """A convolution pads by more than the next one takes away (DexiNed): it stays on its level all the same."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(self.layers(a, b) for a, b in ((1, 8), (8, 16), (16, 24)))
        self.up = nn.ModuleList(self.layers(a, b) for a, b in ((40, 16), (24, 8)))
        self.deep = self.layers(24, 24)
        self.logits = nn.Conv2d(8, 3, 1)

    def layers(self, given, made):
        return nn.Sequential(nn.Conv2d(given, made, 3, 1, 2), nn.ReLU(), nn.Conv2d(made, made, 3), nn.ReLU())

    def forward(self, x):
        skips = []
        for i, layers in enumerate(self.down):
            x = layers(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = self.deep(x) + x
        for layer, skip in zip(self.up, skips[-2::-1], strict=True):
            x = layer(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.logits(x)
