"""What goes up, and how much it does before and after; and what only looks like a skip, a level or a layer."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


def work_and_up(given: int, made: int) -> nn.Sequential:
    up = nn.ConvTranspose2d(made, made, 2, 2, bias=False)
    return nn.Sequential(conv(given, made), up, nn.BatchNorm2d(made), nn.ReLU())


@family("blocks work and go up, on the encoder's coarsest map too", ["ups.0.0", "ups.1.0", "work"], source="nineteenth")
class WorkedAtTheBottom(nn.Module):
    """The encoder has layers on the coarsest level, and then a block does what the others do but for the skip."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24))
        self.ups = nn.ModuleList([work_and_up(24, 16), work_and_up(32, 8)])
        self.work, self.head = twice(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = torch.cat([up(x), skip], 1)
        return self.head(self.work(x))


@family(
    "the last skip is laid beside for the head alone",
    ["ups.0.0", "ups.1.0", "ups.1"],
    alts={2: ["in:head"]},
    source="nineteenth",
)
class ForTheHead(nn.Module):
    """What a block made by going up and a skip are made into logits at once."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24))
        self.ups, self.head = nn.ModuleList([work_and_up(24, 16), work_and_up(32, 8)]), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = torch.cat([up(x), skip], 1)
        return self.head(x)


@family("each level is one layer and a pixel shuffle", ["ups.0", "ups.1", "ups.2"], source="nineteenth")
class Shuffled(nn.Module):
    """No skips; twice the size of the image."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 12, 4, 4), nn.Conv2d(12, 3, 3, padding=1)
        layers = [nn.Sequential(nn.Conv2d(12, 48, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()) for _ in range(3)]
        self.ups = nn.ModuleList(layers)

    def forward(self, x):
        x = self.stem(x)
        for up in self.ups:
            x = up(x)
        return self.head(x)


class Residual(nn.Module):
    """Begins with a norm; a time may be added in the middle."""

    def __init__(self, given, made):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, given), nn.Conv2d(given, made, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, made), nn.Conv2d(made, made, 3, padding=1)
        self.short, self.time = nn.Conv2d(given, made, 1), nn.Linear(8, made)

    def forward(self, x, time=None):
        y = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            y = y + self.time(time)[..., None, None]
        return self.short(x) + self.conv2(F.silu(self.norm2(y)))


@family(
    "blocks of residual blocks end by a resize and one layer",
    ["ups.0.second", "ups.1.second", "ups.2.second"],
    (1, 3, 32, 32),
    source="nineteenth",
)
class Smoothed(nn.Module):
    """No skips, as in autoencoders of diffusion; what the one layer makes is but the next block's input."""

    class Up(nn.Module):
        def __init__(self, given, made, last=False):
            super().__init__()
            self.first, self.second = Residual(given, made), Residual(made, made)
            self.smooth = None if last else nn.Conv2d(made, made, 3, padding=1)

        def forward(self, x):
            x = self.second(self.first(x))
            return x if self.smooth is None else self.smooth(F.interpolate(x, scale_factor=2.0))

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 16, 4, 4), Residual(16, 24), nn.Conv2d(24, 4, 1))
        self.begin, self.middle = nn.Conv2d(4, 24, 1), Residual(24, 24)
        self.ups = nn.ModuleList([self.Up(24, 24), self.Up(24, 16), self.Up(16, 8, last=True)])
        self.norm, self.head = nn.GroupNorm(4, 8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x = self.middle(self.begin(self.down(x)))
        for up in self.ups:
            x = up(x)
        return self.head(F.silu(self.norm(x)))


@family(
    "a time takes the type of a map, and channels are made for a shuffle",
    ["ups.0.0", "ups.1.0", "last"],
    (1, 1, 32, 32),
    (1, 8),
    source="nineteenth",
)
class TypedTime(nn.Module):
    """Of the map the time has nothing but its type, so that a residual sum with it inside is no skip."""

    def __init__(self):
        super().__init__()
        self.encoder, self.ups = Encoder((8, 16, 24, 32)), nn.ModuleList()
        for given, made in ((56, 24), (40, 16)):
            up = nn.Sequential(nn.Conv2d(made, 4 * made, 1), nn.SiLU(), nn.PixelShuffle(2))
            self.ups.append(nn.ModuleList([Residual(given, made), nn.Identity(), up]))  # no attention
        self.bottom = nn.Sequential(nn.Conv2d(32, 128, 1), nn.SiLU(), nn.PixelShuffle(2))
        self.last, self.head = Residual(24, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x, time):
        *skips, x = self.encoder(x)
        time = time.type_as(skips[0])
        x = self.bottom(x)
        for work, attend, up in self.ups:
            x = up(attend(work(torch.cat([x, skips.pop()], 1), time)))
        return self.head(self.last(torch.cat([x, skips.pop()], 1), time))


class Recurrent(nn.Module):
    """A layer makes candidates and gates; each slice along the first axis forgets as much of the one before it."""

    def __init__(self, given, made, stride=(1, 1, 1)):
        super().__init__()
        self.conv = nn.Conv3d(given, 2 * made, 3, stride, 1)

    def forward(self, x):
        made, kept = self.conv(x).chunk(2, 1)
        state, states = None, []
        for new, keep in zip(made.tanh().split(1, 2), kept.sigmoid().split(1, 2), strict=True):
            state = (1 - keep) * new if state is None else keep * state + (1 - keep) * new
            states.append(state)
        return torch.cat(states, 2)


@family("recurrent layers along one axis", ["ups.0", "ups.1"], (1, 1, 4, 16, 16), source="nineteenth")
class Slices(nn.Module):
    """Maps are cut into slices and laid together of them again, which is no other level; the image is added."""

    def __init__(self):
        super().__init__()
        widths, half = (8, 12, 16), (1, 2, 2)
        steps = zip((1, *widths), widths, ((1, 1, 1), half, half), strict=False)
        self.down = nn.ModuleList(Recurrent(a, b, stride) for a, b, stride in steps)
        self.ups = nn.ModuleList([Recurrent(28, 12), Recurrent(20, 8)])
        self.up, self.last = nn.Upsample(scale_factor=half), Recurrent(8, 1)

    def forward(self, x):
        maps = [x]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = maps.pop()
        for layer in self.ups:
            x = layer(torch.cat([self.up(x), maps.pop()], 1))
        return maps[0] + self.last(x)


@family(
    "a skip is added at the bottom too, and goes up at once",
    ["work.0", "work.1", "work.2"],
    source="nineteenth",
)
class AddedAtTheBottom(nn.Module):
    """The parent adds what the encoder made to what a block makes of it, on each level."""

    def __init__(self):
        super().__init__()
        self.encoder, widths = Encoder((8, 16, 24)), (24, 16, 8)
        self.work = nn.ModuleList(twice(width, width) for width in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((24, 16), (16, 8)))
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        skips = self.encoder(x)
        x = self.work[0](skips[-1]) + skips.pop()
        for up, work in zip(self.ups, self.work[1:], strict=True):
            x = work(up(x)) + skips.pop()
        return self.head(x)


@family(
    "the output is given back the scale of the input",
    ["ups.0.1", "ups.1.1", "ups.2.1", "ups.2"],
    (1, 2, 128),
    ladders=[["ups.0.1", "ups.1.1", "ups.2.1"]],
    source="nineteenth",
)
class ScaledBack(nn.Module):
    """The last block makes a sound as the others make their levels, and the network multiplies it by its loudness."""

    def __init__(self):
        super().__init__()
        widths = (2, 8, 12, 16)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 4, 2, 1), nn.ReLU(), nn.Conv1d(b, 2 * b, 1), nn.GLU(1))
            for a, b in itertools.pairwise(widths)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv1d(b, 2 * b, 1), nn.GLU(1), nn.ConvTranspose1d(b, a, 4, 2, 1), *[nn.ReLU()] * (a > 2))
            for a, b in reversed(list(itertools.pairwise(widths)))
        )

    def forward(self, x):
        mean, loud = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
        x, skips = (x - mean) / loud, []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for layer in self.ups:
            x = layer(x + skips.pop())
        return x * loud + mean
