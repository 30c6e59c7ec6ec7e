"""U-Nets that go up in a way of their own: learned places, kernels made on the way, products with a matrix."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Carafe(nn.Module):
    """Each fine pixel is a learned mean of the 5 × 5 coarse ones around it."""

    def __init__(self, c):
        super().__init__()
        self.compress, self.encode = nn.Conv2d(c, 8, 1), nn.Conv2d(8, 4 * 25, 3, padding=1)

    def forward(self, x):
        b, c, h, w = x.shape
        kernel = F.softmax(F.pixel_shuffle(self.encode(self.compress(x)), 2), 1)
        patches = F.unfold(x, 5, padding=2).view(b, c * 25, h, w)
        patches = F.interpolate(patches, scale_factor=2, mode="nearest").view(b, c, 25, 2 * h, 2 * w)
        return torch.einsum("bkhw,bckhw->bchw", kernel, patches)


class Resampled(nn.Module):
    """A plain ladder with an upsampling of its own."""

    def __init__(self, kind):
        super().__init__()
        self.encoder, self.head = Encoder((8, 16, 24)), nn.Conv2d(8, 3, 1)
        self.grow, self.up = nn.ModuleList([kind(24), kind(16)]), nn.ModuleList([twice(40, 16), twice(24, 8)])

    def forward(self, x):
        *skips, x = self.encoder(x)
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([grow(x), skips.pop()], 1))
        return self.head(x)


@family("CARAFE", ["up.0", "up.1"], source="third")
class WithCarafe(Resampled):
    def __init__(self):
        super().__init__(Carafe)


class DySample(nn.Module):
    """Each fine pixel is read at a learned place of the coarse map."""

    def __init__(self, c):
        super().__init__()
        self.offset = nn.Conv2d(c, 8, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        offset = F.pixel_shuffle(self.offset(x) * 0.25, 2).permute(0, 2, 3, 1)
        ys, xs = (torch.linspace(-1, 1, 2 * size, device=x.device) for size in (h, w))
        ys, xs = torch.meshgrid(ys, xs, indexing="ij")
        place = torch.stack([xs, ys], -1) + 2 * offset / torch.tensor([w, h], device=x.device)
        return F.grid_sample(x, place, mode="bilinear", padding_mode="border", align_corners=False)


@family("DySample", ["up.0", "up.1"], source="third")
class WithDySample(Resampled):
    def __init__(self):
        super().__init__(DySample)


class FixedUp(nn.Module):
    """A block of a level that goes up at its end, by a kernel of the map's own type; it is given a finer map too."""

    def __init__(self, given, made):
        super().__init__()
        self.work, self.narrow = twice(given, given), nn.Conv2d(given, made, 1)

    def forward(self, x, skip, time):
        x = self.narrow(self.work(torch.cat([x, skip], 1))) + time.mean((1, 2, 3), keepdim=True)
        kernel = x.new_zeros(x.shape[1], x.shape[1], 2, 2)
        kernel[range(x.shape[1]), range(x.shape[1])] = 1
        return F.conv_transpose2d(x, kernel, stride=2)


