"""Pyramids that go down and up again, after what was wrong of packages: their coarsest level, their end."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to

WIDTHS = (8, 16, 24, 32)


class Way(nn.Module):
    """Takes maps of all levels from one end to the other: each is added to what comes, and worked on."""

    def __init__(self, c, up):
        super().__init__()
        self.up, self.blocks = up, nn.ModuleList(conv(c, c) for _ in WIDTHS[1:])

    def forward(self, maps):
        maps = list(maps)[::-1] if self.up else list(maps)
        made = [maps[0]]
        for block, x in zip(self.blocks, maps[1:], strict=True):
            before = up_to(made[-1], x) if self.up else F.max_pool2d(made[-1], 2)
            made.append(block(x + before))
        return made[::-1] if self.up else made


class Laterals(nn.Module):
    def __init__(self, c, *ways):
        super().__init__()
        self.encoder, self.layers = Encoder(WIDTHS), nn.ModuleList(nn.Conv2d(width, c, 1) for width in WIDTHS)
        self.ways = nn.ModuleList(Way(c, up) for up in ways)

    def forward(self, x):
        maps = [layer(y) for layer, y in zip(self.layers, self.encoder(x), strict=True)]
        for way in self.ways:
            maps = way(maps)
        return maps


@family(
    "up, down and up again, the finest level alone",
    ["neck.ways.1.blocks.2", "neck.ways.2.blocks.0", "neck.ways.2.blocks.1", "neck.ways.2.blocks.2"],
    source="fourteenth",
)
class FinestAlone(nn.Module):
    """The coarsest level was summed on the way down, by a module of another list than those of the way up."""

    def __init__(self):
        super().__init__()
        self.neck, self.head = Laterals(16, True, False, True), nn.Conv2d(16, 3, 1)

    def forward(self, x):
        return self.head(self.neck(x)[0])


@family(
    "up and down again, laid side by side and projected",
    ["neck.ways.1.blocks.2", "neck.ways.1.blocks.1", "neck.ways.1.blocks.0", "project"],
    source="fourteenth",
)
class Projected(nn.Module):
    """What a projection makes of all levels is the finest stage, and not the map of that size among them."""

    def __init__(self):
        super().__init__()
        self.neck, self.project, self.head = Laterals(16, True, False), conv(64, 24, 1), nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x):
        maps = self.neck(x)
        return self.head(self.project(torch.cat([up_to(y, x) for y in maps], 1)))


@family(
    "up and down again, each level brought up by a block",
    ["neck.ways.1.blocks.2", "neck.ways.1.blocks.1", "neck.ways.1.blocks.0", "in:head"],
    source="fourteenth",
)
class BroughtUp(nn.Module):
    """A block of layers for each level goes up to the finest, step by step; their sum has the head."""

    def __init__(self, c=16):
        super().__init__()
        self.neck, self.drop, self.head = Laterals(c, True, False), nn.Dropout2d(0.1), nn.Conv2d(c, 3, 1)
        steps = [[layer for _ in range(i) for layer in (*conv(c, c), nn.Upsample(scale_factor=2))] for i in range(4)]
        self.bring = nn.ModuleList(nn.Sequential(*conv(c, c), *more) for more in steps)

    def forward(self, x):
        maps = [block(y) for block, y in zip(self.bring, self.neck(x), strict=True)]
        return self.head(self.drop(maps[0] + maps[1] + maps[2] + maps[3]))
