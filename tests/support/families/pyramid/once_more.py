"""Pyramids that go up and down again, from which a decoder goes up once more."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to
from support.families.pyramid.again import WIDTHS, Laterals, Way


class Twice(nn.Module):
    """Goes up and down again; of the levels it returns all, the coarsest too."""

    def __init__(self, c):
        super().__init__()
        self.up, self.down = Way(c, True), Way(c, False)

    def forward(self, maps):
        return self.down(self.up(maps))


@family(
    "up and down again in one block, then blocks go up and levels are laid beside",
    ["neck.down.blocks.2", "ups.0", "ups.1", "work"],
    source="seventeenth",
)
class LaidBesideGoingUp(nn.Module):
    """The coarsest level was summed on the way down; no small U, though one block goes up and down and up."""

    def __init__(self, c=12):
        super().__init__()
        self.laterals, self.neck = Laterals(c), Twice(c)
        layers = [nn.ConvTranspose2d(given, c, 2, 2, bias=False) for given in (c, 2 * c, 2 * c)]
        self.ups = nn.ModuleList(nn.Sequential(layer, nn.BatchNorm2d(c), nn.ReLU()) for layer in layers)
        self.work, self.head = twice(2 * c, c), nn.Conv2d(c, 3, 1)

    def forward(self, x):
        *maps, x = self.neck(self.laterals(x))
        for up, skip in zip(self.ups, reversed(maps), strict=True):
            x = torch.cat([up(x), skip], 1)
        return self.head(self.work(x))


@family(
    "up and down again, summed step by step, and up once more",
    ["project.3", "project.2", "project.1", "smooth", "work"],
    (1, 1, 64, 64),
    alts={0: ["neck.down.blocks.2"], 1: ["neck.down.blocks.1"], 2: ["neck.down.blocks.0"]},
    ladders=[["neck.down.blocks.2", "neck.down.blocks.1", "neck.down.blocks.0", "smooth", "work"]],
    source="seventeenth",
)
class SummedThenUp(nn.Module):
    """All levels are brought to the size of the finest and added one after the other; a level more follows."""

    def __init__(self, c=12):
        super().__init__()
        self.encoder, self.neck = Encoder(WIDTHS, stem=2), Twice(c)
        self.laterals = nn.ModuleList(nn.Conv2d(width, c, 1) for width in WIDTHS)
        self.project = nn.ModuleList(nn.Conv2d(c, 16, 1) for _ in range(4))
        self.smooth, self.work, self.head = conv(16, 16), conv(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        maps = self.neck([layer(y) for layer, y in zip(self.laterals, self.encoder(x), strict=True)])
        made, *coarser = (layer(y) for layer, y in zip(self.project, maps, strict=True))
        for y in coarser:
            made = made + up_to(y, made)
        return self.head(self.work(up_to(self.smooth(made), x)))
