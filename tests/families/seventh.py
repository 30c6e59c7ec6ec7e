"""Kinds that packages beside the other lists brought up: written after the rules, to keep them."""

import torch
from torch import nn
from torch.nn import functional as F

from families.base import Encoder, conv, family, twice


class Lateral(nn.Module):
    """A map of the encoder, projected, and the coarser level, added."""

    def __init__(self, given):
        super().__init__()
        self.project = nn.Conv2d(given, 16, 1)

    def forward(self, here, above):
        return self.project(here) + F.interpolate(above, scale_factor=2)


@family("padded head", ["net.12", "net.15"], (1, 1, 32, 32))
class PaddedHead(nn.Module):
    """An encoder-decoder in one sequence of layers; one of them pads, before the first and the last layer."""

    def __init__(self):
        super().__init__()
        pad = nn.ReflectionPad2d(3)
        layers = [
            pad,
            nn.Conv2d(1, 8, 7),
            *conv(8, 16, stride=2),
            *conv(16, 32, stride=2),
            nn.Conv2d(32, 32, 3, padding=1),
        ]
        layers.append(nn.ReLU())
        for given, made in ((32, 16), (16, 8)):
            layers += [nn.ConvTranspose2d(given, made, 3, 2, 1, 1), nn.BatchNorm2d(made), nn.ReLU()]
        self.net = nn.Sequential(*layers, pad, nn.Conv2d(8, 3, 7))

    def forward(self, x):
        return self.net(x)


@family("the last block makes the logits", ["blocks.0", "blocks.1", "blocks.2"], (1, 1, 32, 32))
class LastBlock(nn.Module):
    """Blocks of two layers on each level; the finest of them ends in as many channels as there are classes."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.blocks = nn.ModuleList([twice(48 + 32, 32), twice(32 + 16, 16)])
        self.blocks.append(nn.Sequential(conv(16 + 8, 3), nn.Conv2d(3, 3, 3, padding=1)))

    def forward(self, x):
        *skips, x = self.encoder(x)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return x


@family("a skip beside the last block", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
class SkipBesideLast(nn.Module):
    """Blocks that go up and work; what they make is laid beside a skip, for the next block or the head."""

    def __init__(self):
        super().__init__()
        self.encoder, widths = Encoder(), ((48, 32), (64, 16), (32, 8))
        self.up = nn.ModuleList(nn.Sequential(nn.ConvTranspose2d(a, a, 2, 2), conv(a, b)) for a, b in widths)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = torch.cat([up(x), skip], 1)
        return self.head(x)


@family("the head goes up like the other levels", ["decode.up_0", "decode.up_1", "decode.up_2"], (1, 1, 32, 32))
class PeerHead(nn.Module):
    """Each level is one layer that goes up; the last of them makes the logits."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(conv(1, 8, stride=2), conv(8, 16, stride=2), conv(16, 32, stride=2))
        self.decode = nn.Sequential()
        for i, (given, made) in enumerate(((32, 16), (16, 8), (8, 3))):
            level = nn.Sequential(nn.ConvTranspose2d(given, made, 3, 2, 1, 1))
            self.decode.add_module(f"up_{i}", level.extend([nn.InstanceNorm2d(made), nn.PReLU()] if i < 2 else []))

    def forward(self, x):
        return self.decode(self.encode(x))


@family("levels laid side by side for the head", ["p4", "p3", "p2", "p1"], (1, 1, 64, 64), alts={3: ["in:head"]})
class SideBySide(nn.Module):
    """A pyramid whose levels are worked on again, brought to one size and laid side by side: that the head is given."""

    def __init__(self):
        super().__init__()
        self.encoder, self.p4 = Encoder(stem=2), nn.Conv2d(48, 16, 1)
        self.p1, self.p2, self.p3 = Lateral(8), Lateral(16), Lateral(32)
        self.ahead, self.head = nn.ModuleList(), nn.Conv2d(32, 3, 3, padding=1)
        for times in (3, 2, 1, 0):
            steps = [layer for _ in range(times) for layer in (conv(8, 8), nn.Upsample(scale_factor=2))]
            self.ahead.append(nn.Sequential(conv(16, 8), *steps))

    def forward(self, x):
        a, b, c, d = self.encoder(x)
        d = self.p4(d)
        c = self.p3(c, d)
        b = self.p2(b, c)
        sides = [ahead(m) for ahead, m in zip(self.ahead, (d, c, b, self.p1(a, b)), strict=True)]
        return F.interpolate(self.head(torch.cat(sides, 1)), scale_factor=2)


@family("one level, and a head that goes up by four", ["up", "head"], (1, 1, 32, 32))
class OneLevel(nn.Module):
    """Patches, layers on them, and two layers that go up by four each, the last of which makes the logits."""

    def __init__(self):
        super().__init__()
        self.patch, self.body = nn.Conv2d(1, 32, 16, 16), twice(32, 32)
        self.up, self.head = nn.ConvTranspose2d(32, 16, 4, 4), nn.ConvTranspose2d(16, 3, 4, 4)

    def forward(self, x):
        return self.head(self.up(self.body(self.patch(x))))
