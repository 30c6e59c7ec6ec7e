"""Pyramids by what their heads are given: a sum of all levels, or each level after a layer beside the way up."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


@family(
    "levels brought up by blocks, summed and enlarged by the head",
    ["lateral.2", "sum.0", "head.0"],
    (1, 1, 64, 64),
    ladders=[["bring.2.0", "bring.1.0", "head.0"]],
    source="sixteenth",
)
class SummedByTheHead(nn.Module):
    """The head is given a list of maps, of which the finest is not resized."""

    class Add(nn.Module):
        def forward(self, x, skip):
            return up_to(x, skip) + skip

    class Sum(nn.Module):
        def forward(self, maps):
            return torch.stack(maps, 1).sum(1)

    def __init__(self, c=12):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), stem=2)
        self.lateral = nn.ModuleList(nn.Conv2d(width, c, 1) for width in (16, 24, 32))
        self.sum = nn.ModuleList([self.Add(), self.Add()])
        steps = [[layer for _ in range(i) for layer in (conv(c, c), nn.Upsample(scale_factor=2))] for i in (1, 2)]
        self.bring = nn.ModuleList([nn.Sequential(conv(c, c)), *(nn.Sequential(*step) for step in steps)])
        self.head = nn.Sequential(self.Sum(), nn.Upsample(scale_factor=4), nn.Conv2d(c, 3, 1))

    def forward(self, x):
        fine, middle, coarse = (layer(y) for layer, y in zip(self.lateral, self.encoder(x)[1:], strict=True))
        middle = self.sum[0](coarse, middle)
        maps = [self.sum[1](middle, fine), middle, coarse]
        return self.head([block(y) for block, y in zip(self.bring, maps, strict=True)])


@family(
    "one head for all levels, after a layer beside each",
    ["out.2", "out.1", "out.0"],
    source="sixteenth",
)
class OneHead(nn.Module):
    """The network makes logits of all levels by one layer, and what that is given lies beside the way up."""

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.encoder = Encoder(widths)
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(b, a, 2, 2), nn.ReLU(), conv(a, a)) for a, b in ((8, 16), (16, 24))
        )
        self.out, self.head = nn.ModuleList(conv(width, 12) for width in widths), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        maps = [self.out[2](x)]
        for i in (1, 0):
            x = self.up[i](x) + skips[i]
            maps.append(self.out[i](x))
        return [self.head(made) for made in maps[::-1]]
