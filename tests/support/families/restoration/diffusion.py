"""Diffusion: time and class enter every block, every block gives a skip, levels end by going up."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family


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


@family("time and FiLM", ["in:ups.0.up", "ups.1.second"], (1, 1, 32, 32), (1,), alts={1: ["ups.1"]}, source="second")
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


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(4, c), nn.Conv1d(c, 3 * c, 1), nn.Conv1d(c, c, 1)

    def forward(self, x, _):
        b, c, *size = x.shape
        x = x.reshape(b, c, -1)
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, -1).unbind(1)
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / c**0.5, -1)
        return (x + self.out(torch.einsum("bts,bcs->bct", weight, v))).reshape(b, c, *size)


class Step(nn.Module):
    """A residual block with time and class, that may change the size in itself; as in guided diffusion."""

    def __init__(self, given, made, resample=None):
        super().__init__()
        self.norm, self.conv, self.time = (
            nn.GroupNorm(4, given),
            nn.Conv2d(given, made, 3, 1, 1),
            nn.Linear(16, 2 * made),
        )
        self.out_norm, self.out, self.resample = nn.GroupNorm(4, made), nn.Conv2d(made, made, 3, 1, 1), resample
        self.short = nn.Identity() if given == made else nn.Conv2d(given, made, 1)

    def forward(self, x, e):
        y = F.silu(self.norm(x))
        if self.resample is not None:
            x, y = self.resample(x), self.resample(y)
        scale, shift = self.time(F.silu(e))[..., None, None].chunk(2, 1)
        y = self.out_norm(self.conv(y)) * (1 + scale) + shift
        return self.short(x) + self.out(F.silu(y))


@family(
    "guided diffusion",
    ["output.1.1", "output.3.0", "output.5"],
    (1, 3, 32, 32),
    (1,),
    (1, 6),
    alts={2: ["output.5.0"]},
    ladders=[["output.3.0", "output.5"]],
    source="third",
)
class Guided(nn.Module):
    """Every block's map is a skip; blocks that go up stand at the end of a level."""

    class Embed(nn.ModuleList):
        def forward(self, x, e):
            for layer in self:
                x = layer(x, e)
            return x

    def __init__(self):
        super().__init__()
        down, up, whole = nn.AvgPool2d(2), nn.Upsample(scale_factor=2), self.Embed
        self.time, self.label, self.inp = nn.Linear(1, 16), nn.Linear(6, 16), nn.Conv2d(3, 8, 3, 1, 1)
        self.input = nn.ModuleList(
            [
                whole([Step(8, 8)]),
                whole([Step(8, 8, down)]),
                whole([Step(8, 16)]),
                whole([Step(16, 16, down)]),
                whole([Step(16, 24), Attention(24)]),
            ]
        )
        self.middle = whole([Step(24, 24), Attention(24), Step(24, 24)])
        self.output = nn.ModuleList(
            [
                whole([Step(48, 24), Attention(24)]),
                whole([Step(40, 24), Attention(24), Step(24, 24, up)]),
                whole([Step(40, 16)]),
                whole([Step(24, 16), Step(16, 16, up)]),
                whole([Step(24, 8)]),
                whole([Step(16, 8)]),
            ]
        )
        self.head = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, 1, 1))

    def forward(self, x, t, y):
        e = self.time(t[:, None]) + self.label(y)
        x = self.inp(x)
        skips = [x]
        for block in self.input:
            x = block(x, e)
            skips.append(x)
        x = self.middle(x, e)
        for block in self.output:
            x = block(torch.cat([x, skips.pop()], 1), e)
        return self.head(x)
