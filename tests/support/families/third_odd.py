"""The third list, other plans: repeated pyramids, cascades, refinements, shared decoders, flat lists of layers."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to


@family("BiFPN", ["layers.1@[3]", "layers.1@[2]", "layers.1@[1]", "layers.1@[0]"], (1, 3, 64, 64))
class WithBiFPN(nn.Module):
    """Twice down and up again over all levels, with learned weights; logits from the sum of all levels."""

    class Layer(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.down, self.rise = (nn.ModuleList(conv(c, c) for _ in range(3)) for _ in range(2))
            self.first, self.second = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 3))

        def forward(self, maps):
            first, second = F.relu(self.first), F.relu(self.second)
            first, second = first / (first.sum(1, keepdim=True) + 1e-4), second / (second.sum(1, keepdim=True) + 1e-4)
            tops = [maps[3]]
            for i in (2, 1, 0):
                tops.insert(0, self.down[i](first[i, 0] * maps[i] + first[i, 1] * up_to(tops[0], maps[i])))
            made = [tops[0]]
            for i in (1, 2, 3):
                w, low = second[i - 1], F.max_pool2d(made[-1], 2)
                middle = tops[i] if i < 3 else maps[i]
                made.append(self.rise[i - 1](w[0] * maps[i] + w[1] * middle + w[2] * low))
            return made

    def __init__(self):
        super().__init__()
        self.encoder, self.lateral = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (8, 16, 24, 32)),
        )
        self.layers, self.head = nn.ModuleList([self.Layer(16), self.Layer(16)]), nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x):
        maps = [lateral(y) for lateral, y in zip(self.lateral, self.encoder(x), strict=True)]
        for layer in self.layers:
            maps = layer(maps)
        total = maps[0] + sum(up_to(y, maps[0]) for y in maps[1:])
        return up_to(self.head(total), x)


@family("IterNet", ["mini.up.0#1", "mini.up.1#1"], (1, 1, 32, 32))
class IterNet(nn.Module):
    """A U-Net, then one small U-Net run twice on the features before it; all masks are returned, the last first."""

    class Mini(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.up = Encoder((8, 16, 24), 16), nn.ModuleList([twice(40, 16), twice(24, 8)])

        def forward(self, x):
            *skips, x = self.encoder(x)
            for up in self.up:
                x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            return x

    def __init__(self):
        super().__init__()
        self.encoder, self.up, self.head = (
            Encoder((8, 16, 24)),
            nn.ModuleList([twice(40, 16), twice(24, 8)]),
            nn.Conv2d(8, 1, 1),
        )
        self.mini, self.heads = self.Mini(), nn.ModuleList([nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)])

    def forward(self, x):
        *skips, y = self.encoder(x)
        first = skips[0]
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2), skips.pop()], 1))
        masks = [self.head(y)]
        for head in self.heads:
            y = self.mini(torch.cat([first, y], 1))
            masks.insert(0, head(y))
        return masks


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


@family(
    "guided diffusion",
    ["output.1.1", "output.3.0", "output.5"],
    (1, 3, 32, 32),
    (1,),
    (1, 6),
    alts={2: ["output.5.0"]},
    ladders=[["output.3.0", "output.5"]],
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


@family("Wave-U-Net", ["up.0", "up.1", "up.2"], (2, 1, 64))
class Wave(nn.Module):
    """Sound: every second value is dropped on the way down, interpolated on the way up; the input joins the head."""

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.down = nn.ModuleList(self.layer(a, b, 15) for a, b in zip((1, *widths), widths, strict=False))
        self.middle, self.head = self.layer(24, 32, 15), nn.Conv1d(9, 2, 1)
        self.up = nn.ModuleList(self.layer(a + b, b, 5) for a, b in ((32, 24), (24, 16), (16, 8)))

    def layer(self, a, b, kernel):
        return nn.Sequential(nn.Conv1d(a, b, kernel, padding=kernel // 2), nn.BatchNorm1d(b), nn.LeakyReLU(0.1))

    def forward(self, x):
        y, skips = x, []
        for down in self.down:
            y = down(y)
            skips.append(y)
            y = y[:, :, ::2]
        y = self.middle(y)
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2, mode="linear", align_corners=True), skips.pop()], 1))
        return torch.tanh(self.head(torch.cat([y, x], 1)))


@family("flat list with routes", ["layers.11", "layers.14", "layers.17"], (1, 3, 64, 64))
class Flat(nn.Module):
    """A list of layers, each with the numbers of those it takes; as configuration files of detectors have it."""

    PLAN = [(-1,)] * 9 + [(-1,), (-1, 4), (-1,), (-1,), (-1, 2), (-1,), (-1,), (-1, 0), (-1,), (-1,)]

    class Concat(nn.Module):
        def forward(self, *maps):
            return torch.cat(maps, 1)

    def __init__(self):
        super().__init__()
        up, cat = lambda: nn.Upsample(scale_factor=2), self.Concat
        down = [
            conv(3, 8),
            conv(8, 16, stride=2),
            conv(16, 16),
            conv(16, 24, stride=2),
            conv(24, 24),
            conv(24, 32, stride=2),
        ]
        rise = [up(), cat(), conv(56, 24), up(), cat(), conv(40, 16), up(), cat(), conv(24, 8), nn.Conv2d(8, 4, 1)]
        self.layers = nn.ModuleList([*down, conv(32, 32), conv(32, 32, 1), nn.Identity(), *rise])

    def forward(self, x):
        made = []
        for layer, sources in zip(self.layers, self.PLAN, strict=True):
            x = layer(*(x if i == -1 else made[i] for i in sources))
            made.append(x)
        return x


@family(
    "CE-Net",
    ["context", "decoder4", "decoder3", "decoder2", "decoder1"],
    (1, 3, 64, 64),
    alts={1: ["in:decoder3"], 2: ["in:decoder2"], 3: ["in:decoder1"]},
    ladders=[
        ["decoder4", "decoder3", "decoder2", "decoder1"],
        ["in:decoder3", "in:decoder2", "in:decoder1", "decoder1"],
    ],
)
class CENet(nn.Module):
    """Dilated convolutions and pools of several sizes at the bottom; a LinkNet decoder; the head goes up by 2."""

    class Context(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.dilated = nn.ModuleList(nn.Conv2d(c, c, 3, padding=d, dilation=d) for d in (1, 3, 5))
            self.conv = nn.Conv2d(c, 1, 1)

        def forward(self, x):
            for layer in self.dilated:
                x = x + F.relu(layer(x))
            pooled = [self.conv(F.max_pool2d(x, k, k)) for k in (2, 3, 4)]
            return torch.cat([*(F.interpolate(p, x.shape[2:], mode="bilinear") for p in pooled), x], 1)

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.conv1, self.deconv = conv(given, made, 1), nn.ConvTranspose2d(made, made, 3, 2, 1, 1)
            self.norm, self.conv3 = nn.BatchNorm2d(made), conv(made, made, 1)

        def forward(self, x):
            return self.conv3(F.relu(self.norm(self.deconv(self.conv1(x)))))

    def __init__(self):
        super().__init__()
        self.encoder, self.context = Encoder((8, 16, 24, 32), 3, stem=2), self.Context(32)
        self.decoder4, self.decoder3, self.decoder2, self.decoder1 = (
            self.Up(35, 24),
            self.Up(24, 16),
            self.Up(16, 8),
            self.Up(8, 8),
        )
        self.final = nn.Sequential(conv(8, 8), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, x):
        c1, c2, c3, c4 = self.encoder(x)
        y = self.decoder4(self.context(c4)) + c3
        y = self.decoder3(y) + c2
        y = self.decoder2(y) + c1
        return torch.sigmoid(self.final(self.decoder1(y)))


@family(
    "large kernels on scores",
    ["br4", "br5", "br6", "br7"],
    (1, 3, 64, 64),
    ladders=[["br1", "br4", "br5", "br6", "br7"], ["br4", "br5", "br6"], ["br1", "br4", "br5", "br6"]],
)
class Gcn(nn.Module):
    """GCN: every map of the decoder has one channel for each class."""

    class Kernel(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.left = nn.Sequential(
                nn.Conv2d(given, made, (7, 1), padding=(3, 0)), nn.Conv2d(made, made, (1, 7), padding=(0, 3))
            )
            self.right = nn.Sequential(
                nn.Conv2d(given, made, (1, 7), padding=(0, 3)), nn.Conv2d(made, made, (7, 1), padding=(3, 0))
            )

        def forward(self, x):
            return self.left(x) + self.right(x)

    class Refine(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x):
            return x + self.conv2(F.relu(self.conv1(x)))

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.kernels = nn.ModuleList(self.Kernel(c, 5) for c in (32, 24, 16, 8))
        self.br1, self.br2, self.br3, self.br0 = (self.Refine(5) for _ in range(4))
        self.br4, self.br5, self.br6, self.br7 = (self.Refine(5) for _ in range(4))
        self.deconv1, self.deconv2, self.deconv3, self.deconv4 = (nn.ConvTranspose2d(5, 5, 4, 2, 1) for _ in range(4))

    def forward(self, x):
        maps = [kernel(y) for kernel, y in zip(self.kernels, self.encoder(x)[::-1], strict=True)]
        y = self.br1(maps[0])
        y = self.br4(self.deconv1(y) + self.br2(maps[1]))
        y = self.br5(self.deconv2(y) + self.br3(maps[2]))
        y = self.br6(self.deconv3(y) + self.br0(maps[3]))
        return self.br7(self.deconv4(y))
