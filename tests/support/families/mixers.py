"""Mixers between convolutions, in 2D and 3D: tokens inside a block, channels-last maps, state spaces."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import conv, family, twice


@family(
    "UNeXt",
    ["in:decoder1", "in:decoder2", "in:final"],
    (1, 1, 64, 64),
    ladders=[
        ["decoder0", "decoder1", "decoder2", "in:final"],
        ["dblock1", "in:decoder2", "in:final"],
        ["dblock1", "in:final"],
        ["dnorm1", "in:decoder2", "in:final"],
        ["dnorm1", "in:final"],
    ],
)
class UNeXt(nn.Module):
    class Shifted(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm, self.fc1, self.fc2 = nn.LayerNorm(c), nn.Linear(c, c), nn.Linear(c, c)
            self.depth = nn.Conv2d(c, c, 3, padding=1, groups=c)

        def forward(self, x, h, w):
            y = self.norm(x)
            b, _, c = y.shape
            y = torch.roll(y.transpose(1, 2).view(b, c, h, w), 1, 2).reshape(b, c, h * w).transpose(1, 2)
            y = self.depth(self.fc1(y).transpose(1, 2).view(b, c, h, w)).flatten(2).transpose(1, 2)
            return x + self.fc2(F.gelu(y))

    def __init__(self):
        super().__init__()
        self.encoder1, self.encoder2 = conv(1, 8), conv(8, 16)
        self.embed3, self.embed4 = conv(16, 24, 3, 2), conv(24, 32, 3, 2)
        self.block3, self.block4, self.dblock1 = self.Shifted(24), self.Shifted(32), self.Shifted(24)
        self.norm3, self.norm4, self.dnorm1 = nn.LayerNorm(24), nn.LayerNorm(32), nn.LayerNorm(24)
        self.decoder0, self.decoder1, self.decoder2 = conv(32, 24), conv(24, 16), conv(16, 8)
        self.final = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        def back(t, like):
            return t.reshape(len(t), *like.shape[2:], -1).permute(0, 3, 1, 2).contiguous()

        t1 = F.max_pool2d(self.encoder1(x), 2)
        t2 = F.max_pool2d(self.encoder2(t1), 2)
        e3, h = self.embed3(t2), t2.shape[2] // 2
        t3 = back(self.norm3(self.block3(e3.flatten(2).transpose(1, 2), h, h)), e3)
        e4 = self.embed4(t3)
        out = back(self.norm4(self.block4(e4.flatten(2).transpose(1, 2), h // 2, h // 2)), e4)
        out = F.interpolate(self.decoder0(out), scale_factor=2, mode="bilinear") + t3
        out = back(self.dnorm1(self.dblock1(out.flatten(2).transpose(1, 2), h, h)), out)
        out = F.interpolate(self.decoder1(out), scale_factor=2, mode="bilinear") + t2
        out = F.interpolate(self.decoder2(out), scale_factor=2, mode="bilinear") + t1
        return F.interpolate(self.final(out), scale_factor=2, mode="bilinear")


class LastBlock(nn.Module):
    """ConvNeXt's block on B × H × W × C."""

    def __init__(self, c):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c)
        self.first, self.second = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)

    def forward(self, x):
        y = self.depth(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.second(F.gelu(self.first(self.norm(y))))


@family("channels-last ConvNeXt", ["up.0.block", "up.1.block"], (1, 3, 32, 32), alts={0: ["up.0"], 1: ["up.1"]})
class ChannelsLast(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.expand, self.reduce, self.block = (
                nn.Linear(given, 4 * made),
                nn.Linear(made + skip, made),
                LastBlock(made),
            )

        def forward(self, x, skip):
            b, h, w, _ = x.shape
            x = self.expand(x).view(b, h, w, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
            return self.block(self.reduce(torch.cat([x, skip], -1)))

    def __init__(self):
        super().__init__()
        self.stem, self.block1, self.block2, self.block3 = nn.Linear(3, 8), LastBlock(8), LastBlock(16), LastBlock(24)
        self.down2, self.down3 = nn.Conv2d(8, 16, 2, 2), nn.Conv2d(16, 24, 2, 2)
        self.up, self.head = nn.ModuleList([self.Up(24, 16, 16), self.Up(16, 8, 8)]), nn.Linear(8, 5)

    def forward(self, x):
        a = self.block1(self.stem(x.permute(0, 2, 3, 1)))
        b = self.block2(self.down2(a.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        x = self.block3(self.down3(b.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.head(self.up[1](self.up[0](x, b), a)).permute(0, 3, 1, 2)


@family("state-space mixer", ["up.0", "up.1"], (1, 1, 32, 32))
class Mamba(nn.Module):
    """Scans along the tokens by a causal depth-wise convolution and a cumulative sum, gated."""

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.into, self.norm, self.inner = nn.Conv2d(given, made, 1), nn.LayerNorm(made), nn.Linear(made, 2 * made)
            self.scan, self.out = nn.Conv1d(made, made, 4, padding=3, groups=made), nn.Linear(made, made)

        def forward(self, x):
            x = self.into(x)
            b, c, h, w = x.shape
            y, gate = self.inner(self.norm(x.flatten(2).transpose(1, 2))).chunk(2, -1)
            y = F.silu(self.scan(y.transpose(1, 2))[..., : h * w]).cumsum(-1).transpose(1, 2) / (h * w)
            return x + self.out(y * F.silu(gate)).transpose(1, 2).reshape(b, c, h, w)

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([self.Block(1, 8), self.Block(8, 16), self.Block(16, 24)])
        self.up, self.head = nn.ModuleList([self.Block(40, 16), self.Block(24, 8)]), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.down[2](F.max_pool2d(b, 2))
        for up, skip in zip(self.up, (b, a), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x)


@family("nnFormer", ["up.0", "up.1"], (1, 1, 16, 16, 16))
class NnFormer(nn.Module):
    """3D tokens; the skip is added after a transposed convolution on the reshaped map."""

    class Up(nn.Module):
        def __init__(self, given, made, size):
            super().__init__()
            self.size, self.norm, self.rise = size, nn.LayerNorm(given), nn.ConvTranspose3d(given, made, 2, 2)
            self.mix, self.fc = (
                nn.LayerNorm(made),
                nn.Sequential(nn.Linear(made, made), nn.GELU(), nn.Linear(made, made)),
            )

        def forward(self, x, skip):
            b, _, c = x.shape
            x = self.rise(self.norm(x).permute(0, 2, 1).view(b, c, *[self.size // 2] * 3)).flatten(2).transpose(1, 2)
            x = x + skip
            return x + self.fc(self.mix(x))

    def __init__(self):
        super().__init__()
        self.embed, self.down1, self.down2 = nn.Conv3d(1, 8, 2, 2), nn.Conv3d(8, 16, 2, 2), nn.Conv3d(16, 24, 2, 2)
        self.up, self.head = nn.ModuleList([self.Up(24, 16, 4), self.Up(16, 8, 8)]), nn.ConvTranspose3d(8, 3, 2, 2)

    def forward(self, x):
        a = self.embed(x)
        b = self.down1(a)
        c = self.down2(b)
        a, b, x = (t.flatten(2).transpose(1, 2) for t in (a, b, c))
        x = self.up[1](self.up[0](x, b), a)
        return self.head(x.transpose(1, 2).view(len(x), 8, 8, 8, 8))


@family("UX-Net", ["decoder3", "decoder2", "decoder1"], (1, 1, 32, 32, 32))
class UXNet(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.rise, self.first = (
                nn.ConvTranspose3d(given, made, 2, 2, bias=False),
                nn.Conv3d(2 * made, made, 3, padding=1),
            )
            self.second, self.short, self.norm = (
                nn.Conv3d(made, made, 3, padding=1),
                nn.Conv3d(2 * made, made, 1),
                nn.InstanceNorm3d(made),
            )

        def forward(self, x, skip):
            x = torch.cat((self.rise(x), skip), 1)
            return F.leaky_relu(self.norm(self.second(F.leaky_relu(self.first(x)))) + self.short(x))

    def __init__(self):
        super().__init__()
        self.stem, self.depth = nn.Conv3d(1, 8, 7, 2, 3), nn.Conv3d(8, 8, 7, padding=3, groups=8)
        self.down1, self.down2, self.raw = (
            nn.Conv3d(8, 12, 2, 2),
            nn.Conv3d(12, 16, 2, 2),
            nn.Conv3d(1, 4, 3, padding=1),
        )
        self.fc = nn.Conv3d(8, 8, 1)
        self.decoder3, self.decoder2, self.decoder1 = self.Up(16, 12), self.Up(12, 8), self.Up(8, 4)
        self.out = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        a = self.stem(x)
        a = a + self.fc(F.gelu(F.layer_norm(self.depth(a).permute(0, 2, 3, 4, 1), (8,)).permute(0, 4, 1, 2, 3)))
        b = self.down1(a)
        return self.out(self.decoder1(self.decoder2(self.decoder3(self.down2(b), b), a), self.raw(x)))


@family("UNETR-2D", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
class UNETR(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.raw = nn.Conv2d(1, 16, 8, 8), conv(1, 4)
        self.vit = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(3))
        self.skip = nn.ModuleList(
            [
                nn.ConvTranspose2d(16, 8, 2, 2),
                nn.Sequential(nn.ConvTranspose2d(16, 6, 2, 2), nn.ConvTranspose2d(6, 6, 2, 2)),
            ]
        )
        self.rise = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((16, 8), (8, 6), (6, 4)))
        self.up, self.out = nn.ModuleList([twice(16, 8), twice(12, 6), twice(8, 4)]), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        raw, t = self.raw(x), self.patch(x).flatten(2).transpose(1, 2)
        hidden = []
        for block in self.vit:
            t = block(t)
            hidden.append(t.transpose(1, 2).reshape(len(t), -1, 4, 4))
        skips = [self.skip[0](hidden[1]), self.skip[1](hidden[0]), raw]
        y = hidden[2]
        for rise, up, skip in zip(self.rise, self.up, skips, strict=True):
            y = up(torch.cat([rise(y), skip], 1))
        return self.out(y)
