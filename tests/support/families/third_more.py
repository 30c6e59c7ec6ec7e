"""The third list, networks beside medicine: saliency, depth, deblurring, detection's pyramids."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to


@family("deep layer aggregation", ["rounds.0@[1]", "rounds.1@[2]", "rounds.2@[3]"], (1, 3, 64, 64))
class Dla(nn.Module):
    """Neighbours are merged again and again, each round from one level finer; its last map goes on."""

    class Round(nn.Module):
        def __init__(self, made, *given):
            super().__init__()
            self.project = nn.ModuleList(conv(c, made, 1) for c in given)
            self.up = nn.ModuleList(nn.ConvTranspose2d(made, made, 4, 2, 1, groups=made) for _ in given)
            self.node = nn.ModuleList(conv(2 * made, made) for _ in given)

        def forward(self, maps):
            made = list(maps)
            for i, (project, up, node) in enumerate(zip(self.project, self.up, self.node, strict=True), 1):
                made[i] = node(torch.cat([made[i - 1], up(project(made[i]))], 1))
            return made

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.rounds = nn.ModuleList([self.Round(24, 32), self.Round(16, 24, 24), self.Round(8, 16, 16, 16)])
        self.head = nn.Sequential(conv(8, 16), nn.Conv2d(16, 5, 1))

    def forward(self, x):
        maps = list(self.encoder(x))
        for i, merge in enumerate(self.rounds):
            maps[2 - i :] = merge(maps[2 - i :])
        return self.head(maps[-1])


@family(
    "F3Net",
    ["second.0@[1]", "second.1@[1]", "second.2@[1]"],
    (1, 3, 64, 64),
    ladders=[["in:second.0", "second.0@[1]", "second.1@[1]", "second.2@[1]"]],
)
class F3Net(nn.Module):
    """Neighbouring levels are multiplied into each other; what the first decoder makes is fed back to all levels."""

    class Cross(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.h1, self.h2, self.h3, self.v1, self.v2, self.v3 = (conv(c, c) for _ in range(6))

        def forward(self, left, down):
            h, v = self.h1(left), self.v1(up_to(down, left))
            fused = self.h2(h) * self.v2(v)
            return self.h3(fused) + h, self.v3(fused) + v

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.squeeze = nn.ModuleList(conv(c, 8, 1) for c in (8, 16, 24, 32))
        self.first, self.second = (nn.ModuleList(self.Cross(8) for _ in range(3)) for _ in range(2))
        self.out1, self.out2 = (nn.Conv2d(8, 1, 3, padding=1) for _ in range(2))
        self.sides = nn.ModuleList(nn.Conv2d(8, 1, 3, padding=1) for _ in range(3))

    def decode(self, crosses, maps, back=None):
        maps = [m if back is None else m + F.interpolate(back, m.shape[2:], mode="bilinear") for m in maps]
        down, made = maps[3], [maps[3]]
        for cross, left in zip(crosses, maps[2::-1], strict=True):
            left, down = cross(left, down)
            made.insert(0, left)
        return made, down

    def forward(self, x):
        maps = [squeeze(y) for squeeze, y in zip(self.squeeze, self.encoder(x), strict=True)]
        maps, first = self.decode(self.first, maps)
        maps, second = self.decode(self.second, maps, first)
        sides = [up_to(side(y), x) for side, y in zip(self.sides, maps[1:], strict=True)]
        return up_to(self.out1(first), x), up_to(self.out2(second), x), *sides


@family("MIMO-UNet", ["decoder.0", "decoder.1", "decoder.2"], (1, 3, 32, 32))
class Mimo(nn.Module):
    """Smaller images enter at each level, sharp images leave each level; skips are mixed from all levels."""

    class Blocks(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.one, self.two = twice(c, c), twice(c, c)

        def forward(self, x):
            x = x + self.one(x)
            return x + self.two(x)

    def __init__(self):
        super().__init__()
        self.inp = nn.ModuleList([conv(3, 8), conv(8, 16, stride=2), conv(16, 24, stride=2)])
        self.scm, self.fam = nn.ModuleList([conv(3, 16), conv(3, 24)]), nn.ModuleList([conv(16, 16), conv(24, 24)])
        self.encoder, self.decoder = (nn.ModuleList(map(self.Blocks, cs)) for cs in ((8, 16, 24), (24, 16, 8)))
        self.aff = nn.ModuleList(nn.Sequential(conv(48, c, 1), nn.Conv2d(c, c, 3, 1, 1)) for c in (8, 16))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((24, 16), (16, 8)))
        self.squeeze = nn.ModuleList([conv(32, 16, 1), conv(16, 8, 1)])
        self.out = nn.ModuleList(nn.Conv2d(c, 3, 3, 1, 1) for c in (24, 16, 8))

    def forward(self, x):
        images = [x, F.interpolate(x, scale_factor=0.5), F.interpolate(x, scale_factor=0.25)]
        y, maps = self.encoder[0](self.inp[0](x)), []
        maps.append(y)
        for i in (1, 2):
            y, z = self.inp[i](y), self.scm[i - 1](images[i])
            y = self.encoder[i](y + self.fam[i - 1](y * z))
            maps.append(y)
        skips = [
            aff(torch.cat([F.interpolate(m, maps[i].shape[2:]) for m in maps], 1)) for i, aff in enumerate(self.aff)
        ]
        y = self.decoder[0](y)
        outputs = [self.out[0](y) + images[2]]
        for i in (1, 2):
            y = self.decoder[i](self.squeeze[i - 1](torch.cat([self.up[i - 1](y), skips[2 - i]], 1)))
            outputs.append(self.out[i](y) + images[2 - i])
        return outputs


@family("Monodepth2", ["convs.1", "convs.3", "convs.5", "convs.7"], (1, 3, 64, 64))
class Monodepth(nn.Module):
    """Disparities at four scales, in a dictionary whose keys are tuples; two layers for each level in one list."""

    class Conv(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.pad, self.conv = nn.ReflectionPad2d(1), nn.Conv2d(given, made, 3)

        def forward(self, x):
            return F.elu(self.conv(self.pad(x)), inplace=True)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        widths = ((32, 24), (48, 24), (24, 16), (32, 16), (16, 8), (16, 8), (8, 8), (8, 8))
        self.convs = nn.ModuleList(self.Conv(a, b) for a, b in widths)
        self.disp = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1, padding_mode="reflect") for c in (24, 16, 8, 8))

    def forward(self, x):
        *skips, y = self.encoder(x)
        outputs = {}
        for i in range(4):
            y = [F.interpolate(self.convs[2 * i](y), scale_factor=2, mode="nearest")]
            if skips:
                y += [skips.pop()]
            y = self.convs[2 * i + 1](torch.cat(y, 1))
            outputs["disp", 3 - i] = torch.sigmoid(self.disp[i](y))
        return outputs


@family(
    "SwiftNet",
    ["spp", "up.0", "up.1", "up.2"],
    (2, 3, 64, 64),
    alts={i + 1: [f"up.{i}.blend"] for i in range(3)},
    ladders=[["up.0", "up.1", "up.2"]],
)
class SwiftNet(nn.Module):
    """A pooling pyramid at the bottom; lateral sums, each blended; pre-activated layers."""

    class Pyramid(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.into, self.out = conv(c, 16, 1), conv(28, 16, 1)
            self.levels = nn.ModuleList(conv(16, 4, 1) for _ in range(3))

        def forward(self, x):
            x = self.into(x)
            grids = [F.adaptive_avg_pool2d(x, n) for n in (4, 2, 1)]
            return self.out(
                torch.cat([x, *(up_to(level(g), x) for level, g in zip(self.levels, grids, strict=True))], 1)
            )

    class Up(nn.Module):
        def __init__(self, skip):
            super().__init__()
            self.bottleneck = nn.Sequential(nn.BatchNorm2d(skip), nn.ReLU(), nn.Conv2d(skip, 16, 1))
            self.blend = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))

        def forward(self, x, skip):
            skip = self.bottleneck(skip)
            return self.blend(up_to(x, skip) + skip)

    def __init__(self):
        super().__init__()
        self.encoder, self.spp = Encoder((8, 16, 24, 32), 3, stem=2), self.Pyramid(32)
        self.up = nn.ModuleList(self.Up(c) for c in (24, 16, 8))
        self.logits = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 5, 1))

    def forward(self, x):
        *skips, y = self.encoder(x)
        y = self.spp(y)
        for up in self.up:
            y = up(y, skips.pop())
        return up_to(self.logits(y), x)


@family(
    "NAS-FPN",
    ["cells.1@[2]", "cells.1@[1]", "cells.1@[0]"],
    (2, 3, 64, 64),
)
class NasFpn(nn.Module):
    """A searched pyramid: sums and gated sums of levels in an odd order, twice; the head takes all levels, stacked."""

    class Cell(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)) for _ in range(4)
            )

        def gated(self, a, b):
            gate = torch.sigmoid(F.adaptive_max_pool2d(b, 1))
            return a + gate * b if a.shape == b.shape else F.adaptive_max_pool2d(a, b.shape[2:]) * gate + b

        def forward(self, maps):
            p3, p4, p5 = maps
            middle = self.convs[0](self.gated(p4, F.interpolate(p5, scale_factor=2)))
            out3 = self.convs[1](F.interpolate(middle, scale_factor=2) + p3)
            out4 = self.convs[2](F.max_pool2d(out3, 2) + middle)
            out5 = self.convs[3](self.gated(F.max_pool2d(out4, 2), p5))
            return out3, out4, out5

    def __init__(self):
        super().__init__()
        self.encoder, self.lateral = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (16, 24, 32)),
        )
        self.cells, self.seg = (
            nn.ModuleList([self.Cell(16), self.Cell(16)]),
            nn.Sequential(conv(48, 16), nn.Conv2d(16, 5, 1)),
        )

    def forward(self, x):
        maps = [lateral(y) for lateral, y in zip(self.lateral, self.encoder(x)[1:], strict=True)]
        for cell in self.cells:
            maps = cell(maps)
        return up_to(self.seg(torch.cat([maps[0], *(up_to(m, maps[0]) for m in maps[1:])], 1)), x)


@family("recurrent bottom", ["up.0", "up.1"], (1, 3, 32, 32))
class Recurrent(nn.Module):
    """The coarsest map is refined three times by one recurrent unit before a ladder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.update = (
            Encoder((8, 16, 24), 3),
            nn.ModuleList([nn.Conv2d(48, 24, 3, padding=1) for _ in range(3)]),
        )
        self.up, self.head = nn.ModuleList([twice(40, 16), twice(24, 8)]), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        *skips, context = self.encoder(x)
        y = torch.tanh(context)
        for _ in range(3):
            both = torch.cat([y, context], 1)
            forget, write = torch.sigmoid(self.update[0](both)), torch.sigmoid(self.update[1](both))
            y = (1 - forget) * y + forget * torch.tanh(self.update[2](torch.cat([write * y, context], 1)))
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2), skips.pop()], 1))
        return self.head(y)
