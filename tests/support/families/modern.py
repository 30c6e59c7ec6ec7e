"""Restoration and diffusion networks, the paper's own, and blocks of recent years."""

import dataclasses
import importlib.util
import math

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.places import ROOT


def paper() -> type:
    path = ROOT / "recipes" / "networks" / "pvt_attention.py"
    spec = importlib.util.spec_from_file_location("paper_network", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PvtAttention


@dataclasses.dataclass
class Features:
    feature_maps: tuple


@family("the paper's network", ["attend.0", "attend.1", "attend.2", "attend.3"], (1, 1, 64, 64))
def attend():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder((8, 12, 16, 24), 3, stem=2)

        def forward(self, x):
            return Features(tuple(self.encoder(x)))

    return paper()(Small(), (8, 12, 16, 24), 5)


@family("cascaded attention, several outputs", ["block4", "block3", "block2", "block1"], (1, 3, 64, 64))
class Cascade(nn.Module):
    """Gated skips, and a prediction from each of the four stages, all brought to the input's size."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 12, 16, 24), 3, stem=2)
        self.block4, self.block3, self.block2, self.block1 = conv(24, 24), conv(32, 16), conv(24, 12), conv(16, 8)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), *conv(a, b)) for a, b in ((24, 16), (16, 12), (12, 8))
        )
        self.gate = nn.ModuleList(nn.Sequential(nn.Conv2d(2 * c, 1, 1), nn.Sigmoid()) for c in (16, 12, 8))
        self.heads = nn.ModuleList(nn.Conv2d(c, 5, 1) for c in (24, 16, 12, 8))

    def forward(self, image):
        *skips, x = self.encoder(image)
        x = self.block4(x)
        maps = [self.heads[0](x)]
        for i, block in enumerate((self.block3, self.block2, self.block1)):
            skip, x = skips.pop(), self.up[i](x)
            x = block(torch.cat([x, skip * self.gate[i](torch.cat([x, skip], 1))], 1))
            maps.append(self.heads[i + 1](x))
        return [F.interpolate(m, image.shape[2:], mode="bilinear") for m in maps]


class Gated(nn.Module):
    """NAFNet's block: no activation, a product of halves."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.one, self.depth = (
            nn.GroupNorm(1, c),
            nn.Conv2d(c, 2 * c, 1),
            nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c),
        )
        self.sca, self.two = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1)), nn.Conv2d(c, c, 1)
        self.beta = nn.Parameter(torch.full((1, c, 1, 1), 0.1))

    def forward(self, x):
        a, b = self.depth(self.one(self.norm(x))).chunk(2, 1)
        y = a * b
        return x + self.two(y * self.sca(y)) * self.beta


@family("NAFNet", ["decoders.0", "decoders.1"], (1, 3, 30, 30))
class NAFNet(nn.Module):
    """Pads the image, goes up by pixel shuffling, adds skips, adds the image, crops."""

    def __init__(self):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.encoders, self.middle = nn.ModuleList([Gated(8), Gated(16)]), Gated(32)
        self.downs = nn.ModuleList([nn.Conv2d(8, 16, 2, 2), nn.Conv2d(16, 32, 2, 2)])
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 2 * c, 1, bias=False), nn.PixelShuffle(2)) for c in (32, 16)
        )
        self.decoders = nn.ModuleList([Gated(16), Gated(8)])

    def forward(self, image):
        h, w = image.shape[2:]
        image = F.pad(image, (0, -w % 4, 0, -h % 4))
        x, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return (self.ending(x) + image)[:, :, :h, :w]


class Transposed(nn.Module):
    """Restormer's block: attention between channels, then a gated convolution."""

    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2, self.temperature = nn.LayerNorm(c), nn.LayerNorm(c), nn.Parameter(torch.ones(2, 1, 1))
        self.qkv, self.project = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)
        self.depth, self.into, self.out = (
            nn.Conv2d(3 * c, 3 * c, 3, 1, 1, groups=3 * c),
            nn.Conv2d(c, 4 * c, 1),
            nn.Conv2d(2 * c, c, 1),
        )

    def normed(self, norm, x):
        b, c, h, w = x.shape
        return norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 2, c // 2, h * w) for t in self.depth(self.qkv(self.normed(self.norm1, x))).chunk(3, 1))
        attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(-1)
        x = x + self.project((attention @ v).reshape(b, c, h, w))
        a, g = self.into(self.normed(self.norm2, x)).chunk(2, 1)
        return x + self.out(F.gelu(a) * g)


@family("Restormer", ["decoder_level2", "decoder_level1"], (1, 3, 32, 32), alts={1: ["refinement"]})
class Restormer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.output = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
        self.level1, self.level2, self.latent = Transposed(8), Transposed(16), Transposed(32)
        self.down1 = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.PixelUnshuffle(2))
        self.down2 = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.PixelUnshuffle(2))
        self.up2 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.PixelShuffle(2))
        self.up1 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2))
        self.reduce2, self.decoder_level2 = nn.Conv2d(32, 16, 1), Transposed(16)
        self.decoder_level1, self.refinement = Transposed(16), nn.Sequential(Transposed(16))

    def forward(self, image):
        a = self.level1(self.embed(image))
        b = self.level2(self.down1(a))
        x = self.up2(self.latent(self.down2(b)))
        x = self.up1(self.decoder_level2(self.reduce2(torch.cat([x, b], 1))))
        return self.output(self.refinement(self.decoder_level1(torch.cat([x, a], 1)))) + image


