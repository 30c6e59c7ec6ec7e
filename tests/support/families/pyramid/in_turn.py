"""Pyramids whose levels several modules work on in turn, all called by one forward()."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.squeeze, self.widen = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.widen(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))


class GatedPyramid(nn.Module):
    """Each level is smoothed by two layers in turn and by a gate, all of which forward() calls itself."""

    def __init__(self):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, 16, 1) for width in (8, 16, 24))
        self.deep = nn.ModuleList(nn.Conv2d(16, 16, 5, 1, 2, groups=16) for _ in range(3))
        self.point = nn.ModuleList(nn.Conv2d(16, 8, 1) for _ in range(3))
        self.gate = nn.ModuleList(Gate(8) for _ in range(3))
        self.done = nn.ModuleList(nn.Identity() for _ in range(3))

    def smooth(self, x, i):
        x = self.point[i](self.deep[i](x))
        return self.done[i](x + self.gate[i](x))

    def forward(self, maps):
        sums = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in (1, 0):
            sums[i] = sums[i] + F.interpolate(sums[i + 1], scale_factor=2)
        levels = [self.smooth(x, i) for i, x in enumerate(sums)]
        return torch.cat([F.interpolate(x, size=levels[0].shape[2:]) for x in levels], 1)


@family(
    "levels smoothed by layers in turn, a head that goes up twice",
    ["neck.done.2", "neck.done.1", "head.0", "head.1"],
    (2, 3, 64, 64),
    ladders=[["neck.done.2", "neck.done.1", "neck.done.0"], ["neck.done.2", "neck.done.1", "head.0"]],
    source="twenty-third",
)
class Lines(nn.Module):
    """Text: as DBNet with a large kernel (RepLKFPN)."""

    def __init__(self):
        super().__init__()
        self.stem, self.encoder, self.neck = conv(3, 8, stride=4), Encoder((8, 16, 24), 8), GatedPyramid()
        rise = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(conv(24, 8), rise, nn.ConvTranspose2d(8, 1, 2, 2))

    def forward(self, x):
        return self.head(self.neck(self.encoder(self.stem(x))))


class Aggregated(nn.Module):
    """From the coarsest branch on: resized, added, and two layers, on the coarsest too; all levels are returned."""

    def __init__(self, widths):
        super().__init__()
        finer = (*widths[-2::-1], widths[0])
        self.projects = nn.ModuleList(self.layers(a, b) for a, b in zip(widths[::-1], finer, strict=True))

    def layers(self, given, made):
        deep = nn.Sequential(nn.Conv2d(given, given, 3, 1, 1, groups=given), nn.BatchNorm2d(given), nn.ReLU())
        return nn.Sequential(deep, conv(given, made, 1))

    def forward(self, maps):
        found, x = [], None
        for project, branch in zip(self.projects, maps[::-1], strict=True):
            x = project(branch if x is None else branch + up_to(x, branch))
            found.append(x)
        return found[::-1]


class Exchange(nn.Module):
    """Each branch gets the sum of all, brought to its size."""

    def __init__(self, widths):
        super().__init__()
        self.change = nn.ModuleList(nn.ModuleList(nn.Conv2d(a, b, 1) for a in widths) for b in widths)

    def forward(self, maps):
        return [
            F.relu(sum(up_to(c(x), m) for c, x in zip(row, maps, strict=True)))
            for row, m in zip(self.change, maps, strict=True)
        ]


class HeadOfBranches(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.levels, self.logits = Aggregated(widths), nn.Conv2d(widths[0], 2, 1)

    def forward(self, maps):
        return self.logits(self.levels(maps)[0])


@family(
    "branches aggregated by a decoder that works on the coarsest too",
    [*(f"head.levels.projects.{i}" for i in range(3))],
    (2, 3, 64, 64),
    source="twenty-third",
)
class LiteBranches(nn.Module):
    """As LiteHRNet's head."""

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.stem, self.encoder = conv(3, 8, stride=4), Encoder(widths, 8)
        self.exchange = nn.Sequential(*(Exchange(widths) for _ in range(3)))
        self.head = HeadOfBranches(widths)

    def forward(self, x):
        return self.head(self.exchange(self.encoder(self.stem(x))))
