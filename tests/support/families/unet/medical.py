"""U-Nets for medicine: gated and squeezed skips, styles, supervision fused into the output, valid borders."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


def block3d(given, made):
    layers = [nn.Conv3d(given, made, 3, padding=1), nn.BatchNorm3d(made), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv3d(made, made, 3, padding=1), nn.BatchNorm3d(made), nn.ReLU(inplace=True))


@family(
    "attention gates, supervision fused",
    ["up_concat3", "up_concat2", "up_concat1"],
    (1, 1, 16, 16, 16),
    source="fourth",
    started=True,
)
class AttentionFused(nn.Module):
    """Attention U-Net in 3D: skips gated from the scale below; class maps of all levels, at full size, are mixed."""

    class Gate(nn.Module):
        def __init__(self, skip, gating):
            super().__init__()
            self.theta, self.phi = nn.Conv3d(skip, skip, 2, 2, bias=False), nn.Conv3d(gating, skip, 1)
            self.psi, self.w = nn.Conv3d(skip, 1, 1), nn.Sequential(nn.Conv3d(skip, skip, 1), nn.BatchNorm3d(skip))

        def forward(self, x, g):
            theta = self.theta(x)
            g = F.interpolate(self.phi(g), size=theta.shape[2:], mode="trilinear")
            gate = torch.sigmoid(self.psi(F.relu(theta + g)))
            return self.w(F.interpolate(gate, size=x.shape[2:], mode="trilinear") * x)

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.up, self.conv = nn.ConvTranspose3d(given, made, 2, 2), block3d(2 * made, made)

        def forward(self, skip, x):
            return self.conv(torch.cat([skip, self.up(x)], 1))

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.center = (
            block3d(a, b) for a, b in ((1, 4), (4, 8), (8, 12), (12, 16))
        )
        self.gating = nn.Sequential(nn.Conv3d(16, 12, 1), nn.BatchNorm3d(12), nn.ReLU(inplace=True))
        self.attention3, self.attention2 = self.Gate(12, 12), self.Gate(8, 12)
        self.up_concat3, self.up_concat2, self.up_concat1 = self.Up(16, 12), self.Up(12, 8), self.Up(8, 4)
        self.dsv3, self.dsv2 = (
            nn.Sequential(nn.Conv3d(c, 3, 1), nn.Upsample(scale_factor=s)) for c, s in ((12, 4), (8, 2))
        )
        self.dsv1, self.final = nn.Conv3d(4, 3, 1), nn.Conv3d(9, 3, 1)

    def forward(self, x):
        c1 = self.conv1(x)
        c2 = self.conv2(F.max_pool3d(c1, 2))
        c3 = self.conv3(F.max_pool3d(c2, 2))
        center = self.center(F.max_pool3d(c3, 2))
        up3 = self.up_concat3(self.attention3(c3, self.gating(center)), center)
        up2 = self.up_concat2(self.attention2(c2, up3), up3)
        up1 = self.up_concat1(c1, up2)
        return self.final(torch.cat([self.dsv3(up3), self.dsv2(up2), self.dsv1(up1)], 1))


@family(
    "localization, class maps summed",
    ["take3", "take2", "take1"],
    (1, 4, 16, 16, 16),
    alts={0: ["one3"], 1: ["one2"]},
    source="fourth",
    started=True,
)
class Isensee(nn.Module):
    """The 3D U-Net of BraTS 2017: residual context blocks; class maps go up and are added, scale by scale."""

    class Context(nn.Module):
        def __init__(self, given, c, stride):
            super().__init__()
            self.inp, self.one, self.two = nn.Conv3d(given, c, 3, stride, 1), self.unit(c), self.unit(c)
            self.drop = nn.Dropout3d(0.3)

        def unit(self, c):
            return nn.Sequential(nn.InstanceNorm3d(c), nn.LeakyReLU(), nn.Conv3d(c, c, 3, padding=1, bias=False))

        def forward(self, x):
            x = self.inp(x)
            return F.leaky_relu(x + self.two(self.drop(self.one(x))))

    def __init__(self):
        super().__init__()
        widths = (4, 8, 12, 16)
        self.context = nn.ModuleList(
            self.Context(a, b, 2 if i else 1) for i, (a, b) in enumerate(zip((4, *widths), widths, strict=False))
        )
        self.up3, self.up2, self.up1 = self.rise(16, 12), self.rise(12, 8), self.rise(8, 4)
        self.take3, self.take2, self.take1 = self.unit(24, 24), self.unit(16, 16), self.unit(8, 8)
        self.one3, self.one2 = nn.Conv3d(24, 12, 1, bias=False), nn.Conv3d(16, 8, 1, bias=False)
        self.seg3, self.seg2, self.seg1 = (nn.Conv3d(c, 4, 1, bias=False) for c in (24, 16, 8))

    def unit(self, a, b):
        return nn.Sequential(nn.Conv3d(a, b, 3, padding=1, bias=False), nn.InstanceNorm3d(b), nn.LeakyReLU())

    def rise(self, a, b):
        return nn.Sequential(nn.InstanceNorm3d(a), nn.LeakyReLU(), nn.Upsample(scale_factor=2), *self.unit(a, b))

    def forward(self, x):
        skips = []
        for context in self.context:
            x = context(x)
            skips.append(x)
        t3 = self.take3(torch.cat([self.up3(x), skips[2]], 1))
        t2 = self.take2(torch.cat([self.up2(self.one3(t3)), skips[1]], 1))
        t1 = self.take1(torch.cat([self.up1(self.one2(t2)), skips[0]], 1))
        seg = F.interpolate(self.seg3(t3), scale_factor=2) + self.seg2(t2)
        return F.interpolate(seg, scale_factor=2) + self.seg1(t1)


@family("BCDU-Net", ["convs.0", "convs.1"], (1, 1, 32, 32), alts={1: ["tail.0"]}, source="fourth", started=True)
class BcduNet(nn.Module):
    """Skip and upsampled map are a sequence of two for a convolutional LSTM, both ways; dense bottom."""

    class Lstm(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c, self.gates = c, nn.Conv2d(2 * c, 4 * c, 3, padding=1)

        def forward(self, sequence):
            h = state = torch.zeros_like(sequence[0])
            for x in sequence:
                i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
                state = torch.sigmoid(f) * state + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(state)
            return h

    def __init__(self):
        super().__init__()
        self.encoder, self.dense = Encoder((8, 16, 24)), nn.ModuleList([twice(24, 24), twice(24, 24), twice(48, 24)])
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 2, 2), nn.BatchNorm2d(b), nn.ReLU()) for a, b in ((24, 16), (16, 8))
        )
        self.ahead, self.back = (nn.ModuleList([self.Lstm(16), self.Lstm(8)]) for _ in range(2))
        self.convs = nn.ModuleList([twice(16, 16), twice(8, 8)])
        self.tail = nn.Sequential(conv(8, 2), nn.Conv2d(2, 1, 1), nn.Sigmoid())

    def forward(self, x):
        *skips, x = self.encoder(x)
        first = self.dense[0](x)
        second = self.dense[1](first)
        x = self.dense[2](torch.cat([first, second], 1))
        for up, ahead, back, convs in zip(self.up, self.ahead, self.back, self.convs, strict=True):
            sequence = [skips.pop(), up(x)]
            x = convs(torch.tanh(ahead(sequence) + back(sequence[::-1])))
        return self.tail(x)


class ResUp(nn.Module):
    def __init__(self, given, c):
        super().__init__()
        self.proj, self.style = nn.Sequential(nn.BatchNorm2d(given), nn.Conv2d(given, c, 1)), nn.Linear(24, c)
        self.conv_0, self.conv_1, self.conv_2 = (Cellpose.pre(given if i == 0 else c, c) for i in range(3))

    def forward(self, x, skip, style):
        x = self.proj(x) + self.conv_1(self.conv_0(x) + skip + self.style(style)[..., None, None])
        return x + self.conv_2(x + self.style(style)[..., None, None])


@family(
    "Cellpose",
    ["upsample.up.res_up_2", "upsample.up.res_up_1", "upsample.up.res_up_0"],
    (1, 2, 32, 32),
    ladders=[["upsample.up.res_up_1", "upsample.up.res_up_0"]],
    source="fourth",
    started=True,
)
class Cellpose(nn.Module):
    """Pre-activated residual blocks, skips added; the pooled bottom is a style that every block going up adds."""

    class Upsample(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.upsampling = nn.Sequential(), nn.Upsample(scale_factor=2, mode="nearest")
            for i, (a, b) in enumerate(((16, 8), (24, 16), (24, 24))):
                self.up.add_module(f"res_up_{i}", ResUp(a, b))

        def forward(self, style, maps):
            x = self.up[-1](maps[-1], maps[-1], style)
            for n in (1, 0):
                x = self.up[n](self.upsampling(x), maps[n], style)
            return x

    @staticmethod
    def pre(a, b):
        return nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(inplace=False), nn.Conv2d(a, b, 3, padding=1))

    def __init__(self):
        super().__init__()
        widths = ((2, 8), (8, 16), (16, 24))
        self.proj = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(a), nn.Conv2d(a, b, 1)) for a, b in widths)
        self.down = nn.ModuleList(nn.Sequential(self.pre(a, b), self.pre(b, b)) for a, b in widths)
        self.upsample = self.Upsample()
        self.output = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        maps = []
        for i, (proj, down) in enumerate(zip(self.proj, self.down, strict=True)):
            x = F.max_pool2d(x, 2) if i else x
            x = proj(x) + down(x)
            maps.append(x)
        style = F.avg_pool2d(x, x.shape[2:]).flatten(1)
        style = style / (style**2).sum(1, keepdim=True).sqrt()
        return self.output(self.upsample(style, maps)), style


@family(
    "HoVer-Net",
    ["decoder.tp.0", "decoder.tp.1", "decoder.tp.2"],
    (1, 3, 64, 64),
    ladders=[[f"decoder.{task}.{i}" for i in range(3)] for task in ("np", "hv")],
    source="fourth",
    started=True,
)
class HoverNet(nn.Module):
    """Three decoders for three tasks, without padding: skips are added after a crop, the output is smaller."""

    class Dense(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.units = nn.ModuleList(
                nn.Sequential(nn.BatchNorm2d(c + 4 * i), nn.ReLU(), nn.Conv2d(c + 4 * i, 4, 3, bias=False))
                for i in range(2)
            )
            self.last = nn.Sequential(nn.BatchNorm2d(c + 8), nn.ReLU())

        def forward(self, x):
            for unit in self.units:
                made = unit(x)
                x = torch.cat([HoverNet.crop(x, made), made], 1)
            return self.last(x)

    def __init__(self):
        super().__init__()
        self.encoder, self.bottom, self.decoder = Encoder((8, 16, 24, 32), 3), nn.Conv2d(32, 24, 1), nn.ModuleDict()
        for task, made in (("tp", 5), ("np", 2), ("hv", 2)):
            levels = [self.level(24, 16), self.level(16, 8), nn.Conv2d(8, 16, 3, padding=1, bias=False)]
            head = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, made, 1))
            self.decoder[task] = nn.ModuleList([*levels, head])

    def level(self, given, made):
        return nn.Sequential(nn.Conv2d(given, 16, 3, bias=False), self.Dense(16), nn.Conv2d(24, made, 1, bias=False))

    @staticmethod
    def crop(x, other):
        top, left = ((a - b) // 2 for a, b in zip(x.shape[2:], other.shape[2:], strict=True))
        return x[:, :, top : top + other.shape[2], left : left + other.shape[3]]

    def forward(self, x):
        *skips, bottom = self.encoder(x)
        outputs, bottom = {}, self.bottom(bottom)
        for task, (*levels, head) in self.decoder.items():
            y = bottom
            for level, skip in zip(levels, skips[::-1], strict=True):
                y = F.interpolate(y, scale_factor=2, mode="nearest")
                y = level(y + self.crop(skip, y))
            outputs[task] = head(y)
        return outputs


@family(
    "MA-Net",
    ["center", "blocks.0", "blocks.1", "blocks.2"],
    (1, 3, 64, 64),
    ladders=[["blocks.0", "blocks.1", "blocks.2"]],
    source="second",
)
class MANet(nn.Module):
    class PAB(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.top, self.center, self.bottom = nn.Conv2d(c, 4, 1), nn.Conv2d(c, 4, 1), nn.Conv2d(c, c, 3, padding=1)
            self.out = nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x):
            b, c, h, w = x.shape
            scores = self.center(x).flatten(2).transpose(1, 2) @ self.top(x).flatten(2)
            scores = scores.view(b, -1).softmax(1).view(b, h * w, h * w)
            return self.out(x + (scores @ self.bottom(x).flatten(2).transpose(1, 2)).reshape(b, c, h, w))

    class MFAB(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.hl_conv = nn.Sequential(conv(given, given), conv(given, skip, 1))
            self.se_ll, self.se_hl = (
                nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Conv2d(skip, 4, 1), nn.ReLU(), nn.Conv2d(4, skip, 1), nn.Sigmoid()
                )
                for _ in range(2)
            )
            self.conv1, self.conv2 = conv(2 * skip, made), conv(made, made)

        def forward(self, x, skip):
            x = F.interpolate(self.hl_conv(x), scale_factor=2.0, mode="nearest")
            x = x * (self.se_hl(x) + self.se_ll(skip))
            return self.conv2(self.conv1(torch.cat([x, skip], 1)))

    def __init__(self):
        super().__init__()
        self.encoder, self.center, self.head = Encoder((8, 16, 24, 32), 3), self.PAB(32), nn.Conv2d(8, 4, 3, padding=1)
        self.blocks = nn.ModuleList([self.MFAB(32, 24, 24), self.MFAB(24, 16, 16), self.MFAB(16, 8, 8)])

    def forward(self, x):
        *skips, x = self.encoder(x)
        x = self.center(x)
        for block in self.blocks:
            x = block(x, skips.pop())
        return self.head(x)


@family("skips added on the bottleneck's level", ["norm2", "norm3", "norm4", "in:head"], source="ninth")
class AddedBelow(nn.Module):
    """Light U-Nets for skin lesions: the coarsest level adds a skip, layer by layer, as all others do."""

    def __init__(self):
        super().__init__()
        widths = (8, 12, 16, 24)
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip((1, *widths), widths, strict=False))
        self.bottom, self.head = nn.Conv2d(24, 24, 3, 1, 1), nn.Conv2d(8, 1, 1)
        self.decoder1, self.norm1 = nn.Conv2d(24, 24, 3, 1, 1), nn.GroupNorm(4, 24)
        self.decoder2, self.norm2 = nn.Conv2d(24, 16, 3, 1, 1), nn.GroupNorm(4, 16)
        self.decoder3, self.norm3 = nn.Conv2d(16, 12, 3, 1, 1), nn.GroupNorm(4, 12)
        self.decoder4, self.norm4 = nn.Conv2d(12, 8, 3, 1, 1), nn.GroupNorm(4, 8)

    def forward(self, x):
        skips = []
        for layer in self.encoder:
            x = F.gelu(F.max_pool2d(layer(x), 2))
            skips.append(x)
        x = F.gelu(self.bottom(x))
        x = torch.add(F.gelu(self.norm1(self.decoder1(x))), skips[3])
        x = torch.add(F.gelu(F.interpolate(self.norm2(self.decoder2(x)), scale_factor=2)), skips[2])
        x = torch.add(F.gelu(F.interpolate(self.norm3(self.decoder3(x)), scale_factor=2)), skips[1])
        x = torch.add(F.gelu(F.interpolate(self.norm4(self.decoder4(x)), scale_factor=2)), skips[0])
        return F.interpolate(self.head(x), scale_factor=2)


@family(
    "ACC-UNet", ["decode.0.1", "decode.1.1"], (1, 1, 32, 32), alts={0: ["decode.0"], 1: ["decode.1"]}, source="third"
)
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
