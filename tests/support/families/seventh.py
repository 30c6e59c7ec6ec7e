"""Kinds that packages beside the other lists brought up: written after the rules, to keep them."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice


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


class Pools(nn.Module):
    """A map beside what it is pooled to in several sizes, all at one size again, and a layer on them."""

    def __init__(self, given, made):
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(pool, nn.Conv2d(given, 8, 1))
            for pool in (nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AdaptiveAvgPool2d(1))
        )
        self.whole, self.mix = nn.Conv2d(given, 8, 1), conv(24, 24)
        self.out, self.short = nn.Conv2d(32, made, 1), nn.Conv2d(given, made, 1)

    def forward(self, x):
        whole = self.whole(x)
        pooled = [F.interpolate(s(x), size=x.shape[2:], mode="bilinear") + whole for s in self.scales]
        found = [whole, self.mix(torch.cat(pooled, 1))]
        return self.out(torch.cat(found, 1)) + self.short(x)


@family("two branches that exchange maps", ["pools", "last"], (1, 3, 256, 256))
class TwoBranches(nn.Module):
    """One branch stays at an eighth, the other goes down; both get the other's maps, pools end the deep one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, stride=2), conv(8, 16, stride=2), conv(16, 16, stride=2))
        self.fine = nn.ModuleList(conv(16, 16) for _ in range(3))
        self.deep = nn.ModuleList(conv(a, b, stride=2) for a, b in ((16, 24), (24, 32), (32, 48)))
        self.down = nn.ModuleList(
            [conv(16, 24, stride=2), nn.Sequential(conv(16, 24, stride=2), conv(24, 32, stride=2))]
        )
        self.project = nn.ModuleList([conv(24, 16, 1), conv(32, 16, 1)])
        self.pools, self.last = Pools(48, 16), nn.Identity()
        self.head = nn.Sequential(conv(16, 16), nn.Conv2d(16, 3, 1))

    def forward(self, x):
        fine = deep = self.stem(x)
        size = fine.shape[2:]
        for i in range(2):
            deep, fine = self.deep[i](deep), self.fine[i](fine)
            deep, fine = deep + self.down[i](fine), fine + F.interpolate(self.project[i](deep), size=size)
        deep = F.interpolate(self.pools(self.deep[2](deep)), size=size)
        return self.head(self.last(self.fine[2](fine) + deep))


@family("a head of three layers", ["refine", "fuse"], (2, 3, 64, 64))
class ThreeLayers(nn.Module):
    """A shallow branch and a deep one with its mean added, fused by one layer; the head has three."""

    def __init__(self):
        super().__init__()
        self.detail = nn.Sequential(conv(3, 8, stride=2), conv(8, 8, stride=2), conv(8, 16, stride=2))
        self.encoder, self.lateral = Encoder((8, 16, 24, 32, 48), 3, stem=2), nn.Conv2d(32, 16, 1)
        self.deepest, self.refine = nn.Conv2d(48, 16, 1), conv(16, 16)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 16, 1))
        self.fuse, self.head = conv(32, 16), nn.Sequential(conv(16, 16), conv(16, 16), nn.Conv2d(16, 3, 1))

    def forward(self, x):
        *_, d, e = self.encoder(x)
        deep = F.interpolate(self.deepest(e) + self.mean(e), scale_factor=2)
        deep = self.refine(self.lateral(d) + deep)
        return self.head(self.fuse(torch.cat([self.detail(x), F.interpolate(deep, scale_factor=2)], 1)))


@family("the last block holds the head too", ["blocks.0", "blocks.1.0"], (1, 1, 32, 32))
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


class FixedUp(nn.Module):
    """A block of a level that goes up at its end, by a kernel of the map's own type; it is given a finer map too."""

    def __init__(self, given, made):
        super().__init__()
        self.work, self.narrow = twice(given, given), nn.Conv2d(given, made, 1)

    def forward(self, x, skip, time):
        x = self.narrow(self.work(torch.cat([x, skip], 1))) + time.mean((1, 2, 3), keepdim=True)
        kernel = x.new_zeros(x.shape[1], x.shape[1], 2, 2)
        kernel[range(x.shape[1]), range(x.shape[1])] = 1
        return F.conv_transpose2d(x, kernel, stride=2)


@family("up by a kernel that is made", ["ups.0.narrow", "ups.1.narrow", "last"], (1, 1, 32, 32))
class MadeKernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.ups = Encoder(), nn.ModuleList([FixedUp(48 + 48, 32), FixedUp(32 + 32, 16)])
        self.bottom, self.last, self.head = twice(48, 48), twice(16 + 16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        _, b, c, d = self.encoder(x)
        x = self.ups[1](self.ups[0](self.bottom(d), d, b), c, b)
        return F.interpolate(self.head(self.last(torch.cat([x, b], 1))), scale_factor=2)
