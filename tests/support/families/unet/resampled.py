"""What resamples or merges otherwise: by indices, twice at the bottom, by a block of its own below added skips."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice

WIDTHS = (8, 16, 24, 32)


class Between(nn.Module):
    """Takes lines between lines, along one axis after the other, by indices: as on a globe."""

    def forward(self, x):
        for axis in (2, 3):
            places = torch.linspace(0, x.shape[axis] - 1, 2 * x.shape[axis])
            low = places.floor().long()
            high = (low + 1).clamp(max=x.shape[axis] - 1)
            share = (places - low).view(*(-1 if i == axis else 1 for i in range(2, 4)))
            x = torch.lerp(x.index_select(axis, low), x.index_select(axis, high), share)
        return x


class WorksUp(nn.Module):
    def __init__(self, given, made):
        super().__init__()
        self.work, self.skip, self.up = twice(given, made), nn.Conv2d(given, made, 1), Between()

    def forward(self, x):
        return self.up(self.work(x) + self.skip(x))


@family("resampled by indices", ["in:ups.0.up", "in:ups.1.up", "in:ups.2.up"], source="sixteenth")
class ByIndices(nn.Module):
    """Each block works and goes up, the coarsest too; two neighbours are taken by indices and mixed."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(WIDTHS)
        self.ups = nn.ModuleList([WorksUp(32, 24), WorksUp(48, 16), WorksUp(32, 8)])
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        _, fine, coarse, x = self.encoder(x)
        x = torch.cat([self.ups[0](x), coarse], 1)
        x = torch.cat([self.ups[1](x), fine], 1)
        return self.head(self.ups[2](x))


@family(
    "skips added by the parent, two on the coarsest level",
    ["ups.0", "ups.1", "ups.2"],
    (1, 1, 32, 32),
    source="sixteenth",
    alts={2: ["in:head"]},
)
class TwoAtTheBottom(nn.Module):
    """The encoder has two maps on its last level: one is added before that level is worked on, one as it goes up."""

    def __init__(self, c=16):
        super().__init__()
        self.down = nn.ModuleList([conv(1, c), conv(c, c, stride=2), conv(c, c, stride=2), conv(c, c)])
        self.embed = nn.Sequential(nn.Conv2d(c, c, 1), nn.Tanh(), nn.Conv2d(c, c, 1), nn.Tanh())
        self.skips = nn.ModuleList(conv(c, c, 1) for _ in range(4))
        rise = [nn.Sequential(nn.ConvTranspose2d(c, c, 2, 2), nn.BatchNorm2d(c), nn.ReLU()) for _ in range(2)]
        self.ups, self.head = nn.ModuleList([conv(c, c), *rise]), nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x):
        maps = []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        e0, e1, e2, e3 = maps
        x = self.ups[0](self.skips[3](e3) + self.embed(e3))
        x = self.ups[1](self.skips[2](e2) + x)
        x = self.ups[2](self.skips[1](e1) + x)
        return self.head(self.skips[0](e0) + x)


class Adds(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.up, self.skip = nn.Upsample(scale_factor=2), conv(c, c)

    def forward(self, x, skip):
        return self.up(x) + self.skip(skip)


@family("a block at the bottom, skips added going up", ["ups.0", "ups.1", "ups.2"], source="sixteenth")
class AddedAbove(nn.Module):
    """Nothing works on the sums, as in a pyramid; but what stands at the bottom is no projection."""

    def __init__(self, c=16):
        super().__init__()
        self.down, self.bottom = nn.ModuleList([conv(1, c), conv(c, c), conv(c, c)]), twice(c, c)
        self.ups, self.head = nn.ModuleList(Adds(c) for _ in range(3)), nn.Conv2d(c, 3, 1)

    def forward(self, x):
        maps = []
        for layer in self.down:
            maps.append(layer(x))
            x = F.avg_pool2d(maps[-1], 2)
        x = self.bottom(x)
        for up, skip in zip(self.ups, reversed(maps), strict=True):
            x = up(x, skip)
        return self.head(x)


class Ascent(nn.Module):
    """Sums and valid convolutions, on padded maps."""

    def __init__(self):
        super().__init__()
        pairs = [(32, 24), (24, 16), (16, 8)]
        self.blocks = nn.ModuleList(nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(a, b, 3)) for a, b in pairs)
        self.skips = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in [(24, 32), (16, 24), (8, 16)])

    def forward(self, x, maps):
        for block, project, skip in zip(self.blocks, self.skips, maps, strict=True):
            x = block(F.interpolate(x, scale_factor=2) + project(skip))
        return x


@family(
    "two decoders, joined with channels last",
    [f"cells.blocks.{i}" for i in range(3)],
    source="sixteenth",
)
class JoinedLast(nn.Module):
    """The probability of one class and two distances are laid beside each other, channels last."""

    def __init__(self):
        super().__init__()
        self.encoder, self.cells, self.distances = Encoder(WIDTHS), Ascent(), Ascent()
        self.heads = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)) for _ in range(2))

    def forward(self, x):
        *maps, x = self.encoder(x)
        cells, distances = self.cells(x, maps[::-1]), self.distances(x, maps[::-1])
        cells = self.heads[0](cells).permute(0, 2, 3, 1).softmax(-1)[..., 1].unsqueeze(-1)
        return torch.cat([cells, self.heads[1](distances).permute(0, 2, 3, 1)], -1)
