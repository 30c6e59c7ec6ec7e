"""Encoder, pyramid and head one after another in an nn.Sequential, where they stand in one place."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import Encoder, up_to

WIDTHS = (8, 16, 24, 32)


class Neck(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, c, 1) for width in WIDTHS)
        self.smooth = nn.ModuleList(nn.Conv2d(c, c // 2, 3, padding=1) for _ in WIDTHS)

    def forward(self, maps):
        sums = [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]
        for i in (2, 1, 0):
            sums[i] = sums[i] + up_to(sums[i + 1], sums[i])
        levels = [layer(x) for layer, x in zip(self.smooth, sums, strict=True)]
        return torch.cat([up_to(x, levels[0]) for x in levels], 1)


@family("a pyramid in a sequence", [f"1.smooth.{i}" for i in (3, 2, 1, 0)], source="sixteenth")
class InSequence(nn.Sequential):
    """The coarsest level is only smoothed and added up; the modules around the pyramid are no others of its kind."""

    def __init__(self, c=16):
        super().__init__(Encoder(WIDTHS), Neck(c), nn.Conv2d(2 * c, 3, 3, padding=1))
