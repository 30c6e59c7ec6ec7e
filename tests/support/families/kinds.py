"""Kinds of network on which the rules erred when they were tried on lists kept for judging: one small one of each."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Holder(nn.Module):
    """Holds a block that others call: it is never called itself."""

    def __init__(self, mod):
        super().__init__()
        self.mod = mod


@family("lattice of blocks that are called through their holders", ["up.0.mod", "up.1.mod"], source="tenth")
class Lattice(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(1, 8)
        self.down = nn.ModuleList(Holder(conv(given, made, 3, 2)) for given, made in ((8, 16), (16, 24)))
        self.same = nn.ModuleList(Holder(twice(c, c)) for c in (8, 16, 24))
        self.lift = nn.ModuleList(Holder(nn.Conv2d(given, made, 1)) for given, made in ((24, 16), (16, 8)))
        self.up = nn.ModuleList(Holder(twice(c, c)) for c in (16, 8))
        self.head = Holder(nn.Conv2d(8, 3, 1))

    def forward(self, x):
        levels = [self.same[0].mod(self.stem(x))]
        for down, same in zip(self.down, self.same[1:], strict=True):
            levels.append(same.mod(down.mod(levels[-1])))
        x = levels.pop()
        for lift, up in zip(self.lift, self.up, strict=True):
            x = up.mod(F.interpolate(lift.mod(x), scale_factor=2) + levels.pop())
        return self.head.mod(x)


@family(
    "depth head, activated after the last fusion",
    ["fuse.0", "fuse.1", "fuse.2"],
    (1, 1, 64, 64),
    alts={2: ["act"]},
    source="tenth",
)
class ActivatedFusion(nn.Module):
    """As in DPT: the maps of the encoder are projected, each fusion goes up; the head begins with an activation."""

    class Fuse(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.skip, self.work, self.project = twice(c, c), twice(c, c), nn.Conv2d(c, c, 1)

        def forward(self, x, skip=None):
            x = x if skip is None else x + self.skip(skip)
            return self.project(F.interpolate(x + self.work(x), scale_factor=2, mode="bilinear"))

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 1, stem=2)
        self.project = nn.ModuleList(nn.Conv2d(c, 12, 3, padding=1) for c in (8, 16, 24))
        self.fuse, self.act = nn.ModuleList(self.Fuse(12) for _ in range(3)), nn.ReLU()
        self.head = nn.Sequential(nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, x):
        a, b, c = (project(m) for project, m in zip(self.project, self.encoder(x), strict=True))
        x = self.fuse[0](c)
        x = self.fuse[1](x, b)
        return self.head(self.act(self.fuse[2](x, a)))


@family("siamese, differences for skips", ["up.0", "up.1"], (1, 1, 32, 32), (1, 1, 32, 32), source="tenth")
class Siamese(nn.Module):
    """Two images through one encoder; the decoder goes up from their difference at the bottom."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.up, self.work = nn.ConvTranspose2d(given, made, 2, 2), twice(2 * made, made)

        def forward(self, x, skip):
            return self.work(torch.cat([self.up(x), skip], 1))

    def __init__(self):
        super().__init__()
        self.encoder, self.mix = Encoder((8, 16, 24), 1), twice(24, 24)
        self.up, self.head = nn.ModuleList([self.Up(24, 16), self.Up(16, 8)]), nn.Conv2d(8, 2, 1)

    def forward(self, before, after):
        *skips, x = [(a - b).abs() for a, b in zip(self.encoder(before), self.encoder(after), strict=True)]
        x = self.mix(x)
        for up in self.up:
            x = up(x, skips.pop())
        return self.head(x)


