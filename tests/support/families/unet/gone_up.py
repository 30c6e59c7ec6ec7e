"""What goes up, and how much it does before and after; and what only looks like a skip, a level or a layer."""

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
