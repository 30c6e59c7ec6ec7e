"""Kinds that published networks brought up after the other lists: written after the rules, to keep them."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice


@family("depth decoder", ["blocks.1", "blocks.3", "blocks.5", "blocks.7"], (1, 3, 64, 64))
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
    "selective fusion", _FUSIONS, (1, 3, 64, 64), ladders=[["lateral.3", *_FUSIONS], ["lateral.3", *_FUSIONS, "head.1"]]
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


@family("up by a matrix", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
class MatrixUp(nn.Module):
    """Doubled by a product with ones, added to projected skips; the bottom is the encoder's."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.project = nn.ModuleList([nn.Conv2d(32, 48, 1), nn.Conv2d(16, 32, 1), nn.Conv2d(8, 16, 1)])
        self.up = nn.ModuleList([twice(48, 32), twice(32, 16), twice(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)
        self.register_buffer("ones", torch.ones(1, 2, 2))

    def double(self, x):
        b, c, h, w = x.shape
        x = torch.tensordot(x.unsqueeze(-1), self.ones, dims=1).permute(0, 1, 2, 4, 3, 5)
        return x.reshape(b, c, 2 * h, 2 * w)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for project, up, skip in zip(self.project, self.up, reversed(skips), strict=True):
            x = up(torch.stack([self.double(x), project(skip)]).sum(0))
        return self.head(x)


@family("made weights", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
class MadeWeights(nn.Module):
    """Upsampling by a kernel that is laid out anew, by channels, in every pass; a softmax after the last layer."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.up = nn.ModuleList([twice(80, 32), twice(48, 16), twice(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)
        self.register_buffer("kernel", torch.ones(4, 4) / 4)

    def double(self, x):
        weight = x.new_zeros([x.shape[1], x.shape[1], 4, 4])
        each = torch.arange(x.shape[1])
        weight[each, each] = self.kernel
        return F.conv_transpose2d(x, weight, stride=2, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(torch.cat([self.double(x), skip], 1))
        return self.head(x).softmax(1)


class UnpoolUp(nn.Module):
    """A residual block that goes up: both ways come from below."""

    def __init__(self, given, made):
        super().__init__()
        self.main = nn.Sequential(conv(given, made, 1), nn.ConvTranspose2d(made, made, 2, 2))
        self.beside = nn.Sequential(nn.Conv2d(given, made, 1), nn.BatchNorm2d(made))

    def forward(self, x):
        return torch.relu(self.main(x) + F.interpolate(self.beside(x), scale_factor=2))


@family("residual ascents", ["works.0", "works.1"], (1, 1, 32, 32), ladders=[["works.0", "works.1", "head"]])
class ResidualAscents(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 32), stem=2)
        self.ups = nn.ModuleList([UnpoolUp(32, 16), UnpoolUp(16, 8)])
        self.works = nn.ModuleList([twice(16, 16), twice(8, 8)])
        self.head = nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, x):
        x = self.encoder(x)[-1]
        for up, work in zip(self.ups, self.works, strict=True):
            x = work(up(x))
        return self.head(x)


@family("complex spectrum", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
class Spectrum(nn.Module):
    """A filter in the frequencies, whose real and imaginary parts are worked on."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.mix = nn.Conv2d(16, 16, 1)
        self.up = nn.ModuleList([twice(80, 32), twice(48, 16), twice(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def filtered(self, x):
        found = torch.fft.rfftn(x, dim=(-2, -1))
        real, imaginary = self.mix(torch.cat([found.real, found.imag], 1)).chunk(2, 1)
        return x + torch.fft.irfftn(torch.complex(real, imaginary), s=x.shape[-2:], dim=(-2, -1))

    def forward(self, x):
        first, *skips, x = self.encoder(x)
        skips = [self.filtered(first), *skips]
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x)
