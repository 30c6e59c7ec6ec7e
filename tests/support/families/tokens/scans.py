"""Scans and maps with channels last: state spaces, recurrences along rows and columns."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Expand


class LastBlock(nn.Module):
    """ConvNeXt's block on B × H × W × C."""

    def __init__(self, c):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c)
        self.first, self.second = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)

    def forward(self, x):
        y = self.depth(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.second(F.gelu(self.first(self.norm(y))))


@family(
    "channels-last ConvNeXt",
    ["up.0.block", "up.1.block"],
    (1, 3, 32, 32),
    alts={0: ["up.0"], 1: ["up.1"]},
    source="second",
)
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


@family("state-space mixer", ["up.0", "up.1"], (1, 1, 32, 32), source="second")
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


class Scan(nn.Module):
    """A map B × H × W × C is read along rows and columns, both ways, by a recurrence; as in VMamba."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.into, self.conv, self.out = (
            nn.LayerNorm(c),
            nn.Linear(c, 2 * c),
            nn.Conv2d(c, c, 3, 1, 1, groups=c),
            nn.Linear(c, c),
        )
        self.decay = nn.Parameter(torch.full((4, c), 0.5))

    def forward(self, x):
        b, h, w, c = x.shape
        y, gate = self.into(self.norm(x)).chunk(2, -1)
        y = F.silu(self.conv(y.permute(0, 3, 1, 2).contiguous()))
        ways = torch.stack([y.flatten(2), y.transpose(2, 3).contiguous().flatten(2)], 1)
        ways = torch.cat([ways, ways.flip(-1)], 1)  # B × 4 × C × L
        state, made = x.new_zeros(b, 4, c, 8), []
        for part in ways.split(8, -1):
            state = state * self.decay[..., None] + part
            made.append(state)
        rows, columns, rows_back, columns_back = torch.cat(made, -1).unbind(1)
        y = rows + rows_back.flip(-1) + (columns + columns_back.flip(-1)).view(b, c, w, h).transpose(2, 3).flatten(2)
        return x + self.out(y.transpose(1, 2).reshape(b, h, w, c) * F.silu(gate))


@family(
    "VM-UNet",
    ["layers_up.0", "layers_up.1", "layers_up.2"],
    (1, 3, 64, 64),
    alts={0: ["in:layers_up.1"], 1: ["in:layers_up.2"]},
    ladders=[["layers_up.1", "layers_up.2"], ["in:layers_up.2", "layers_up.2"]],
    source="third",
)
class VMUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.layers = nn.ModuleList(nn.Sequential(Scan(c), Scan(c)) for c in (8, 16, 32))
        self.merge = nn.ModuleList(nn.Linear(4 * c, 2 * c, bias=False) for c in (8, 16))
        up = [
            nn.Sequential(Scan(32), Scan(32)),
            nn.Sequential(Expand(32, 16), Scan(16)),
            nn.Sequential(Expand(16, 8), Scan(8)),
        ]
        self.layers_up, self.final_up, self.final_conv = nn.ModuleList(up), Expand(8, 8, 4), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        skips = []
        for i, layer in enumerate(self.layers):
            skips.append(x)
            x = layer(x)
            if i < 2:
                parts = [x[:, a::2, b::2] for b in (0, 1) for a in (0, 1)]
                x = self.merge[i](torch.cat(parts, -1))
        for i, layer in enumerate(self.layers_up):
            x = layer(x + skips.pop() if i else x)
        return self.final_conv(self.final_up(x).permute(0, 3, 1, 2))
