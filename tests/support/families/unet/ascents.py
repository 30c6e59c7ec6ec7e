"""Ways up after what was wrong of the lists of packages: beside a stream, without a skip, in a head, of one class."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


class Up(nn.Module):
    """Goes up, lays the skip beside and works."""

    def __init__(self, given, beside, made):
        super().__init__()
        self.work = twice(given + beside, made)

    def forward(self, x, skip):
        return self.work(torch.cat([up_to(x, skip), skip], 1))


class Decoder(nn.Module):
    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        self.encoder = Encoder(widths)
        self.ups = nn.ModuleList(itertools.starmap(Up, zip(widths[:0:-1], widths[-2::-1], widths[-2::-1], strict=True)))

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up in self.ups:
            x = up(x, skips.pop())
        return x


@family("logits weighed by what is made of them", ["local.ups.0", "local.ups.1", "local.ups.2"], source="fourteenth")
class Weighed(nn.Module):
    """Wide kernels on the pooled logits make a weight for each of them, which is no decoder."""

    def __init__(self):
        super().__init__()
        self.local, self.head = Decoder(), nn.Conv2d(8, 4, 1)
        self.wide = nn.Sequential(conv(4, 16, 5), conv(16, 16, 5), nn.Conv2d(16, 4, 5, padding=2))

    def forward(self, x):
        first = self.head(self.local(x))
        return first * up_to(self.wide(F.avg_pool2d(first, 4)), first)


@family(
    "a stream at full size beside the pooled one",
    ["up.0", "up.1", "last.2"],
    alts={2: ["last"]},
    source="fourteenth",
)
class TwoStreams(nn.Module):
    """Each block is given the full stream, pooled, and adds to it what it makes; at the end both meet."""

    class Block(nn.Module):
        def __init__(self, given, made, beside, step):
            super().__init__()
            self.step, self.work, self.back = step, twice(given + beside, made), nn.Conv2d(made, beside, 1)

        def forward(self, x, stream):
            x = self.work(torch.cat([x, F.max_pool2d(stream, self.step)], 1))
            return x, stream + F.interpolate(self.back(x), scale_factor=self.step)

    def __init__(self, beside=6):
        super().__init__()
        self.first, self.split = conv(1, 12), nn.Conv2d(12, beside, 1)
        steps = [(12, 16, 2), (16, 24, 4), (24, 32, 8)]
        self.down = nn.ModuleList(self.Block(a, b, beside, step) for a, b, step in steps)
        self.up = nn.ModuleList([self.Block(32, 24, beside, 4), self.Block(24, 16, beside, 2)])
        self.last, self.head = nn.Sequential(*conv(16 + beside, 12)), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = self.first(x)
        stream = self.split(x)
        for block in self.down:
            x, stream = block(F.max_pool2d(x, 2), stream)
        for block in self.up:
            x, stream = block(F.interpolate(x, scale_factor=2), stream)
        return self.head(self.last(torch.cat([F.interpolate(x, scale_factor=2), stream], 1)))


@family(
    "blocks that work and go up, the last without a skip",
    ["center.work", "blocks.0.work", "blocks.1.work", "blocks.2.work", "last"],
    ladders=[["center", "blocks.0", "blocks.1", "blocks.2", "last"]],
    source="fourteenth",
)
class LastWithoutSkip(nn.Module):
    """Each block ends with an activation after it went up."""

    class Block(nn.Module):
        def __init__(self, given, middle, made):
            super().__init__()
            self.work, self.up, self.act = conv(given, middle), nn.ConvTranspose2d(middle, made, 2, 2), nn.ReLU()

        def forward(self, x):
            return self.act(self.up(self.work(x)))

    def __init__(self):
        super().__init__()
        self.encoder, self.pool = Encoder((8, 16, 24), stem=2), nn.MaxPool2d(2)
        self.center = self.Block(24, 32, 24)
        self.blocks = nn.ModuleList([self.Block(48, 32, 16), self.Block(32, 24, 8), self.Block(8, 16, 8)])
        self.last, self.head = conv(8, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        _, second, third = self.encoder(x)
        x = self.center(self.pool(third))
        x = self.blocks[0](torch.cat([x, third], 1))
        x = self.blocks[1](torch.cat([x, second], 1))
        return self.head(self.last(self.blocks[2](x)))


@family(
    "every level is one layer that goes up, the last too",
    ["norms.0", "norms.1", "norms.2", ""],
    alts={3: ["last"]},
    source="fourteenth",
)
class OneLayerEach(nn.Module):
    """A norm ends each level but that of the logits, before a skip is laid beside it; the last two levels have none."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), stem=2)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((32, 24), (48, 16), (32, 8)))
        self.last = nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (24, 16, 8))

    def forward(self, x):
        _, second, third, x = self.encoder(x)
        for up, norm, skip in zip(self.ups, self.norms, (third, second, None), strict=True):
            x = norm(up(x))
            x = x if skip is None else torch.cat([x, skip], 1)
        return self.last(x).tanh()


@family(
    "a head that works, goes up and works",
    ["net.ups.0", "net.ups.1", "head.0", "head.2.2"],
    alts={3: ["head.2"]},
    source="fourteenth",
)
class HeadGoesUp(nn.Module):
    """What it makes at the size that it is given is that level's stage."""

    def __init__(self):
        super().__init__()
        self.stem, self.net = conv(1, 8, stride=2), Decoder((8, 16, 24, 32))
        self.net.encoder, self.net.ups[2].work = Encoder((8, 16, 24, 32), 8), twice(24, 12)
        self.head = nn.Sequential(
            nn.Conv2d(12, 10, 3, padding=1), nn.Upsample(scale_factor=2), conv(10, 16), nn.Conv2d(16, 1, 1)
        )

    def forward(self, x):
        return self.head(self.net(self.stem(x)))


@family(
    "one class out of a softmax, without an axis of its own",
    ["net.ups.0", "net.ups.1", "net.ups.2"],
    source="fourteenth",
)
class OneOfTwo(nn.Module):
    """Returns what is beside it too: how high the map is anywhere."""

    def __init__(self):
        super().__init__()
        self.net, self.head = Decoder(), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        found = self.head(self.net(x)).softmax(1)[:, 1]
        return {"score": found.amax((1, 2)), "map": found}