@family("siamese, both bottoms side by side", ["up1", "up0"], (1, 1, 32, 32), (1, 1, 32, 32), source="tenth")
class SiameseBeside(nn.Module):
    def __init__(self):
        super().__init__()
        self.down0, self.down1, self.down2 = twice(1, 8), twice(8, 16), twice(16, 24)
        self.bottom = twice(48, 24)
        self.up1, self.up0, self.head = twice(24 + 32, 16), twice(16 + 16, 8), nn.Conv2d(8, 2, 1)

    def encode(self, x):
        a = self.down0(x)
        b = self.down1(F.max_pool2d(a, 2))
        return a, b, self.down2(F.max_pool2d(b, 2))

    def forward(self, before, after):
        (a, b, c), (d, e, f) = self.encode(before), self.encode(after)
        x = self.bottom(torch.cat([c, f], 1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), b, e], 1))
        return self.head(self.up0(torch.cat([F.interpolate(x, scale_factor=2), a, d], 1)))


@family("valid 3D, the merge crops", ["up.0", "up.1"], (1, 1, 44, 44, 44), source="tenth")
class Valid3D(nn.Module):
    class Merge(nn.Module):
        """Goes up and lays the middle of the skip beside it."""

        def __init__(self, given, made):
            super().__init__()
            self.up = nn.ConvTranspose3d(given, made, 2, 2)

        def forward(self, x, skip):
            x = self.up(x)
            cut = [(a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True)]
            for axis, start in enumerate(cut, 2):
                skip = skip.narrow(axis, start, x.shape[axis])
            return torch.cat([x, skip], 1)

    def __init__(self):
        super().__init__()

        def block(given, made):
            return nn.Sequential(nn.Conv3d(given, made, 3), nn.ReLU(), nn.Conv3d(made, made, 3), nn.ReLU())

        self.down = nn.ModuleList([block(1, 4), block(4, 8), block(8, 12)])
        self.merge = nn.ModuleList([self.Merge(12, 8), self.Merge(8, 4)])
        self.up, self.head = nn.ModuleList([block(16, 8), block(8, 4)]), nn.Conv3d(4, 2, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool3d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for merge, up in zip(self.merge, self.up, strict=True):
            x = up(merge(x, skips.pop()))
        return self.head(x)


@family("flat list, up by unpooling", ["decode.2", "decode.5"], (1, 1, 32, 32), source="tenth", started=True)
class Unpooled(nn.Module):
    """Layers in two flat lists; the places of the maxima lead the way up."""

    def __init__(self):
        super().__init__()

        def three(given, made):
            return [nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU()]

        self.encode = nn.ModuleList([*three(1, 8), *three(8, 16), *three(16, 16)])
        self.decode = nn.ModuleList([*three(16, 8), *three(8, 8)])
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        places = []
        for i, layer in enumerate(self.encode):
            x = layer(x)
            if i in (2, 5):
                x, at = self.pool(x)
                places.append(at)
        for i, layer in enumerate(self.decode):
            if i in (0, 3):
                x = self.unpool(x, places.pop())
            x = layer(x)
        return self.head(x)


class Stored:
    """Keeps what a layer returned in the last pass."""

    def __init__(self, layer):
        self.stored = None
        layer.register_forward_hook(self.store)

    def store(self, _module, _given, made):
        self.stored = made


@family("a decoder on hooks of its encoder", ["layers.2", "layers.3"], (1, 1, 32, 32), source="tenth")
class OnHooks(nn.Module):
    """As fastai writes it: one sequence, whose upper blocks read what hooks kept of the lower ones."""

    class Up(nn.Module):
        def __init__(self, given, skip, made, hook):
            super().__init__()
            self.hook, self.shuffle = hook, nn.Sequential(nn.Conv2d(given, 4 * made, 1), nn.PixelShuffle(2))
            self.norm, self.work = nn.BatchNorm2d(skip), twice(made + skip, made)

        def forward(self, x):
            return self.work(F.relu(torch.cat([self.shuffle(x), self.norm(self.hook.stored)], 1)))

    def __init__(self):
        super().__init__()
        encoder = nn.Sequential(twice(1, 8), nn.MaxPool2d(2), twice(8, 16), nn.MaxPool2d(2), twice(16, 24))
        kept = [Stored(encoder[0]), Stored(encoder[2])]
        middle, ups = twice(24, 24), [self.Up(24, 16, 16, kept[1]), self.Up(16, 8, 8, kept[0])]
        self.layers = nn.ModuleList([encoder, middle, *ups, nn.Conv2d(8, 3, 1)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@family("depth, without an axis of classes", ["up.0", "up.1"], (1, 1, 32, 32), source="tenth")
class NoClasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.up = Encoder((8, 16, 24), 1), nn.ModuleList([twice(40, 16), twice(24, 8)])
        self.head = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up in self.up:
            skip = skips.pop()
            x = up(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1))
        return F.softplus(self.head(x)).squeeze(1)


@family(
    "a pyramid laid side by side and projected",
    ["lateral.2", "smooth.1", "project"],
    (1, 1, 64, 64),
    alts={2: ["smooth.0"]},
    source="tenth",
)
class Projected(nn.Module):
    """As UPerNet: sums going down, each smoothed, all brought to the finest size, laid side by side and projected."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 1, stem=2)
        self.lateral = nn.ModuleList(conv(c, 12, 1) for c in (8, 16, 24))
        self.smooth = nn.ModuleList(conv(12, 12) for _ in range(2))
        self.project, self.head = conv(36, 12), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        a, b, c = (lateral(m) for lateral, m in zip(self.lateral, self.encoder(x), strict=True))
        b = b + F.interpolate(c, b.shape[2:])
        a = a + F.interpolate(b, a.shape[2:])
        maps = [self.smooth[0](a), *(F.interpolate(m, a.shape[2:]) for m in (self.smooth[1](b), c))]
        return F.interpolate(self.head(self.project(torch.cat(maps, 1))), x.shape[2:])


@family("Fourier operators that resample", ["up.0", "up.1"], (1, 1, 32, 32), source="tenth", started=True)
class Fourier(nn.Module):
    """As UNO: each operator multiplies low frequencies and returns another size; a pointwise way beside it."""

    class Operator(nn.Module):
        def __init__(self, given, made, size):
            super().__init__()
            self.size, self.beside = size, nn.Conv2d(given, made, 1)
            self.weight = nn.Parameter(torch.randn(given, made, 4, 4, dtype=torch.cfloat) / given)

        def forward(self, x):
            kept = torch.einsum("bixy,ioxy->boxy", torch.fft.rfft2(x)[:, :, :4, :4], self.weight)
            spectrum = kept.new_zeros(len(x), kept.shape[1], self.size, self.size // 2 + 1)
            spectrum[:, :, :4, :4] = kept
            made = torch.fft.irfft2(spectrum, s=(self.size, self.size))
            beside = F.interpolate(self.beside(x), (self.size, self.size), mode="bicubic")
            return F.gelu(made * (self.size / x.shape[-1]) ** 2 + beside)

    def __init__(self):
        super().__init__()
        one = self.Operator
        self.lift, self.head = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 2, 1)
        self.down = nn.ModuleList([one(8, 8, 32), one(8, 16, 16), one(16, 24, 8)])
        self.up = nn.ModuleList([one(24, 16, 16), one(32, 8, 32)])

    def forward(self, x):
        skips = []
        x = self.lift(x)
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[0](x)
        return self.head(self.up[1](torch.cat([x, skips[1]], 1)))


@family("invertible", ["up.0", "up.1"], (1, 1, 32, 32), source="tenth", started=True)
class Invertible(nn.Module):
    """As iUNets: half of the channels goes on, the others are the skip; coupled layers; sizes change by shuffling."""

    class Coupled(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.first, self.second = conv(c // 2, c // 2), conv(c // 2, c // 2)

        def forward(self, x):
            a, b = x.chunk(2, 1)
            a = a + self.first(b)
            return torch.cat([a, b + self.second(a)], 1)

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 3, 1)
        self.down = nn.ModuleList(self.Coupled(c) for c in (8, 16, 32))
        self.up = nn.ModuleList(self.Coupled(c) for c in (16, 8))

    def forward(self, x):
        skips, x = [], self.down[0](self.stem(x))
        for down in self.down[1:]:
            kept, on = x.chunk(2, 1)
            skips.append(kept)
            x = down(F.pixel_unshuffle(on, 2))
        for up in self.up:
            x = up(torch.cat([skips.pop(), F.pixel_shuffle(x, 2)], 1))
        return self.head(x)
