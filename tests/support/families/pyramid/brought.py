"""Levels that a block of one kind smooths and then makes larger, so that they lie side by side for the head."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv


class Levels(nn.Module):
    """Projects an encoder's levels and sums them up; each is smoothed and made larger by one block."""

    def __init__(self, again=False):
        super().__init__()
        self.stem, self.encoder, self.again = conv(3, 8, 3, 2), Encoder((8, 16, 24), 8, stem=2), again
        self.inside = nn.ModuleList(conv(c, 16, 1) for c in (8, 16, 24))
        self.outside = nn.ModuleList(
            nn.Sequential(*conv(16, 8), nn.Upsample(scale_factor=2**i, mode="bilinear")) for i in range(3)
        )

    def forward(self, x):
        a, b, c = (inside(f) for inside, f in zip(self.inside, self.encoder(self.stem(x)), strict=True))
        b = b + F.interpolate(c, scale_factor=2.0)
        a = a + F.interpolate(b, scale_factor=2.0)
        if self.again:  # and down again
            b = b + F.interpolate(a, scale_factor=0.5)
        return torch.cat([outside(f) for outside, f in zip(self.outside, (a, b, c), strict=True)], 1)


class Text(nn.Module):
    def __init__(self, again=False):
        super().__init__()
        self.levels = Levels(again)
        up = (nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.head = nn.Sequential(*conv(24, 8), *up, nn.ConvTranspose2d(8, 1, 2, 2))

    def forward(self, x):
        return self.head(self.levels(x))


SMOOTHED = ["levels.outside.2.2", "levels.outside.1.2"]


@family(
    "each level smoothed before it is made larger",
    [*SMOOTHED, "levels.outside.0", "head.5"],
    (1, 3, 64, 64),
    ladders=[[*SMOOTHED, "head.2", "head.5"]],
    source="twentieth",
)
class Smoothed(Text):
    """As DBNet: the head works on all of them, and goes up twice."""


@family("levels summed up and down, then smoothed", [*SMOOTHED, "head.2", "head.5"], (1, 3, 64, 64), source="twentieth")
class UpAndDown(Text):
    """Likewise, with levels summed on the way down too: no way up passes all of them."""

    def __init__(self):
        super().__init__(again=True)
