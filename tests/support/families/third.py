"""The third list, convolutions: written after the rules, to see what they are worth on networks they never met."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to


@family("MedNeXt", ["decode.0", "decode.1"], (1, 1, 16, 16, 16), alts={0: ["decode.0.0"], 1: ["decode.1.0"]})
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


@family("CMUNeXt", ["up_conv3", "up_conv2"], (1, 3, 32, 32))
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


@family("ACC-UNet", ["decode.0.1", "decode.1.1"], (1, 1, 32, 32), alts={0: ["decode.0"], 1: ["decode.1"]})
class AccUNet(nn.Module):
    """Blocks see pooled copies of their own map; all skips are resized into each skip before the decoder."""

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.expand, self.depth = conv(given, 2 * given, 1), conv(2 * given, 2 * given, 3, 1, 2 * given)
            self.context, self.out = nn.Conv2d(10 * given, given, 1), conv(given, made, 1)

        def forward(self, x):
            y = self.depth(self.expand(x))
            means = [F.interpolate(F.avg_pool2d(y, k), y.shape[2:]) for k in (2, 4)]
            peaks = [F.interpolate(F.max_pool2d(y, k), y.shape[2:]) for k in (2, 4)]
            return self.out(x + self.context(torch.cat([y, *means, *peaks], 1)))

    class Share(nn.Module):
        def __init__(self, widths):
            super().__init__()
            self.mix = nn.ModuleList(conv(sum(widths), c, 1) for c in widths)
            self.merge = nn.ModuleList(conv(2 * c, c, 1) for c in widths)

        def forward(self, *maps):
            made = []
            for x, mix, merge in zip(maps, self.mix, self.merge, strict=True):
                size = x.shape[2:]
                all_maps = [F.adaptive_avg_pool2d(m, size) if m.shape[2] > size[0] else up_to(m, x) for m in maps]
                made.append(x + merge(torch.cat([x, mix(torch.cat(all_maps, 1))], 1)))
            return made

    def __init__(self):
        super().__init__()
        widths = ((1, 8), (8, 16), (16, 24))
        self.encode = nn.ModuleList(nn.Sequential(self.Block(a, b), self.Block(b, b)) for a, b in widths)
        self.share, self.head = self.Share((8, 16, 24)), nn.Conv2d(8, 2, 1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.decode = nn.ModuleList(nn.Sequential(self.Block(2 * c, c), self.Block(c, c)) for c in (16, 8))

    def forward(self, x):
        skips = []
        for i, encode in enumerate(self.encode):
            x = encode(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        *skips, x = self.share(*skips)
        for up, decode in zip(self.up, self.decode, strict=True):
            x = decode(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


@family(
    "EGE-UNet",
    ["in:decoder2", "in:decoder3", "in:final"],
    (1, 3, 64, 64),
    alts={0: ["norm1"], 1: ["norm2"], 2: ["norm3"]},
    ladders=[["decoder1", "decoder2", "decoder3"]],
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


@family("LinkNet from a dictionary", ["decoder.block_0", "decoder.block_1", "decoder.block_2"], (1, 3, 64, 64))
class DictLink(nn.Module):
    """The encoder returns a dictionary by name, the decoder is a ModuleDict; skips are added after each block."""

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)

        def forward(self, x):
            return OrderedDict((f"layer{i}", y) for i, y in enumerate(self.encoder(x), 1))

    def __init__(self):
        super().__init__()
        self.backbone, self.head = self.Backbone(), nn.Conv2d(8, 4, 1)
        self.decoder = nn.ModuleDict(
            {f"block_{i}": self.up(a, b) for i, (a, b) in enumerate(((32, 24), (24, 16), (16, 8)))}
        )

    def up(self, a, b):
        middle = nn.ConvTranspose2d(a // 4, a // 4, 4, 2, 1)
        return nn.Sequential(conv(a, a // 4, 1), middle, nn.BatchNorm2d(a // 4), nn.ReLU(), conv(a // 4, b, 1))

    def forward(self, x):
        maps = self.backbone(x)
        y = maps["layer4"]
        for i in range(3):
            y = self.decoder[f"block_{i}"](y)
            y = y + maps[f"layer{3 - i}"] if i < 2 else y
        return {"out": F.interpolate(self.head(y), x.shape[2:], mode="bilinear")}


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


@family("CARAFE", ["up.0", "up.1"])
class WithCarafe(Resampled):
    def __init__(self):
        super().__init__(Carafe)


@family("DySample", ["up.0", "up.1"])
class WithDySample(Resampled):
    def __init__(self):
        super().__init__(DySample)


@family(
    "KiU-Net",
    ["in:join2", "in:join1", "in:head"],
    (1, 1, 32, 32),
    alts={0: ["up2"], 1: ["up1"]},
    ladders=[["in:join1", "in:head"], ["up1", "in:head"]],
)
class KiUNet(nn.Module):
    """A U-Net and a branch that first goes up and then down; they exchange maps at each level and are added."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.up2, self.up1 = conv(1, 8), conv(8, 16), conv(16, 8), conv(8, 8)
        self.over1, self.over2, self.back2, self.back1 = conv(1, 8), conv(8, 16), conv(16, 8), conv(8, 8)
        self.cross = nn.ModuleList(conv(c, c) for c in (8, 8, 16, 16, 8, 8))
        self.join2, self.join1, self.head = nn.Identity(), nn.Identity(), nn.Conv2d(8, 2, 1)

    def exchange(self, u, k, i):
        small = F.interpolate(self.cross[i](k), u.shape[2:], mode="bilinear")
        return u + small, k + F.interpolate(self.cross[i + 1](u), k.shape[2:], mode="bilinear")

    def forward(self, x):
        u1, k1 = self.exchange(F.max_pool2d(self.down1(x), 2), F.interpolate(self.over1(x), scale_factor=2), 0)
        u, k = self.exchange(F.max_pool2d(self.down2(u1), 2), F.interpolate(self.over2(k1), scale_factor=2), 2)
        u, k = F.interpolate(self.up2(u), scale_factor=2, mode="bilinear"), F.max_pool2d(self.back2(k), 2)
        u, k = self.exchange(u, k, 4)
        u, k = self.join2(u + u1), k + k1
        u = F.interpolate(self.up1(u), scale_factor=2, mode="bilinear")
        return self.head(self.join1(u + F.max_pool2d(self.back1(k), 2)))
