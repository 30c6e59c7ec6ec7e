"""Ways of writing: checkpoints, output objects, dictionaries, supervision, closures, flat lists, recursion."""

import dataclasses
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Ladder(nn.Module):
    """A plain ladder that the others vary."""

    def __init__(self, classes=3, dims_in=1):
        super().__init__()
        self.encoder, self.head = Encoder((8, 16, 24), dims_in), nn.Conv2d(8, classes, 1)
        self.up = nn.ModuleList([twice(40, 16), twice(24, 8)])

    def features(self, x):
        *skips, x = self.encoder(x)
        made = []
        for up in self.up:
            skip = skips.pop()
            x = up(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1))
            made.append(x)
        return made

    def forward(self, x):
        return self.head(self.features(x)[-1])


@family("checkpointed", ["up.0", "up.1"], source="second")
class Checkpointed(Ladder):
    def features(self, x):
        *skips, x = self.encoder(x)
        for up in self.up:
            skip = skips.pop()
            x = checkpoint(
                lambda a, b, up=up: up(torch.cat([F.interpolate(a, b.shape[2:]), b], 1)), x, skip, use_reentrant=False
            )
        return [x]


@dataclasses.dataclass
class Output:
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple | None = None


@family("output object", ["up.0", "up.1"], source="second")
class Object(Ladder):
    def forward(self, pixel_values, labels=None, return_dict=True):
        made = self.features(pixel_values)
        return Output(None, self.head(made[-1]), tuple(made))


@family("dictionary with supervision", ["up.0", "up.1"], source="second")
class Dictionary(Ladder):
    def __init__(self):
        super().__init__()
        self.aux = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        made = self.features(x)
        return OrderedDict(out=self.head(made[-1]), aux=F.interpolate(self.aux(made[0]), x.shape[2:], mode="bilinear"))


@family("supervised at full size, coarse first", ["up.0", "up.1"], source="second")
class FullSize(Dictionary):
    def forward(self, x):
        return tuple(super().forward(x).values())[::-1]


@family("two tasks", ["up.0", "up.1"], source="second")
class TwoTasks(Ladder):
    def __init__(self):
        super().__init__()
        self.boundary = nn.Sequential(conv(8, 8), nn.Conv2d(8, 1, 1))

    def forward(self, x):
        last = self.features(x)[-1]
        return self.head(last), torch.sigmoid(self.boundary(last))


@family("double decoder", ["second.0", "second.1"], source="second")
class Double(Ladder):
    """DoubleU-Net: the first U's mask gates the image for the second; both masks are returned."""

    def __init__(self):
        super().__init__(1)
        self.encoder2, self.second, self.head2 = (
            Encoder((8, 16, 24)),
            nn.ModuleList([twice(24 + 32, 16), twice(16 + 16, 8)]),
            nn.Conv2d(8, 1, 1),
        )

    def forward(self, x):
        first_skips = self.encoder(x)
        mask = torch.sigmoid(self.head(self.features(x)[-1]))
        *skips, y = self.encoder2(x * mask)
        for i, up in enumerate(self.second):
            skip = skips.pop()
            y = up(torch.cat([F.interpolate(y, skip.shape[2:]), skip, first_skips[1 - i]], 1))
        return torch.cat([mask, torch.sigmoid(self.head2(y))], 1)


@family("shared up block", ["up#0", "up#1"], source="second")
class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.down, self.up, self.head = conv(1, 8), conv(8, 8), twice(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.inp(x)
        b = self.down(F.max_pool2d(a, 2))
        x = self.down(F.max_pool2d(b, 2))
        for skip in (b, a):
            x = self.up(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x)


@family("video", ["up.0", "up.1"], (1, 1, 3, 32, 32), source="second")
class Video(Ladder):
    """B × C × T × H × W: frames become a batch, and an axis again in the output."""

    def forward(self, x):
        b, _, t = x.shape[:3]
        y = super().forward(x.transpose(1, 2).flatten(0, 1))
        return y.view(b, t, *y.shape[1:]).transpose(1, 2)


@family("residual image", ["up.0", "up.1"], (1, 1, 32, 32), source="second")
class Denoiser(Ladder):
    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return x - super().forward(x)


@family("normalised input, odd size", ["up.0", "up.1"], (1, 1, 37, 41), source="second")
class Padded(Ladder):
    def forward(self, x):
        h, w = x.shape[2:]
        mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True) + 1e-5
        y = super().forward(F.pad((x - mean) / std, (0, -w % 4, 0, -h % 4), mode="reflect"))
        return y[..., :h, :w]


@family(
    "stride-4 stem, head goes up by 4",
    ["up.0", "up.1"],
    (1, 3, 64, 64),
    ladders=[["up.0", "up.1", "head.1"], ["up.0", "up.1", "head.0"]],
    source="second",
)
class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.encoder = nn.Conv2d(3, 8, 4, 4), Encoder((8, 16, 24), 8)
        self.up = nn.ModuleList([twice(40, 16), twice(24, 8)])
        self.head = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.GELU(), nn.ConvTranspose2d(8, 5, 2, 2))

    def forward(self, x):
        *skips, x = self.encoder(self.stem(x))
        for up in self.up:
            skip = skips.pop()
            x = up(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1))
        return self.head(x)


@family(
    "recursive module",
    ["model.middle.middle", "model.middle", "model"],
    (1, 1, 64, 64),
    alts={i: [f"model{'.middle' * (2 - i)}.post", f"model{'.middle' * (2 - i)}.post.2"] for i in range(3)},
    source="second",
)
class Recursive(nn.Module):
    """pix2pix: each block holds the next coarser one and returns it beside its own input."""

    class Block(nn.Module):
        def __init__(self, given, inner, middle=None, outermost=False):
            super().__init__()
            self.outermost, self.middle = outermost, middle
            self.pre = nn.Sequential(nn.Conv2d(given, inner, 4, 2, 1), nn.BatchNorm2d(inner), nn.LeakyReLU(0.2, True))
            out = 8 if outermost else given
            self.post = nn.Sequential(
                nn.ConvTranspose2d(inner * (2 if middle else 1), out, 4, 2, 1), nn.BatchNorm2d(out), nn.ReLU(True)
            )

        def forward(self, x):
            y = self.pre(x)
            y = self.post(y if self.middle is None else self.middle(y))
            return y if self.outermost else torch.cat([x, y], 1)

    def __init__(self):
        super().__init__()
        inner = self.Block(16, 24)
        self.model, self.head = self.Block(1, 8, self.Block(8, 16, inner), True), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.head(self.model(x))


@family("flat list with routes", ["layers.11", "layers.14", "layers.17"], (1, 3, 64, 64), source="third")
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
