"""U-Nets of newer blocks: large kernels, mixers inside a block, learned curves, attention."""

import dataclasses
import importlib.util

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv
from support.places import ROOT


@family(
    "MedNeXt",
    ["decode.0", "decode.1"],
    (1, 1, 16, 16, 16),
    alts={0: ["decode.0.0"], 1: ["decode.1.0"]},
    ladders=[["bottom", "decode.0", "decode.1"]],  # it makes logits of all three
    source="third",
)
class MedNeXt(nn.Module):
    """Large kernels, inverted bottlenecks; going up is such a block too, with a residual transposed convolution."""

    class Block(nn.Module):
        def __init__(self, given, made, first, short=None):
            super().__init__()
            self.conv1, self.norm, self.conv2 = first, nn.GroupNorm(given, given), nn.Conv3d(given, 2 * given, 1)
            self.conv3, self.short = nn.Conv3d(2 * given, made, 1), short

        def forward(self, x):
            y = self.conv3(F.gelu(self.conv2(self.norm(self.conv1(x)))))
            if isinstance(self.conv1, nn.ConvTranspose3d):
                return F.pad(y, (1, 0, 1, 0, 1, 0)) + F.pad(self.short(x), (1, 0, 1, 0, 1, 0))
            return y + (x if self.short is None else self.short(x))

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 1)
        self.encode = nn.ModuleList(self.plain(c) for c in (4, 8))
        self.down = nn.ModuleList(
            self.Block(c, 2 * c, nn.Conv3d(c, c, 5, 2, 2, groups=c), nn.Conv3d(c, 2 * c, 1, 2)) for c in (4, 8)
        )
        self.bottom = self.plain(16)
        self.up = nn.ModuleList(
            self.Block(c, c // 2, nn.ConvTranspose3d(c, c, 5, 2, 2, groups=c), nn.ConvTranspose3d(c, c // 2, 1, 2))
            for c in (16, 8)
        )
        self.decode = nn.ModuleList(nn.Sequential(self.plain(c)) for c in (8, 4))
        self.out = nn.ModuleList(nn.ConvTranspose3d(c, 3, 1) for c in (4, 8, 16))

    def plain(self, c):
        return self.Block(c, c, nn.Conv3d(c, c, 5, 1, 2, groups=c))

    def forward(self, x):
        x, skips = self.stem(x), []
        for encode, down in zip(self.encode, self.down, strict=True):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        made = [self.out[2](x)]
        for i, (up, decode) in enumerate(zip(self.up, self.decode, strict=True)):
            x = decode(skips.pop() + up(x))
            made.append(self.out[1 - i](x))
        return made[::-1]


@family("CMUNeXt", ["up_conv3", "up_conv2"], (1, 3, 32, 32), source="third")
class CMUNeXt(nn.Module):
    class Block(nn.Module):
        def __init__(self, given, made, kernel=7):
            super().__init__()
            self.depth = nn.Sequential(
                nn.Conv2d(given, given, kernel, padding=kernel // 2, groups=given), nn.GELU(), nn.BatchNorm2d(given)
            )
            self.mix = nn.Sequential(
                nn.Conv2d(given, 4 * given, 1), nn.GELU(), nn.BatchNorm2d(4 * given), nn.Conv2d(4 * given, given, 1)
            )
            self.up = conv(given, made)

        def forward(self, x):
            x = x + self.depth(x)
            return self.up(self.mix(x))

    class Fusion(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv2d(given, given, 3, 1, 1, groups=2),
                nn.GELU(),
                nn.Conv2d(given, 4 * made, 1),
                nn.GELU(),
                nn.Conv2d(4 * made, made, 1),
            )

        def forward(self, x):
            return self.conv(x)

    def __init__(self):
        super().__init__()
        self.stem, self.encoder1, self.encoder2 = conv(3, 8), self.Block(8, 16), self.Block(16, 24)
        self.up3, self.up2 = (nn.Sequential(nn.Upsample(scale_factor=2), conv(a, b)) for a, b in ((24, 16), (16, 8)))
        self.up_conv3, self.up_conv2, self.head = self.Fusion(32, 16), self.Fusion(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.stem(x)
        b = self.encoder1(F.max_pool2d(a, 2))
        y = self.up3(self.encoder2(F.max_pool2d(b, 2)))
        y = self.up_conv3(torch.cat([b, y], 1))
        return self.head(self.up_conv2(torch.cat([a, self.up2(y)], 1)))


@family("UX-Net", ["decoder3", "decoder2", "decoder1"], (1, 1, 32, 32, 32), source="second")
class UXNet(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.rise, self.first = (
                nn.ConvTranspose3d(given, made, 2, 2, bias=False),
                nn.Conv3d(2 * made, made, 3, padding=1),
            )
            self.second, self.short, self.norm = (
                nn.Conv3d(made, made, 3, padding=1),
                nn.Conv3d(2 * made, made, 1),
                nn.InstanceNorm3d(made),
            )

        def forward(self, x, skip):
            x = torch.cat((self.rise(x), skip), 1)
            return F.leaky_relu(self.norm(self.second(F.leaky_relu(self.first(x)))) + self.short(x))

    def __init__(self):
        super().__init__()
        self.stem, self.depth = nn.Conv3d(1, 8, 7, 2, 3), nn.Conv3d(8, 8, 7, padding=3, groups=8)
        self.down1, self.down2, self.raw = (
            nn.Conv3d(8, 12, 2, 2),
            nn.Conv3d(12, 16, 2, 2),
            nn.Conv3d(1, 4, 3, padding=1),
        )
        self.fc = nn.Conv3d(8, 8, 1)
        self.decoder3, self.decoder2, self.decoder1 = self.Up(16, 12), self.Up(12, 8), self.Up(8, 4)
        self.out = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        a = self.stem(x)
        a = a + self.fc(F.gelu(F.layer_norm(self.depth(a).permute(0, 2, 3, 4, 1), (8,)).permute(0, 4, 1, 2, 3)))
        b = self.down1(a)
        return self.out(self.decoder1(self.decoder2(self.decoder3(self.down2(b), b), a), self.raw(x)))


@family(
    "UNeXt",
    ["in:decoder1", "in:decoder2", "in:final"],
    (1, 1, 64, 64),
    ladders=[
        ["decoder0", "decoder1", "decoder2", "in:final"],
        ["decoder1", "decoder2", "in:final"],
        ["dblock1", "in:decoder2", "in:final"],
        ["dblock1", "in:final"],
        ["dnorm1", "in:decoder2", "in:final"],
        ["dnorm1", "in:final"],
    ],
    source="second",
)
class UNeXt(nn.Module):
    class Shifted(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm, self.fc1, self.fc2 = nn.LayerNorm(c), nn.Linear(c, c), nn.Linear(c, c)
            self.depth = nn.Conv2d(c, c, 3, padding=1, groups=c)

        def forward(self, x, h, w):
            y = self.norm(x)
            b, _, c = y.shape
            y = torch.roll(y.transpose(1, 2).view(b, c, h, w), 1, 2).reshape(b, c, h * w).transpose(1, 2)
            y = self.depth(self.fc1(y).transpose(1, 2).view(b, c, h, w)).flatten(2).transpose(1, 2)
            return x + self.fc2(F.gelu(y))

    def __init__(self):
        super().__init__()
        self.encoder1, self.encoder2 = conv(1, 8), conv(8, 16)
        self.embed3, self.embed4 = conv(16, 24, 3, 2), conv(24, 32, 3, 2)
        self.block3, self.block4, self.dblock1 = self.Shifted(24), self.Shifted(32), self.Shifted(24)
        self.norm3, self.norm4, self.dnorm1 = nn.LayerNorm(24), nn.LayerNorm(32), nn.LayerNorm(24)
        self.decoder0, self.decoder1, self.decoder2 = conv(32, 24), conv(24, 16), conv(16, 8)
        self.final = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        def back(t, like):
            return t.reshape(len(t), *like.shape[2:], -1).permute(0, 3, 1, 2).contiguous()

        t1 = F.max_pool2d(self.encoder1(x), 2)
        t2 = F.max_pool2d(self.encoder2(t1), 2)
        e3, h = self.embed3(t2), t2.shape[2] // 2
        t3 = back(self.norm3(self.block3(e3.flatten(2).transpose(1, 2), h, h)), e3)
        e4 = self.embed4(t3)
        out = back(self.norm4(self.block4(e4.flatten(2).transpose(1, 2), h // 2, h // 2)), e4)
        out = F.interpolate(self.decoder0(out), scale_factor=2, mode="bilinear") + t3
        out = back(self.dnorm1(self.dblock1(out.flatten(2).transpose(1, 2), h, h)), out)
        out = F.interpolate(self.decoder1(out), scale_factor=2, mode="bilinear") + t2
        out = F.interpolate(self.decoder2(out), scale_factor=2, mode="bilinear") + t1
        return F.interpolate(self.final(out), scale_factor=2, mode="bilinear")


@family("Kolmogorov-Arnold", ["up.0", "up.1"], (1, 1, 32, 32), source="second")
class Kan(nn.Module):
    """Each layer sums learned curves (radial functions) of its inputs."""

    class Curves(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.base, self.spline = nn.Linear(given, made), nn.Linear(4 * given, made)
            self.register_buffer("grid", torch.linspace(-2, 2, 4))

        def forward(self, x):
            b, _, h, w = x.shape
            tokens = x.flatten(2).transpose(1, 2)
            curves = torch.exp(-((tokens[..., None] - self.grid) ** 2)).flatten(-2)
            return (self.base(F.silu(tokens)) + self.spline(curves)).transpose(1, 2).reshape(b, -1, h, w)

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([conv(1, 8), conv(8, 16), self.Curves(16, 24)])
        self.up, self.head = nn.ModuleList([self.Curves(40, 16), self.Curves(24, 8)]), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.down[2](F.max_pool2d(b, 2))
        for up, skip in zip(self.up, (b, a), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skip], 1))
        return self.head(x)


@family(
    "EGE-UNet",
    ["in:decoder2", "in:decoder3", "in:final"],
    (1, 3, 64, 64),
    alts={0: ["norm1"], 1: ["norm2"], 2: ["norm3"]},
    ladders=[["decoder1", "decoder2", "decoder3"]],
    source="third",
)
class EgeUNet(nn.Module):
    """Coarse masks gate the skips of the level above, which are added; supervised at each level."""

    class Bridge(nn.Module):
        def __init__(self, high, low):
            super().__init__()
            self.pre, self.tail = (
                nn.Conv2d(high, low, 1),
                nn.Sequential(nn.GroupNorm(1, 2 * low + 1), nn.Conv2d(2 * low + 1, low, 1)),
            )
            self.group = nn.Sequential(
                nn.GroupNorm(1, low + 1), nn.Conv2d(low + 1, low + 1, 3, padding=2, dilation=2, groups=low + 1)
            )

        def forward(self, high, low, mask):
            high = F.interpolate(self.pre(high), size=low.shape[2:], mode="bilinear")
            return self.tail(torch.cat([high, self.group(torch.cat([low, mask], 1))], 1))

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24, 32)
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip((3, *widths), widths, strict=False))
        self.bridge = nn.ModuleList(self.Bridge(h, c) for h, c in ((32, 24), (24, 16), (16, 8)))
        self.decoder1, self.decoder2, self.decoder3 = (
            nn.Conv2d(a, b, 3, 1, 1) for a, b in ((32, 24), (24, 16), (16, 8))
        )
        self.norm1, self.norm2, self.norm3 = (nn.Sequential(nn.GroupNorm(4, c), nn.GELU()) for c in (24, 16, 8))
        self.mask = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in (32, 24, 16))
        self.final = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        skips = []
        for i, layer in enumerate(self.encoder):
            x = F.gelu(F.max_pool2d(layer(x), 2)) if i < 3 else F.gelu(layer(x))
            skips.append(x)
        y = skips.pop()
        masks, high = [], y
        for i, (layer, norm) in enumerate(
            ((self.decoder1, self.norm1), (self.decoder2, self.norm2), (self.decoder3, self.norm3))
        ):
            low = skips.pop()
            mask = self.mask[i](y)
            made = layer(y)
            y = norm(made if i == 0 else F.interpolate(made, scale_factor=2, mode="bilinear"))
            mask = mask if i == 0 else F.interpolate(mask, scale_factor=2, mode="bilinear")
            skip = self.bridge[i](high, low, mask)
            y, high = y + skip, low
            masks.append(F.interpolate(mask, x.shape[2:]).sigmoid())
        return tuple(masks[::-1]), F.interpolate(self.final(y), scale_factor=2, mode="bilinear").sigmoid()


@dataclasses.dataclass
class Features:
    feature_maps: tuple


def paper() -> type:
    path = ROOT / "recipes" / "networks" / "pvt_attention.py"
    spec = importlib.util.spec_from_file_location("paper_network", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PvtAttention


@family("the paper's network", ["attend.0", "attend.1", "attend.2", "attend.3"], (1, 1, 64, 64), source="second")
def attend():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder((8, 12, 16, 24), 3, stem=2)

        def forward(self, x):
            return Features(tuple(self.encoder(x)))

    return paper()(Small(), (8, 12, 16, 24), 5)
