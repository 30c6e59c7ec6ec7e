"""U's whose skips are laid beside a level that goes up at once, and levels that several ways lead to."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Ups(nn.Module):
    """Pix2pix: a layer goes up from a level and the skip beside it; what is too large is cropped."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(conv(a, b, 5, 2) for a, b in ((1, 8), (8, 16), (16, 24)))
        self.up = nn.ModuleList(self.rise(a, b) for a, b in ((24, 16), (32, 8), (16, 8)))
        self.head = nn.Conv2d(8, 3, 1)

    def rise(self, given, made):
        return nn.Sequential(nn.ConvTranspose2d(given, made, 5, 2, 1), nn.BatchNorm2d(made), nn.ReLU())

    def cut(self, x):
        return x[:, :, :-1, :-1]

    def forward(self, x):
        maps = [x]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = self.cut(self.up[0](maps[3]))
        x = self.cut(self.up[1](torch.cat([x, maps[2]], 1)))
        return self.head(self.cut(self.up[2](torch.cat([x, maps[1]], 1))))


family("skips beside, cropped after going up", ["up.0", "up.1", "up.2"], source="eleventh")(Ups)


@family("skips beside, cropped by padding, after a resize", ["up.0", "up.1", "up.2"], source="eleventh")
class Resized(Ups):
    """The layer is an enlargement and a convolution without padding's loss; a negative pad crops on all sides."""

    def rise(self, given, made):
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(given, made, 3, padding=2), nn.ReLU())

    def cut(self, x):
        return F.pad(x, (-1, -1, -1, -1))


class TwoWays(nn.Module):
    """A transposed convolution goes up, and a part of the channels beside it, enlarged; then a norm, then the skip."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((8, 16), (16, 32)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((32, 16), (32, 8)))
        self.norm = nn.ModuleList(nn.BatchNorm2d(c) for c in (16, 8))
        self.stem, self.head = conv(1, 8), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(F.leaky_relu(down(skips[-1])))
        x = skips.pop()
        for up, norm in zip(self.up, self.norm, strict=True):
            y = up(F.leaky_relu(x))
            x = norm(y + F.interpolate(x[:, : y.shape[1]], scale_factor=2))
            x = torch.cat([x, skips.pop()], 1)
        return self.head(x)


family("two ways up, summed", ["norm.0", "norm.1"], source="eleventh")(TwoWays)


class OneChannel(nn.Module):
    """A residual block for each level, of which the last has as many channels as the image: one."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.short, self.work = nn.Conv2d(given, made, 1), twice(2 * given, made)

        def forward(self, x, skip):
            x = F.interpolate(x, scale_factor=2)
            return self.work(torch.cat([x, skip], 1)) + self.short(x)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((16, 24, 24))
        self.lift = nn.Conv2d(16, 24, 1)
        self.up, self.head = nn.ModuleList([self.Up(24, 24), self.Up(24, 1)]), self.made()

    def made(self):
        return nn.Conv2d(1, 1, 1)

    def forward(self, x):
        fine, middle, x = self.encoder(x)
        return self.head(self.up[1](self.up[0](x, middle), self.lift(fine)))


family("a finest level of one channel", ["up.0", "up.1"], source="eleventh")(OneChannel)


@family("a finest level of one channel, several classes", ["up.0", "up.1"], source="eleventh")
class OneChannelClasses(OneChannel):
    def made(self):
        return nn.Conv2d(1, 3, 1)


class LongConnections(nn.Module):
    """UNet 3+: each level is given all coarser ones at once, enlarged, beside the one below it."""

    enlarged = nn.UpsamplingNearest2d

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, 8, 2, 2) for a in (32, 16, 16))
        self.far = nn.ModuleList(
            nn.Sequential(self.enlarged(scale_factor=s), nn.Conv2d(c, 8, 3, padding=1))
            for s, c in ((4, 32), (4, 16), (8, 32))
        )
        self.work = nn.ModuleList(twice(c, 16) for c in (24 + 8, 16 + 16, 8 + 24))
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        fine, middle, deep, bottom = self.encoder(x)
        one = self.work[0](torch.cat([deep, self.up[0](bottom)], 1))
        beside = torch.cat([middle, self.far[0](bottom)], 1)
        two = self.work[1](torch.cat([beside, self.up[1](one)], 1))
        beside = torch.cat([fine, self.far[1](one), self.far[2](bottom)], 1)
        return self.head(self.work[2](torch.cat([beside, self.up[2](two)], 1)))


family("longer connections that jump over a level", ["work.0", "work.1", "work.2"], source="eleventh")(LongConnections)


@family("longer connections, enlarged bilinearly", ["work.0", "work.1", "work.2"], source="eleventh")
class LongBilinear(LongConnections):
    enlarged = nn.UpsamplingBilinear2d


class Beside(nn.Module):
    """Decoders of one kind on one encoder, whose logits are laid beside each other."""

    class Decoder(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.up = nn.ModuleList([twice(24 + 16, 16), twice(16 + 8, 8)])
            self.head = nn.Conv2d(8, classes, 1)

        def forward(self, fine, middle, x):
            x = self.up[0](torch.cat([F.interpolate(x, scale_factor=2), middle], 1))
            return self.head(self.up[1](torch.cat([F.interpolate(x, scale_factor=2), fine], 1)))

    def __init__(self, *classes):
        super().__init__()
        self.encoder = Encoder((8, 16, 24))
        self.decoders = nn.ModuleList(self.Decoder(one) for one in classes)

    def forward(self, x):
        maps = self.encoder(x)
        return torch.cat([decoder(*maps) for decoder in self.decoders], 1)


FIRST = ["decoders.0.up.0", "decoders.0.up.1"]
family("two decoders, logits side by side", FIRST, source="eleventh", args=(2, 2))(Beside)
family("three decoders, logits side by side", FIRST, source="eleventh", args=(2, 2, 3))(Beside)
