"""Parallel branches of several sizes, each of which is added to all others, again and again."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import conv, twice


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.work = nn.Sequential(*conv(c, c), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x):
        return torch.relu(x + self.work(x))


class Exchange(nn.Module):
    """A block works on each branch; then each branch gets the sum of all, and the first few are returned."""

    def __init__(self, *widths, returned):
        super().__init__()
        self.blocks = nn.ModuleList(map(Residual, widths))
        self.ways = nn.ModuleList(
            nn.ModuleList(self.way(i, j, a, b) for j, a in enumerate(widths)) for i, b in enumerate(widths[:returned])
        )

    @staticmethod
    def way(i, j, given, made):
        down = [layer for _ in range(j, i - 1) for layer in conv(given, given, 3, 2)]
        up = (nn.Conv2d(given, made, 1, bias=False), nn.BatchNorm2d(made), nn.Upsample(scale_factor=2 ** (j - i)))
        return nn.Identity() if i == j else nn.Sequential(*up) if i < j else nn.Sequential(*down, last(given, made))

    def forward(self, maps):
        maps = [block(y) for block, y in zip(self.blocks, maps, strict=True)]
        return [torch.relu(sum(way(y) for way, y in zip(ways, maps, strict=True))) for ways in self.ways]


def last(given, made):
    return conv(given, made, 3, 2)[:2]


class Branches(nn.Module):
    """Three branches with two exchanges before the last one."""

    def __init__(self, stride, returned):
        super().__init__()
        self.stem = conv(1, 8, 3, stride)
        self.down = nn.ModuleList([conv(8, 8), conv(8, 16, 3, 2), conv(16, 24, 3, 2)])
        self.two = Exchange(8, 16, returned=2)
        self.three = nn.ModuleList([Exchange(8, 16, 24, returned=3), Exchange(8, 16, 24, returned=returned)])

    def forward(self, x):
        x = self.stem(x)
        maps = self.two([self.down[0](x), self.down[1](x)])
        maps = [*maps, self.down[2](maps[1])]
        for block in self.three:
            maps = block(maps)
        return maps


WORKED = [f"net.three.1.blocks.{i}" for i in (2, 1)]


@family(
    "branches exchanged, the finest returned",
    [*WORKED, "net.three.1@[0]"],
    (1, 1, 48, 48),
    ladders=[["net.three.1.ways.0.2.1", "net.three.1.ways.0.1.1", "net.three.1@[0]"]],
    source="twentieth",
)
class Finest(nn.Module):
    """As HRNet's for poses."""

    def __init__(self):
        super().__init__()
        self.net, self.head = Branches(2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(self.net(x)[0])


@family(
    "branches exchanged, two laid side by side",
    ["net.three.1.blocks.2", "net.three.1@[1]", "net.three.1@[0]", "up"],
    (1, 1, 48, 48),
    alts={2: ["in:up"]},
    source="twentieth",
)
class Two(nn.Module):
    """What goes up next is given both at once."""

    def __init__(self):
        super().__init__()
        self.net, self.up = Branches(2, 2), nn.Sequential(nn.ConvTranspose2d(24, 8, 2, 2), *twice(8, 8))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        fine, coarse = self.net(x)
        return self.head(self.up(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], 1)))
