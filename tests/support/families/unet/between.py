"""What stands between the end of a level and the next: norms, projections, padding, gates, and other orders of axes."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, Expand, conv, twice, up_to

WIDTHS = (8, 16, 24, 32)


class Mixer(nn.Module):
    """Two residual layers on maps with channels last, each behind a norm."""

    def __init__(self, c):
        super().__init__()
        self.first, self.second = nn.LayerNorm(c), nn.LayerNorm(c)
        self.space = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.channels = nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c))

    def forward(self, x):
        x = x + self.space(self.first(x).movedim(-1, 1)).movedim(1, -1)
        return x + self.channels(self.second(x))


@family(
    "channels last, a norm before the last expansion",
    ["blocks.0", "blocks.1", "blocks.2"],
    (1, 1, 64, 64),
    source="fifteenth",
)
class NormBeforeExpanding(nn.Module):
    """The norm belongs to what expands to full size: the blocks of the other levels end before any."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(WIDTHS, stem=2)
        steps = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.expand = nn.ModuleList(Expand(a, b) for a, b in steps)
        self.mix = nn.ModuleList(nn.Linear(2 * b, b) for _, b in steps)
        self.blocks = nn.ModuleList(nn.Sequential(Mixer(b), Mixer(b)) for _, b in steps)
        self.norm, self.last, self.head = nn.LayerNorm(8), Expand(8, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        *skips, x = [y.movedim(1, -1) for y in self.encoder(x)]
        for expand, mix, block in zip(self.expand, self.mix, self.blocks, strict=True):
            x = block(mix(torch.cat([skips.pop(), expand(x)], -1)))
        return self.head(self.last(self.norm(x)).movedim(-1, 1))


@family(
    "projected, worked on and taken up, at the coarsest level too",
    ["fuse.0.after", "fuse.1.after", "fuse.2.after"],
    alts={0: ["fuse.0"], 1: ["fuse.1"], 2: ["fuse.2"]},
    source="fifteenth",
)
class Prepared(nn.Module):
    """A projection and a block work on each level before it goes up, and on the coarsest nothing else does."""

    class Fuse(nn.Module):
        def __init__(self, c, beside, made):
            super().__init__()
            self.before, self.after = twice(c, c), twice(c + beside, made)

        def forward(self, x, skip):
            return self.after(torch.cat([up_to(self.before(x), skip), skip], 1))

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(WIDTHS)
        steps = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.project = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in steps)
        self.fuse = nn.ModuleList(self.Fuse(b, b, b) for _, b in steps)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for project, fuse in zip(self.project, self.fuse, strict=True):
            x = fuse(project(x), skips.pop())
        return self.head(x)


@family(
    "sums weighed by one gate, the first on the coarsest level",
    ["decoder.fuse.0", "decoder.fuse.1", "decoder.fuse.2"],
    source="fifteenth",
)
class GatedSums(nn.Module):
    """What meets on the coarsest level is weighed and worked on as further up, in a decoder that is one module."""

    class Fuse(nn.Module):
        def __init__(self, c, beside, made):
            super().__init__()
            self.skip, self.gate, self.work = conv(beside, c), nn.Sequential(conv(4, 4), conv(4, 1)), conv(c, made)

        def forward(self, x, skip):
            x, skip = up_to(x, skip), self.skip(skip)
            gate = self.gate(torch.cat([f(y, 1) for y in (x, skip) for f in (means, greatest)], 1)).sigmoid()
            return self.work(gate * x + (1 - gate) * skip)

    class Decoder(nn.Module):
        def __init__(self, fuse):
            super().__init__()
            self.fuse = nn.ModuleList(fuse)

        def forward(self, x, skips):
            for fuse in self.fuse:
                x = fuse(x, skips.pop())
            return x

    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(WIDTHS[1:]), nn.Conv2d(12, 3, 1)
        self.context = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(side), conv(32, 8, 1)) for side in (1, 2))
        self.project = conv(8, 24)
        self.decoder = self.Decoder(self.Fuse(a, b, c) for a, b, c in ((24, 32, 24), (24, 24, 16), (16, 16, 12)))

    def forward(self, x):
        maps = self.encoder(x)
        first, second = (up_to(branch(maps[-1]), maps[-1]) for branch in self.context)
        return self.head(self.decoder(self.project(first + second), maps))


def means(x, axis):
    return x.mean(axis, keepdim=True)


def greatest(x, axis):
    return x.amax(axis, keepdim=True)