@family("up by a kernel that is made", ["ups.0.narrow", "ups.1.narrow", "last"], (1, 1, 32, 32), source="seventh")
class MadeKernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.ups = Encoder(), nn.ModuleList([FixedUp(48 + 48, 32), FixedUp(32 + 32, 16)])
        self.bottom, self.last, self.head = twice(48, 48), twice(16 + 16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        _, b, c, d = self.encoder(x)
        x = self.ups[1](self.ups[0](self.bottom(d), d, b), c, b)
        return F.interpolate(self.head(self.last(torch.cat([x, b], 1))), scale_factor=2)


@family("up by a matrix", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="sixth")
class MatrixUp(nn.Module):
    """Doubled by a product with ones, added to projected skips; the bottom is the encoder's."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.project = nn.ModuleList([nn.Conv2d(32, 48, 1), nn.Conv2d(16, 32, 1), nn.Conv2d(8, 16, 1)])
        self.up = nn.ModuleList([twice(48, 32), twice(32, 16), twice(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)
        self.register_buffer("ones", torch.ones(1, 2, 2))

    def double(self, x):
        b, c, h, w = x.shape
        x = torch.tensordot(x.unsqueeze(-1), self.ones, dims=1).permute(0, 1, 2, 4, 3, 5)
        return x.reshape(b, c, 2 * h, 2 * w)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for project, up, skip in zip(self.project, self.up, reversed(skips), strict=True):
            x = up(torch.stack([self.double(x), project(skip)]).sum(0))
        return self.head(x)


@family("made weights", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="sixth")
class MadeWeights(nn.Module):
    """Upsampling by a kernel that is laid out anew, by channels, in every pass; a softmax after the last layer."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.up = nn.ModuleList([twice(80, 32), twice(48, 16), twice(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)
        self.register_buffer("kernel", torch.ones(4, 4) / 4)

    def double(self, x):
        weight = x.new_zeros([x.shape[1], x.shape[1], 4, 4])
        each = torch.arange(x.shape[1])
        weight[each, each] = self.kernel
        return F.conv_transpose2d(x, weight, stride=2, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(torch.cat([self.double(x), skip], 1))
        return self.head(x).softmax(1)


class UnpoolUp(nn.Module):
    """A residual block that goes up: both ways come from below."""

    def __init__(self, given, made):
        super().__init__()
        self.main = nn.Sequential(conv(given, made, 1), nn.ConvTranspose2d(made, made, 2, 2))
        self.beside = nn.Sequential(nn.Conv2d(given, made, 1), nn.BatchNorm2d(made))

    def forward(self, x):
        return torch.relu(self.main(x) + F.interpolate(self.beside(x), scale_factor=2))


@family(
    "residual ascents", ["works.0", "works.1"], (1, 1, 32, 32), ladders=[["works.0", "works.1", "head"]], source="sixth"
)
class ResidualAscents(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 32), stem=2)
        self.ups = nn.ModuleList([UnpoolUp(32, 16), UnpoolUp(16, 8)])
        self.works = nn.ModuleList([twice(16, 16), twice(8, 8)])
        self.head = nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, x):
        x = self.encoder(x)[-1]
        for up, work in zip(self.ups, self.works, strict=True):
            x = work(up(x))
        return self.head(x)


@family(
    "channels made before they are laid out", ["block1", "norm"], (1, 1, 64, 64), alts={1: ["block0"]}, source="ninth"
)
class LaidOut(nn.Module):
    """A layer makes the channels of 4 × 4 positions, which the network then lays out before its head."""

    def __init__(self):
        super().__init__()
        self.embed, self.merge = nn.Conv2d(1, 8, 4, 4), nn.Conv2d(8, 16, 2, 2)
        self.bottom, self.down = conv(32, 32), nn.Conv2d(16, 32, 2, 2)
        self.up1, self.up0 = nn.Linear(32, 64), nn.Linear(16, 32)
        self.block1, self.block0 = conv(32, 16), conv(16, 8)
        self.norm, self.expand, self.head = nn.BatchNorm2d(8), nn.Linear(8, 128), nn.Conv2d(8, 3, 1)

    @staticmethod
    def laid_out(x, layer, by):
        b, _, h, w = x.shape
        x = layer(x.permute(0, 2, 3, 1)).view(b, h, w, by, by, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, h * by, w * by)

    def forward(self, x):
        a = self.embed(x)
        b = self.merge(a)
        x = self.laid_out(self.bottom(self.down(b)), self.up1, 2)
        x = self.laid_out(self.block1(torch.cat([x, b], 1)), self.up0, 2)
        x = self.norm(self.block0(torch.cat([x, a], 1)))
        return self.head(self.laid_out(x, self.expand, 4))