@family("wavelet", ["up.0", "up.1"], (1, 1, 32, 32))
class Wavelet(nn.Module):
    """Haar's transform goes down, its inverse goes up; neither has weights."""

    def down(self, x):
        a, b = x[:, :, 0::2] / 2, x[:, :, 1::2] / 2
        p, q, r, s = a[:, :, :, 0::2], b[:, :, :, 0::2], a[:, :, :, 1::2], b[:, :, :, 1::2]
        return torch.cat((p + q + r + s, -p - q + r + s, -p + q - r + s, p - q - r + s), 1)

    def rise(self, x):
        b, c, h, w = x.shape
        p, q, r, s = x.div(2).chunk(4, 1)
        y = torch.zeros(b, c // 4, 2 * h, 2 * w, device=x.device, dtype=x.dtype)
        y[:, :, 0::2, 0::2], y[:, :, 1::2, 0::2] = p - q - r + s, p - q + r - s
        y[:, :, 0::2, 1::2], y[:, :, 1::2, 1::2] = p + q - r - s, p + q + r + s
        return y

    def __init__(self):
        super().__init__()
        self.first, self.mid, self.bottom = twice(1, 8), twice(32, 16), twice(64, 64)
        self.up, self.tail = nn.ModuleList([twice(16, 32), twice(8, 8)]), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        a = self.first(x)
        b = self.mid(self.down(a))
        x = self.up[0](self.rise(self.bottom(self.down(b))) + b)
        return self.tail(self.up[1](self.rise(x) + a))


class TimeBlock(nn.Module):
    """Residual block with a scale and a shift from the time."""

    def __init__(self, given, made):
        super().__init__()
        self.norm1, self.conv1, self.film = (
            nn.GroupNorm(4, given),
            nn.Conv2d(given, made, 3, padding=1),
            nn.Linear(16, 2 * made),
        )
        self.norm2, self.conv2 = nn.GroupNorm(4, made), nn.Conv2d(made, made, 3, padding=1)
        self.short = nn.Conv2d(given, made, 1) if given != made else nn.Identity()

    def forward(self, x, t):
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        scale, shift = self.film(t)[..., None, None].chunk(2, 1)
        return self.short(x) + self.conv2(F.silu(y * (1 + scale) + shift))


@family("time and FiLM", ["in:ups.0.up", "ups.1.second"], (1, 1, 32, 32), (1,), alts={1: ["ups.1"]})
class Diffusion(nn.Module):
    """Two skips at each level, attention at the coarsest; a level ends by going up."""

    class Attention(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.qkv, self.out = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)

        def forward(self, x):
            q, k, v = self.qkv(x).flatten(2).chunk(3, 1)
            y = torch.einsum("bcl,bls->bcs", v, torch.einsum("bcl,bcs->bls", q, k).softmax(-1))
            return x + self.out(y.reshape(x.shape))

    class Level(nn.Module):
        def __init__(self, given, skip, made, last):
            super().__init__()
            self.first, self.second = TimeBlock(given + skip, made), TimeBlock(made + skip, made)
            self.up = (
                nn.Identity()
                if last
                else nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(made, made, 3, padding=1))
            )

        def forward(self, x, skips, t):
            x = self.first(torch.cat([x, skips.pop()], 1), t)
            return self.up(self.second(torch.cat([x, skips.pop()], 1), t))

    def __init__(self):
        super().__init__()
        self.time, self.inp = (
            nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16)),
            nn.Conv2d(1, 8, 3, padding=1),
        )
        self.down1, self.down2 = (
            nn.ModuleList([TimeBlock(8, 8), TimeBlock(8, 8)]),
            nn.ModuleList([TimeBlock(8, 16), TimeBlock(16, 16)]),
        )
        self.pool1, self.pool2 = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1)
        self.mid1, self.attention, self.mid2 = TimeBlock(16, 16), self.Attention(16), TimeBlock(16, 16)
        self.rise = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(16, 16, 3, padding=1))
        self.ups = nn.ModuleList([self.Level(16, 16, 16, False), self.Level(16, 8, 8, True)])
        self.out = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x, t):
        freqs = torch.exp(-math.log(100) * torch.arange(4, device=t.device) / 4)
        t = self.time(torch.cat([(t[:, None] * freqs).sin(), (t[:, None] * freqs).cos()], 1))
        x, skips = self.inp(x), []
        for blocks, pool in ((self.down1, self.pool1), (self.down2, self.pool2)):
            for block in blocks:
                x = block(x, t)
                skips.append(x)
            x = pool(x)
        x = self.rise(self.mid2(self.attention(self.mid1(x, t)), t))
        for level in self.ups:
            x = level(x, skips, t)
        return self.out(x)


@family("Kolmogorov-Arnold", ["up.0", "up.1"], (1, 1, 32, 32))
class Kan(nn.Module):
    """Each layer sums learned curves (radial functions) of its inputs."""

    class Curves(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.base, self.spline = nn.Linear(given, made), nn.Linear(4 * given, made)
            self.register_buffer("grid", torch.linspace(-2, 2, 4))

        def forward(self, x):
            b, _, h, w = x.shape
            tokens = x.flatten(2).transpose(1, 2)
            curves = torch.exp(-((tokens[..., None] - self.grid) ** 2)).flatten(-2)
            return (self.base(F.silu(tokens)) + self.spline(curves)).transpose(1, 2).reshape(b, -1, h, w)

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([conv(1, 8), conv(8, 16), self.Curves(16, 24)])
        self.up, self.head = nn.ModuleList([self.Curves(40, 16), self.Curves(24, 8)]), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.down[2](F.max_pool2d(b, 2))
        for up, skip in zip(self.up, (b, a), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skip], 1))
        return self.head(x)