@family(
    "blocks that work, pad and go up, the coarsest too",
    ["ups.0.0", "ups.1.0", "ups.2.0"],
    source="fifteenth",
)
class PadsAndRises(nn.Module):
    """A fixed kernel smooths each map while it goes up, which is padded before; the last block does not go up."""

    class Smooth(nn.Module):
        def __init__(self, up):
            super().__init__()
            self.up = up
            self.register_buffer("kernel", torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])))

        def forward(self, x):
            kernel, c = self.kernel[None, None].repeat(x.shape[1], 1, 1, 1) / (16 if self.up else 64), x.shape[1]
            x = F.pad(x, (1, 1, 1, 1), "reflect")
            if self.up:
                return F.conv_transpose2d(x, kernel, stride=2, padding=3, groups=c)
            return F.conv2d(x, kernel, stride=2, groups=c)

    class Residual(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.main = nn.Sequential(nn.GroupNorm(4, given), nn.SiLU(), nn.Conv2d(given, made, 3, padding=1))
            self.skip = nn.Conv2d(given, made, 1)

        def forward(self, x):
            return self.skip(x) + self.main(x)

    class Step(nn.Sequential):
        def forward(self, x, skip=None):
            return super().forward(x if skip is None else torch.cat([x, skip], 1))

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 1)
        down, up = [(8, 8), (8, 16), (16, 24)], [(24, 16), (32, 8), (16, 8)]
        self.downs = nn.ModuleList(
            nn.Sequential(self.Smooth(False) if i else nn.Identity(), self.Residual(a, b))
            for i, (a, b) in enumerate(down)
        )
        self.ups = nn.ModuleList(
            self.Step(self.Residual(a, b), self.Smooth(True) if i < 2 else nn.Identity()) for i, (a, b) in enumerate(up)
        )

    def forward(self, x):
        x, maps = self.first(x), []
        for down in self.downs:
            x = down(x)
            maps.append(x)
        x = self.ups[0](maps.pop())
        for up in self.ups[1:]:
            x = up(x, maps.pop())
        return self.head(x)


@family(
    "frames laid into the batch for each norm",
    ["ups.0", "last"],
    (2, 1, 8, 16, 16),
    source="fifteenth",
)
class FramesInTheBatch(nn.Module):
    """What a norm makes of frames comes out of the batch again as the map it was."""

    class Block(nn.Module):
        def __init__(self, layer, c):
            super().__init__()
            self.layer, self.norm = layer, nn.InstanceNorm2d(c, affine=True)

        def forward(self, x):
            x = self.layer(x).transpose(1, 2)
            return F.leaky_relu(self.norm(x.flatten(0, 1)).view(x.shape).transpose(1, 2))

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList(
            self.Block(nn.Conv3d(a, b, 3, 1 if not i else 2, 1), b)
            for i, (a, b) in enumerate(((1, 8), (8, 16), (16, 24)))
        )
        self.ups = nn.ModuleList(self.Block(nn.ConvTranspose3d(a, b, 4, 2, 1), b) for a, b in ((24, 16), (32, 8)))
        self.last, self.head = self.Block(nn.Conv3d(16, 8, 3, padding=1), 8), nn.Conv3d(8, 2, 1)

    def forward(self, x):
        first = self.downs[0](x)
        second = self.downs[1](first)
        x = self.ups[0](self.downs[2](second))
        x = self.ups[1](torch.cat([x, second], 1))
        return self.head(self.last(torch.cat([x, first], 1)))


@family(
    "rows shuffled into the channels and laid beside the last map",
    ["ups.0", "head.1"],
    (1, 2, 64, 32),
    source="fifteenth",
)
class RowsInTheChannels(nn.Module):
    """The input's rows lie in channels; the head of two layers is given them beside what the decoder made."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.up, self.work = nn.ConvTranspose2d(given, made, 2, 2), twice(2 * made, made)

        def forward(self, x, skip):
            return self.work(torch.cat([self.up(x), skip], 1))

    def __init__(self, rows=2):
        super().__init__()
        self.rows, self.encoder = rows, Encoder((12, 16, 24), given=2 * rows)
        self.ups = nn.ModuleList([self.Up(24, 16), self.Up(16, 12)])
        self.head = nn.Sequential(nn.Conv2d(12 + 2 * rows, 12, 1), nn.GELU(), nn.Conv2d(12, 2 * rows, 1))

    def forward(self, x):
        b, c, h, w = x.shape
        given = x.reshape(b, c * self.rows, h // self.rows, w)
        first, second, x = self.encoder(given)
        x = self.ups[1](self.ups[0](x, second), first)
        return self.head(torch.cat([given, x], 1)).reshape(b, c, h, w)
