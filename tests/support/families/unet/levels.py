"""U-Nets that end their levels in a way of their own: blocks that go up, prepare the next level or hold the head."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Added(nn.Module):
    """The same, of as many channels."""

    def __init__(self, width):
        super().__init__()
        self.main = nn.Sequential(conv(width, width), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x):
        return x + self.main(x)


@family(
    "lists of modules that begin below", ["ascent.1.1", "ascent.2.1", "ascent.3.1"], (1, 1, 32, 32), source="eighth"
)
class BeginsBelow(nn.Module):
    """Each level of the decoder is a list of modules; that of the bottleneck has a block as well, and no skip."""

    def __init__(self, widths=(8, 16, 32, 48)):
        super().__init__()
        self.descent, self.ascent = nn.ModuleList(), nn.ModuleList()
        for i, (given, made) in enumerate(zip((1, *widths), widths, strict=False)):
            first = nn.Conv2d(given, made, 3, stride=2 if i else 1, padding=1)
            self.descent.append(nn.ModuleList([first, Added(made)]))
            last = nn.Upsample(scale_factor=2) if i else nn.Conv2d(made, 3, 3, padding=1)
            level = nn.ModuleList([Added(made), last])
            if i < len(widths) - 1:
                level.insert(0, nn.Conv2d(made + widths[i + 1], made, 3, padding=1))
            self.ascent.insert(0, level)

    def forward(self, x):
        skips = []
        for i, level in enumerate(self.descent):
            if i:
                skips.append(x)
            for module in level:
                x = module(x)
        for level in self.ascent:
            for module in level:
                x = module(x)
            if skips:
                x = torch.cat([skips.pop(), x], 1)
        return x


@family("blocks that project what they are given", ["up.0", "up.1"], (1, 1, 32, 32), source="eighth")
class Projecting(nn.Module):
    """Each block projects a finer and a coarser map, gates both by each other and adds them."""

    class Block(nn.Module):
        def __init__(self, fine, coarse, made):
            super().__init__()
            self.fine = nn.Sequential(nn.Conv2d(fine, made, 1, bias=False), nn.BatchNorm2d(made))
            self.coarse = nn.Sequential(nn.Conv2d(coarse, made, 1, bias=False), nn.BatchNorm2d(made))
            self.channels, self.places = nn.Conv2d(made, made, 1), nn.Conv2d(1, 1, 1)

        def forward(self, fine, coarse):
            fine, coarse = self.fine(fine), self.coarse(coarse)
            channels = self.channels(F.adaptive_avg_pool2d(coarse, 1)).sigmoid()
            places = self.places(fine.mean(1, keepdim=True)).sigmoid()
            return F.interpolate(coarse, fine.shape[2:], mode="bilinear") * places + fine * channels

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 32))
        self.up = nn.ModuleList([self.Block(16, 32, 16), self.Block(8, 16, 8)])
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(skip, x)
        return self.head(x)


@family("the last block goes up and makes the logits", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="eighth")
class LastGoesUp(nn.Module):
    """Blocks that go up and work; a skip is laid beside what they make. The last is a block like them."""

    def __init__(self):
        super().__init__()
        self.encoder, self.up = Encoder(), nn.ModuleList()
        for given, made in ((48, 32), (64, 16), (32, 3)):
            self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), *twice(given, 16)[:3], nn.Conv2d(16, made, 1)))

    def forward(self, x):
        _, *skips, x = self.encoder(x)
        for up, skip in zip(self.up, reversed(skips), strict=False):
            x = torch.cat([up(x), skip], 1)
        return self.up[2](x)


class Residual(nn.Module):
    """Two layers whose result is added to what they are given, projected if the channels differ."""

    def __init__(self, given, made):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.ReLU(), nn.Conv2d(made, made, 3, padding=1))
        self.skip = nn.Identity() if given == made else nn.Conv2d(given, made, 1, bias=False)

    def forward(self, x):
        return self.main(x) + self.skip(x)


@family("residual blocks up to the end", ["up.1", "up.3", "up.5"], (1, 1, 32, 32), alts={2: ["end"]}, source="eighth")
class ResidualToTheEnd(nn.Module):
    """The ways past the residual blocks are bare, and the last block makes the logits, with a projection beside it."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.up = nn.ModuleList()
        for given, made in ((48, 32), (32, 16), (16, 8)):
            self.up += [Residual(given + made, made), Residual(made, made)]
        self.end = Residual(8, 3)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for i, skip in enumerate(reversed(skips)):
            x = self.up[2 * i](torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
            x = self.up[2 * i + 1](x)
        return self.end(x)


@family("padded head", ["net.12", "net.15"], (1, 1, 32, 32), source="seventh")
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


@family("the last block makes the logits", ["blocks.0", "blocks.1", "blocks.2"], (1, 1, 32, 32), source="seventh")
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


@family("a skip beside the last block", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="seventh")
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


@family(
    "the head goes up like the other levels",
    ["decode.up_0", "decode.up_1", "decode.up_2"],
    (1, 1, 32, 32),
    source="seventh",
)
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


@family("one level, and a head that goes up by four", ["up", "head"], (1, 1, 32, 32), source="seventh")
class OneLevel(nn.Module):
    """Patches, layers on them, and two layers that go up by four each, the last of which makes the logits."""

    def __init__(self):
        super().__init__()
        self.patch, self.body = nn.Conv2d(1, 32, 16, 16), twice(32, 32)
        self.up, self.head = nn.ConvTranspose2d(32, 16, 4, 4), nn.ConvTranspose2d(16, 3, 4, 4)

    def forward(self, x):
        return self.head(self.up(self.body(self.patch(x))))


@family("the last block holds the head too", ["blocks.0", "blocks.1.0"], (1, 1, 32, 32), source="seventh")
class HeadInside(nn.Module):
    """Blocks on each level; the finest is one of a sequence with the head."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 32))
        self.blocks = nn.ModuleList([twice(32 + 16, 16), nn.Sequential(twice(16 + 8, 8), nn.Conv2d(8, 3, 1))])

    def forward(self, x):
        *skips, x = self.encoder(x)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return x


@family("depth decoder", ["blocks.1", "blocks.3", "blocks.5", "blocks.7"], (1, 3, 64, 64), source="sixth")
class DepthDecoder(nn.Module):
    """Two blocks a level, the second of which only prepares the next; logits of its own at all levels but one."""

    def __init__(self):
        super().__init__()
        widths = (24, 16, 12, 8)
        self.encoder, skips = Encoder((8, 16, 24, 32, 48), 3), (32, 24, 16, 8)
        self.blocks = nn.ModuleList()
        for given, made, skip in zip((48, *widths), widths, skips, strict=False):
            self.blocks += [conv(given, made), conv(made + skip, made)]
        self.heads = nn.ModuleList(nn.Conv2d(width, 2, 3, padding=1) for width in widths[1:])

    def forward(self, x):
        *skips, x = self.encoder(x)
        found = {}
        for i, skip in enumerate(reversed(skips)):
            x = F.interpolate(self.blocks[2 * i](x), scale_factor=2)
            x = self.blocks[2 * i + 1](torch.cat([x, skip], 1))
            if i:
                found["disparity", 3 - i] = self.heads[i - 1](x)
        return found


class Fusion(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Sequential(conv(2 * width, width), nn.Conv2d(width, 2, 1), nn.Sigmoid())

    def forward(self, here, above):
        gate = self.gate(torch.cat([here, above], 1))
        return here * gate[:, :1] + above * gate[:, 1:]


_FUSIONS = ["fusions.0", "fusions.1", "fusions.2"]


@family(
    "selective fusion",
    _FUSIONS,
    (1, 3, 64, 64),
    ladders=[["lateral.3", *_FUSIONS], ["lateral.3", *_FUSIONS, "head.1"]],
    source="sixth",
)
class SelectiveFusion(nn.Module):
    """Gated sums end the levels; at the end a map passes a level on which nothing is made."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=4)
        self.lateral = nn.ModuleList(nn.Conv2d(width, 8, 1) for width in (8, 16, 24, 32))
        self.fusions = nn.ModuleList(Fusion(8) for _ in range(3))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x):
        *skips, x = (lateral(m) for lateral, m in zip(self.lateral, self.encoder(x), strict=True))
        for fusion, skip in zip(self.fusions, reversed(skips), strict=True):
            x = fusion(skip, self.up(x))
        return self.head(self.up(self.up(x)))
