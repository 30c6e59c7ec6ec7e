"""Families of the ninth round: what a network does between two levels, in its own forward()."""

import torch
import torch.nn.functional as F
from torch import nn

from support.families.base import Encoder, conv, family


@family("channels made before they are laid out", ["block1", "norm"], (1, 1, 64, 64), alts={1: ["block0"]})
class LaidOut(nn.Module):
    """A layer makes the channels of 4 × 4 positions, which the network then lays out before its head."""

    def __init__(self):
        super().__init__()
        self.embed, self.merge = nn.Conv2d(1, 8, 4, 4), nn.Conv2d(8, 16, 2, 2)
        self.bottom, self.down = conv(32, 32), nn.Conv2d(16, 32, 2, 2)
        self.up1, self.up0 = nn.Linear(32, 64), nn.Linear(16, 32)
        self.block1, self.block0 = conv(32, 16), conv(16, 8)
        self.norm, self.expand, self.head = nn.BatchNorm2d(8), nn.Linear(8, 128), nn.Conv2d(8, 3, 1)

    @staticmethod
    def laid_out(x, layer, by):
        b, _, h, w = x.shape
        x = layer(x.permute(0, 2, 3, 1)).view(b, h, w, by, by, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, h * by, w * by)

    def forward(self, x):
        a = self.embed(x)
        b = self.merge(a)
        x = self.laid_out(self.bottom(self.down(b)), self.up1, 2)
        x = self.laid_out(self.block1(torch.cat([x, b], 1)), self.up0, 2)
        x = self.norm(self.block0(torch.cat([x, a], 1)))
        return self.head(self.laid_out(x, self.expand, 4))


@family("skips added on the bottleneck's level", ["norm2", "norm3", "norm4", "in:head"])
class AddedBelow(nn.Module):
    """Light U-Nets for skin lesions: the coarsest level adds a skip, layer by layer, as all others do."""

    def __init__(self):
        super().__init__()
        widths = (8, 12, 16, 24)
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip((1, *widths), widths, strict=False))
        self.bottom, self.head = nn.Conv2d(24, 24, 3, 1, 1), nn.Conv2d(8, 1, 1)
        self.decoder1, self.norm1 = nn.Conv2d(24, 24, 3, 1, 1), nn.GroupNorm(4, 24)
        self.decoder2, self.norm2 = nn.Conv2d(24, 16, 3, 1, 1), nn.GroupNorm(4, 16)
        self.decoder3, self.norm3 = nn.Conv2d(16, 12, 3, 1, 1), nn.GroupNorm(4, 12)
        self.decoder4, self.norm4 = nn.Conv2d(12, 8, 3, 1, 1), nn.GroupNorm(4, 8)

    def forward(self, x):
        skips = []
        for layer in self.encoder:
            x = F.gelu(F.max_pool2d(layer(x), 2))
            skips.append(x)
        x = F.gelu(self.bottom(x))
        x = torch.add(F.gelu(self.norm1(self.decoder1(x))), skips[3])
        x = torch.add(F.gelu(F.interpolate(self.norm2(self.decoder2(x)), scale_factor=2)), skips[2])
        x = torch.add(F.gelu(F.interpolate(self.norm3(self.decoder3(x)), scale_factor=2)), skips[1])
        x = torch.add(F.gelu(F.interpolate(self.norm4(self.decoder4(x)), scale_factor=2)), skips[0])
        return F.interpolate(self.head(x), scale_factor=2)


@family("a second U that goes down again", ["again1", "again0"])
class DownAgain(nn.Module):
    """Two U's of which the second takes skips from the first, at its bottom too."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 12, 16))
        self.up1, self.up0, self.head = conv(28, 12), conv(20, 8), nn.Conv2d(8, 2, 1)
        self.down1, self.down2 = conv(8 + 12, 12), conv(12 + 16, 16)
        self.again1, self.again0 = conv(28, 12), conv(20, 8)

    def forward(self, x):
        def up(low, high, block):
            return block(torch.cat([F.interpolate(low, scale_factor=2), high], 1))

        a, b, c = self.encoder(x)
        b = up(c, b, self.up1)
        a = up(b, a, self.up0)
        b = self.down1(torch.cat([F.max_pool2d(a, 2), b], 1))
        c = self.down2(torch.cat([F.max_pool2d(b, 2), c], 1))
        return self.head(up(up(c, b, self.again1), a, self.again0))


@family(
    "logits enlarged by layers, supervised in train mode",
    ["decoder.0.blocks", "decoder.1.blocks", "in:head"],
    (1, 3, 64, 64),
    (1, 1, 64, 64),
)
class ColourAndDepth(nn.Module):
    """Two encoders are summed; blocks work, make logits in train mode, go up, add; layers enlarge the logits by 4."""

    class Up(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.pad, self.conv = nn.ReplicationPad2d(1), nn.Conv2d(width, width, 3, groups=width)

        def forward(self, x):
            return self.conv(self.pad(F.interpolate(x, scale_factor=2)))

    class Level(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.project = conv(given, made)
            self.blocks = nn.Sequential(conv(made, made), conv(made, made))
            self.up, self.side = ColourAndDepth.Up(made), nn.Conv2d(made, 3, 1)

        def forward(self, x, skip):
            x = self.blocks(self.project(x))
            return self.up(x) + skip, self.side(x) if self.training else None

    def __init__(self):
        super().__init__()
        self.colour, self.depth = Encoder((8, 12, 16), 3, stem=4), Encoder((8, 12, 16), 1, stem=4)
        self.context, self.decoder = conv(16, 16), nn.ModuleList([self.Level(16, 12), self.Level(12, 8)])
        self.head, self.up0, self.up1 = nn.Conv2d(8, 3, 3, padding=1), self.Up(3), self.Up(3)

    def forward(self, colour, depth):
        a, b, c = map(torch.add, self.colour(colour), self.depth(depth))
        x, side1 = self.decoder[0](self.context(c), b)
        x, side0 = self.decoder[1](x, a)
        x = self.up1(self.up0(self.head(x)))
        return (x, side0, side1) if self.training else x
