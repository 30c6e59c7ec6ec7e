"""Levels of an encoder that layers work on each by itself, before they are brought to one size and merged."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


@family("tokens of each level projected", ["linear.2", "linear.1", "fuse"], (1, 3, 64, 64), source="eighteenth")
class ProjectedTokens(nn.Module):
    """As SegFormer's head."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 3, stem=2)
        self.linear = nn.ModuleList(nn.Linear(c, 16) for c in (8, 16, 24))
        self.fuse, self.head = conv(48, 16, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        found = self.encoder(x)
        made = []
        for linear, f in zip(self.linear, found, strict=True):
            y = linear(f.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(f), -1, *f.shape[2:])
            made.append(up_to(y, found[0]))
        return up_to(self.head(self.fuse(torch.cat(made[::-1], 1))), x)


SIDES = [f"sides.{i}" for i in (2, 1, 0)]


@family("each level enlarged to the full size, and cropped", SIDES, (1, 1, 36, 36), source="eighteenth")
class Enlarged(nn.Module):
    """As DRIU, of which no level has the full size; valid convolutions before."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        self.down = nn.ModuleList([conv(8, 8), conv(8, 16, 3, 2), conv(16, 24, 3, 2)])
        self.sides = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in (8, 16, 24))
        self.up = nn.ModuleList(nn.ConvTranspose2d(4, 4, 2 * s, s, bias=False) for s in (2, 4, 8))
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        y, made = self.stem(x), []
        for down, side, up in zip(self.down, self.sides, self.up, strict=True):
            y = down(y)
            made.append(up(side(y))[..., : x.shape[-2], : x.shape[-1]])
        return self.head(torch.cat(made, 1))


class Branches(nn.Module):
    """Convolutions of several shapes and a norm, summed and activated, as in RepVGG."""

    def __init__(self, given, c):
        super().__init__()
        self.square, self.tall = nn.Conv2d(given, c, 3, padding=1), nn.Conv2d(given, c, (3, 1), padding=(1, 0))
        self.wide = nn.Conv2d(given, c, (1, 3), padding=(0, 1))

    def forward(self, x):
        return F.relu(self.square(x) + self.tall(x) + self.wide(x))


@family(
    "each level worked on by branches, laid side by side",
    ["reduce.2", "reduce.1", "work"],
    (1, 3, 64, 64),
    alts={2: ["reduce.0"]},
    source="eighteenth",
)
class Branched(nn.Module):
    """As FAST."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 3, stem=2)
        self.reduce = nn.ModuleList(Branches(c, 8) for c in (8, 16, 24))
        self.work, self.head = conv(24, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        found = self.encoder(x)
        made = [up_to(reduce(f), found[0]) for reduce, f in zip(self.reduce, found, strict=True)]
        return up_to(self.head(self.work(torch.cat(made, 1))), x)


class SideLogits(nn.Module):
    """Logits of each level of an encoder are resized and laid side by side, and all are returned (HED)."""

    def __init__(self, classes):
        super().__init__()
        self.blocks = nn.ModuleList(self.block(a, b) for a, b in ((1, 8), (8, 16), (16, 24)))
        self.sides = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in (8, 16, 24))
        self.fuse = nn.Conv2d(3 * classes, classes, 1)

    def block(self, given, made):
        return nn.Sequential(nn.Conv2d(given, made, 3, 1, 1), nn.ReLU(), nn.Conv2d(made, made, 3, 1, 1), nn.ReLU())

    def forward(self, x):
        size, logits = x.shape[2:], []
        for i, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            x = block(F.max_pool2d(x, 2) if i else x)
            logits.append(F.interpolate(side(x), size))
        return [self.fuse(torch.cat(logits, 1)), *logits]


for _classes in (1, 2):
    family(
        f"side logits of an encoder, {_classes} of them",
        ["blocks.2", "blocks.1", "blocks.0"],
        source="twenty-third",
        args=(_classes,),
    )(SideLogits)
