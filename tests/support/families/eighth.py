"""Kinds that a list of 47 networks of 32 more packages brought up: written after the rules, to keep them."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice


class Residual(nn.Module):
    """Two layers whose result is added to what they are given, projected if the channels differ."""

    def __init__(self, given, made):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.ReLU(), nn.Conv2d(made, made, 3, padding=1))
        self.skip = nn.Identity() if given == made else nn.Conv2d(given, made, 1, bias=False)

    def forward(self, x):
        return self.main(x) + self.skip(x)


class Added(nn.Module):
    """The same, of as many channels."""

    def __init__(self, width):
        super().__init__()
        self.main = nn.Sequential(conv(width, width), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x):
        return x + self.main(x)


@family("lists of modules that begin below", ["ascent.1.1", "ascent.2.1", "ascent.3.1"], (1, 1, 32, 32))
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


@family("blocks that project what they are given", ["up.0", "up.1"], (1, 1, 32, 32))
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


@family("the last block goes up and makes the logits", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
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


@family("residual blocks up to the end", ["up.1", "up.3", "up.5"], (1, 1, 32, 32), alts={2: ["end"]})
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


@family(
    "RefineNet in layers",
    ["joint1", "joint2", "joint3", "pool4"],
    (1, 3, 64, 64),
    alts={0: ["pool1"], 1: ["pool2"], 2: ["pool3"]},
)
class LayeredRefineNet(nn.Module):
    """The parts of the refining blocks are the network's own layers; what resizes is made when it runs."""

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.layers = nn.MaxPool2d(5, 1, 2), nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(3))

        def forward(self, x):
            top = x
            for layer in self.layers:
                top = layer(self.pool(top))
                x = x + top
            return x

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        for i, width in enumerate((32, 24, 16, 8), 1):
            self.add_module(f"reduce{i}", nn.Conv2d(width, 16, 1))
            self.add_module(f"pool{i}", self.Chain())
            self.add_module(f"joint{i}", nn.Conv2d(16, 16, 1))
        self.head = nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        y = self.joint1(self.pool1(F.relu(self.reduce1(x4))))
        y = self.joint2(self.pool2(F.relu(self.reduce2(x3) + nn.Upsample(x3.shape[2:], mode="bilinear")(y))))
        y = self.joint3(self.pool3(F.relu(self.reduce3(x2) + nn.Upsample(x2.shape[2:], mode="bilinear")(y))))
        return self.head(self.pool4(F.relu(self.reduce4(x1) + nn.Upsample(x1.shape[2:], mode="bilinear")(y))))


@family("flows go up beside the features", ["in:predict.1", "in:predict.2", "in:predict.3"], (1, 6, 64, 64))
class FlowsBeside(nn.Module):
    """Each level is laid together of the skip, the level below and the flow made from that; one flow is returned."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), given=6, stem=2)
        given = (32, 24 + 16 + 2, 16 + 12 + 2, 8 + 8 + 2)
        self.predict = nn.ModuleList(nn.Conv2d(c, 2, 3, padding=1) for c in given)
        self.flow = nn.ModuleList(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(3))
        self.deconv = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.LeakyReLU(0.1))
            for a, b in zip(given, (16, 12, 8), strict=False)
        )

    def forward(self, x):
        *skips, x = self.encoder(x)
        for predict, flow, deconv, skip in zip(self.predict, self.flow, self.deconv, reversed(skips), strict=False):
            x = torch.cat([skip, deconv(x), flow(predict(x))], 1)
        return F.interpolate(self.predict[3](x), scale_factor=2, mode="bilinear")


@family(
    "queries that begin with the map they are laid over",
    ["pyramid.0", "pyramid.1", "pyramid.2"],
    (1, 3, 32, 32),
    alts={2: ["embed"]},
)
class LaidOver(nn.Module):
    """Masks are products of an embedding of the finest level and of queries, which look at that embedding too."""

    def __init__(self, queries=4):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 3)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (24, 16, 8))
        self.pyramid = nn.ModuleList(conv(16, 16) for _ in range(3))
        self.embed, self.keys = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.queries = nn.Parameter(torch.randn(1, queries, 16))
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.words = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, x):
        x1, x2, x3 = self.encoder(x)
        y = self.pyramid[0](self.lateral[0](x3))
        y = self.pyramid[1](self.lateral[1](x2) + F.interpolate(y, scale_factor=2))
        y = self.embed(self.pyramid[2](self.lateral[2](x1) + F.interpolate(y, scale_factor=2)))
        seen = self.keys(y).flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(x), -1, -1)
        queries = self.norm(queries + self.attention(queries, seen, seen)[0])
        return torch.einsum("bqc,bchw->bqhw", self.words(queries), y)
