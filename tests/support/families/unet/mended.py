"""U-Nets after what was not right at once of the list "unseen-3": each stands for a kind, not for a network."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


@family(
    "two U's in features",
    ["second.decode.0", "second.decode.1", "second.decode.2.5"],
    source="twelfth",
    alts={2: ["second.decode.2"]},
)
class TwoUs(nn.Module):
    """The second is given what the first made at full size, so all its skips come from a decoder; each has its head."""

    class U(nn.Module):
        def __init__(self, given, made, widths=(8, 16, 24, 32)):
            super().__init__()
            self.encode, self.pool = nn.ModuleList(map(twice, (given, *widths), widths)), nn.MaxPool2d(2)
            steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
            self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in steps)
            self.decode = nn.ModuleList(twice(2 * b, b) for _, b in steps)
            self.decode[-1].append(nn.Conv2d(widths[0], made, 1))

        def forward(self, x):
            skips = []
            for i, block in enumerate(self.encode):
                x = block(self.pool(x) if i else x)
                skips.append(x)
            skips.pop()
            for up, block in zip(self.up, self.decode, strict=True):
                x = block(torch.cat([up(x), skips.pop()], 1))
            return x

    def __init__(self):
        super().__init__()
        self.first, self.second = self.U(1, 4), self.U(4, 1)

    def forward(self, x):
        return self.second(self.first(x).softmax(1))


def round_the_globe(x):
    """The columns go on at the other side, the rows do not."""
    return F.pad(torch.cat([x[..., -1:], x, x[..., :1]], -1), (0, 0, 1, 1))


@family("columns that go round the globe", ["ups.0", "ups.1"], source="twelfth")
class Globe(nn.Module):
    """Convolutions are padded by what lies on the other side; a norm and an activation stand before the head."""

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.first, self.second = nn.Conv2d(given, made, 3), nn.Conv2d(made, made, 3)
            self.norm1, self.norm2, self.act = nn.BatchNorm2d(given), nn.BatchNorm2d(made), nn.SiLU()
            self.skip = nn.Conv2d(given, made, 1)

        def forward(self, x):
            y = self.first(round_the_globe(self.act(self.norm1(x))))
            return self.skip(x) + self.second(round_the_globe(self.act(self.norm2(y))))

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList([self.Block(1, 8), self.Block(8, 16), self.Block(16, 24)])
        self.ups, self.raise_ = nn.ModuleList([self.Block(40, 16), self.Block(24, 8)]), nn.Upsample(scale_factor=2)
        self.norm, self.act, self.head = nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        first = self.downs[0](x)
        second = self.downs[1](F.max_pool2d(first, 2))
        x = self.ups[0](torch.cat([self.raise_(self.downs[2](F.max_pool2d(second, 2))), second], 1))
        x = self.ups[1](torch.cat([self.raise_(x), first], 1))
        return self.head(self.act(self.norm(x)))


@family("blocks that merge, work and go up", ["lowest.work", "blocks.0.work", "blocks.1.work"], source="twelfth")
class GoUpLast(nn.Module):
    """The first of them works on the bottleneck alone and is the decoder's, as the encoder has none of that kind."""

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.work, self.up = conv(given, made), nn.Upsample(scale_factor=2)

        def forward(self, x, skip=None):
            return self.up(self.work(x if skip is None else torch.cat([x, skip], 1)))

    def __init__(self):
        super().__init__()
        self.encoder, self.lowest = Encoder(), self.Block(48, 32)
        self.blocks = nn.ModuleList([self.Block(64, 16), self.Block(32, 8)])
        self.head = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        _, second, third, x = self.encoder(x)
        x = self.lowest(x)
        for block, skip in zip(self.blocks, (third, second), strict=True):
            x = block(x, skip)
        return self.head(x)


@family(
    "logits of all levels, each brought to full size", ["decode.0", "decode.1", "decode.2", "decode.3"],
    source="twelfth",
)  # fmt: skip
class AllAtFullSize(nn.Module):
    """Even those that have that size already; a last layer makes one of all."""

    def __init__(self, widths=(32, 24, 16, 8)):
        super().__init__()
        self.encoder = Encoder(widths[::-1])
        self.decode = nn.ModuleList(twice(a, b) for a, b in zip((32, 56, 40, 24), widths, strict=True))
        self.sides = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1) for width in widths)
        self.fuse = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        skips, found = self.encoder(x), []
        size, x = skips[0].shape[2:], skips.pop()
        for i, block in enumerate(self.decode):
            x = block(torch.cat([up_to(x, skips[-1]), skips.pop()], 1) if i else x)
            found.append(F.interpolate(self.sides[i](x), size, mode="bilinear"))
        return (self.fuse(torch.cat(found, 1)), *found)


@family(
    "logits of all levels by heads of several layers", ["middle", "blocks.0", "blocks.1", "blocks.2"],
    ladders=[["heads.0.1", "heads.1.1", "heads.2.1", "heads.3.1"]], source="twelfth",
)  # fmt: skip
class DeepHeads(nn.Module):
    """The bottleneck has one too, so it counts."""

    def __init__(self):
        super().__init__()
        self.encoder, self.middle = Encoder(), conv(48, 32)
        self.blocks = nn.ModuleList([twice(64, 24), twice(40, 16), twice(24, 8)])
        self.heads = nn.ModuleList(nn.Sequential(conv(c, 8), conv(8, 8), nn.Conv2d(8, 1, 1)) for c in (32, 24, 16, 8))

    def forward(self, x):
        *skips, x = self.encoder(x)
        found = [self.middle(x)]
        for block in self.blocks:
            found.append(block(torch.cat([up_to(found[-1], skips[-1]), skips.pop()], 1)))
        return [head(x) for head, x in zip(self.heads, found, strict=True)][::-1]


KEPT: dict[str, torch.Tensor] = {}
"""What the hooks of the next network keep; its attribute is this very dict."""


@family("maps that hooks keep in a dict", ["blocks.0", "blocks.1", "blocks.2"], source="twelfth")
class OnHooks(nn.Module):
    """The hooks write to a variable of the module, the network reads an attribute of its own."""

    def __init__(self, widths=(8, 16, 32, 48)):
        super().__init__()
        self.encoder, self.kept = Encoder(widths), KEPT
        for i, layer in enumerate(self.encoder.layers):
            layer.register_forward_hook(keeping(str(i)))
        self.blocks = nn.ModuleList(twice(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        self.encoder(x)
        x = self.kept["3"]
        for i, block in enumerate(self.blocks):
            x = block(torch.cat([up_to(x, self.kept[str(2 - i)]), self.kept[str(2 - i)]], 1))
        return self.head(x)


def keeping(name):
    def keep(_module, _given, made):
        KEPT[name] = made

    return keep


@family("coordinates beside each level", ["ups.0.1", "ups.1.1", "ups.2.1"], source="twelfth")
class Coordinates(nn.Module):
    """Before a level goes up, its coordinates are laid beside it: nothing that the network has worked on."""

    def __init__(self, widths=(32, 24, 16, 8)):
        super().__init__()
        self.encoder = Encoder()
        self.neck = conv(48, 32, 1)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a + 2, b, 2, 2), conv(b, b)) for a, b in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(10, 3, 1)

    def forward(self, x):
        x = self.neck(self.encoder(x)[-1])
        for up in self.ups:
            x = up(self.placed(x))
        return self.head(self.placed(x))

    @staticmethod
    def placed(x):
        places = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in x.shape[2:]), indexing="ij")
        return torch.cat([x, torch.stack(places).expand(len(x), -1, -1, -1)], 1)
