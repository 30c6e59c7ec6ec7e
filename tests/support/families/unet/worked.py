"""Ways up whose blocks work before they go up: on several levels, with the skip, and as couplings to the end."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, map_of, tokens_of, twice, up_to


@family(
    "blocks work on what is laid together and go up, the last one twice",
    ["blocks.0.0", "blocks.1.0", "blocks.2.0", "blocks.2.2", "blocks.2.4"],
    (1, 1, 64, 64),
    source="seventeenth",
)
class UpTwice(nn.Module):
    """The last block works on each of its levels, and makes the logits too."""

    def __init__(self, widths=(8, 16, 24)):
        super().__init__()
        self.encoder, ups = Encoder(widths, stem=4), [nn.Upsample(scale_factor=2) for _ in range(4)]
        last = [conv(24, 12), ups[2], conv(12, 8), ups[3], conv(8, 8), nn.Conv2d(8, 3, 1)]
        self.blocks = nn.ModuleList(
            [nn.Sequential(conv(24, 24), ups[0]), nn.Sequential(conv(40, 16), ups[1]), nn.Sequential(*last)]
        )

    def forward(self, x):
        *skips, x = self.encoder(x)
        x = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(torch.cat([x, skips.pop()], 1))
        return x


class PooledKeys(nn.Module):
    """Attention of which the keys are pooled: they are coarser, and nothing comes up."""

    def __init__(self, c):
        super().__init__()
        self.mix = nn.MultiheadAttention(c, 2, batch_first=True)

    def forward(self, x):
        keys = tokens_of(F.avg_pool2d(x, 2))
        return x + map_of(self.mix(tokens_of(x), keys, keys)[0], *x.shape[2:])


class Times(nn.Module):
    """Works on a map and the pooled skip, goes up and multiplies by the skip."""

    def __init__(self, given, made):
        super().__init__()
        self.down, self.take, self.work = conv(made, made, stride=2), conv(given, made), twice(made, made)

    def forward(self, x, skip):
        return up_to(self.work(self.take(x) + self.down(skip)), skip) * skip


@family(
    "blocks work with the pooled skip, go up and multiply by it",
    ["in:heads.0", "ups.0", "ups.1", "ups.2"],
    source="seventeenth",
    started=True,
)
class MultipliedSkips(nn.Module):
    """Pooled keys in the encoder; the network makes logits of all levels."""

    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        self.encoder, self.mix = Encoder(widths), nn.ModuleList(map(PooledKeys, widths))
        self.ups = nn.ModuleList(Times(a, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.heads = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths[::-1])

    def forward(self, x):
        *skips, x = (mix(y) for mix, y in zip(self.mix, self.encoder(x), strict=True))
        maps = [x]
        for up in self.ups:
            maps.append(up(maps[-1], skips.pop()))
        return [up_to(head(y), maps[-1]) for head, y in zip(self.heads, maps, strict=True)][::-1]


class Coupling(nn.Module):
    """Half of the channels goes on as it is, and what is made of it is added to the other half."""

    def __init__(self, c):
        super().__init__()
        self.work = nn.Sequential(nn.Conv2d(c // 2, c // 2, 3, padding=1), nn.LeakyReLU())

    def forward(self, x):
        half = x.shape[1] // 2
        a, b = x[:, :half], x[:, half:]
        return torch.cat([b, a + self.work(b)], 1)


@family(
    "couplings without a head",
    ["up.0.2", "up.1.2", "up.2.2"],
    (1, 4, 32, 32),
    ladders=[["bottom", "up.0.2", "up.1.2", "up.2.2"]],
    source="seventeenth",
)
class Coupled(nn.Module):
    """Layers mix the channels between couplings; half of them are the skip; the last coupling makes the output."""

    def __init__(self, c=4):
        super().__init__()
        widths = [c, 2 * c, 4 * c]
        self.first = nn.ModuleList(Coupling(width) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(width // 2, 2 * width, 2, 2) for width in widths)
        self.bottom = nn.Sequential(Coupling(8 * c), Coupling(8 * c))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * width, width // 2, 2, 2) for width in widths[::-1])
        parts = [(Coupling(width), nn.Conv2d(width, width, 1), Coupling(width)) for width in widths[::-1]]
        self.up = nn.ModuleList(map(nn.ModuleList, parts))

    def forward(self, x):
        skips = []
        for first, shrink in zip(self.first, self.shrink, strict=True):
            skip, x = first(x).chunk(2, 1)
            skips.append(skip)
            x = shrink(x)
        x = self.bottom(x)
        for grow, up in zip(self.grow, self.up, strict=True):
            x = torch.cat([skips.pop(), grow(x)], 1)
            for layer in up:
                x = layer(x)
        return x
