"""U-Nets for scenes, people and text: light decoders, few skips or none, pools of several sizes at the bottom."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


class Factored(nn.Module):
    def __init__(self, c, d=1):
        super().__init__()
        self.conv3x1_1, self.conv1x3_1 = nn.Conv2d(c, c, (3, 1), 1, (1, 0)), nn.Conv2d(c, c, (1, 3), 1, (0, 1))
        self.conv3x1_2 = nn.Conv2d(c, c, (3, 1), 1, (d, 0), dilation=(d, 1))
        self.conv1x3_2 = nn.Conv2d(c, c, (1, 3), 1, (0, d), dilation=(1, d))
        self.bn1, self.bn2, self.dropout = (
            nn.BatchNorm2d(c, eps=1e-3),
            nn.BatchNorm2d(c, eps=1e-3),
            nn.Dropout2d(0.03),
        )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(x)))))
        return F.relu(self.dropout(self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(y))))) + x)


@family(
    "ERFNet",
    ["decoder.layers.2", "decoder.layers.5"],
    (1, 3, 64, 64),
    source="fourth",
    started=True,
)
class ErfNet(nn.Module):
    """No skips: the decoder is a list of transposed convolutions and factorised residual blocks."""

    class Down(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.conv, self.pool, self.bn = (
                nn.Conv2d(a, b - a, 3, 2, 1),
                nn.MaxPool2d(2, 2),
                nn.BatchNorm2d(b, eps=1e-3),
            )

        def forward(self, x):
            return F.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], 1)))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList()
            for a, b in ((32, 16), (16, 8)):
                self.layers.extend([self.up(a, b), Factored(b), Factored(b)])
            self.output_conv = nn.ConvTranspose2d(8, 5, 2, 2)

        def up(self, a, b):
            return nn.Sequential(nn.ConvTranspose2d(a, b, 3, 2, 1, 1), nn.BatchNorm2d(b, eps=1e-3), nn.ReLU())

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.output_conv(x)

    def __init__(self):
        super().__init__()
        down, flat = self.Down, Factored
        self.encoder = nn.ModuleList(
            [down(3, 8), down(8, 16), flat(16), flat(16), down(16, 32), flat(32, 2), flat(32, 4)]
        )
        self.decoder = self.Decoder()

    def forward(self, x):
        for layer in self.encoder:
            x = layer(x)
        return self.decoder(x)


@family(
    "simple baseline for poses",
    ["deconv_layers.2", "deconv_layers.5", "deconv_layers.8"],
    (1, 3, 64, 64),
    source="fourth",
    started=True,
)
class SimpleBaseline(nn.Module):
    """A residual encoder, three transposed convolutions in one Sequential, no skips; heatmaps at a quarter."""

    class Block(nn.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.body, self.short = (
                twice(a, b)[:-1],
                nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)),
            )
            self.body[0].stride = stride

        def forward(self, x):
            return F.relu(self.body(x) + self.short(x))

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.layer1, self.layer2 = self.Block(8, 8, 1), self.Block(8, 16, 2)
        self.layer3, self.layer4 = self.Block(16, 24, 2), self.Block(24, 32, 2)
        layers = []
        for a in (32, 16, 16):
            layers += [nn.ConvTranspose2d(a, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
        self.deconv_layers, self.final_layer = nn.Sequential(*layers), nn.Conv2d(16, 7, 1)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.final_layer(self.deconv_layers(x))


@family(
    "SwiftNet",
    ["spp", "up.0", "up.1", "up.2"],
    (2, 3, 64, 64),
    alts={i + 1: [f"up.{i}.blend"] for i in range(3)},
    ladders=[["up.0", "up.1", "up.2"]],
    source="third",
)
class SwiftNet(nn.Module):
    """A pooling pyramid at the bottom; lateral sums, each blended; pre-activated layers."""

    class Pyramid(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.into, self.out = conv(c, 16, 1), conv(28, 16, 1)
            self.levels = nn.ModuleList(conv(16, 4, 1) for _ in range(3))

        def forward(self, x):
            x = self.into(x)
            grids = [F.adaptive_avg_pool2d(x, n) for n in (4, 2, 1)]
            return self.out(
                torch.cat([x, *(up_to(level(g), x) for level, g in zip(self.levels, grids, strict=True))], 1)
            )

    class Up(nn.Module):
        def __init__(self, skip):
            super().__init__()
            self.bottleneck = nn.Sequential(nn.BatchNorm2d(skip), nn.ReLU(), nn.Conv2d(skip, 16, 1))
            self.blend = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))

        def forward(self, x, skip):
            skip = self.bottleneck(skip)
            return self.blend(up_to(x, skip) + skip)

    def __init__(self):
        super().__init__()
        self.encoder, self.spp = Encoder((8, 16, 24, 32), 3, stem=2), self.Pyramid(32)
        self.up = nn.ModuleList(self.Up(c) for c in (24, 16, 8))
        self.logits = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 5, 1))

    def forward(self, x):
        *skips, y = self.encoder(x)
        y = self.spp(y)
        for up in self.up:
            y = up(y, skips.pop())
        return up_to(self.logits(y), x)


@family(
    "CE-Net",
    ["context", "decoder4", "decoder3", "decoder2", "decoder1"],
    (1, 3, 64, 64),
    alts={1: ["in:decoder3"], 2: ["in:decoder2"], 3: ["in:decoder1"]},
    ladders=[
        ["decoder4", "decoder3", "decoder2", "decoder1"],
        ["in:decoder3", "in:decoder2", "in:decoder1", "decoder1"],
    ],
    source="third",
)
class CENet(nn.Module):
    """Dilated convolutions and pools of several sizes at the bottom; a LinkNet decoder; the head goes up by 2."""

    class Context(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.dilated = nn.ModuleList(nn.Conv2d(c, c, 3, padding=d, dilation=d) for d in (1, 3, 5))
            self.conv = nn.Conv2d(c, 1, 1)

        def forward(self, x):
            for layer in self.dilated:
                x = x + F.relu(layer(x))
            pooled = [self.conv(F.max_pool2d(x, k, k)) for k in (2, 3, 4)]
            return torch.cat([*(F.interpolate(p, x.shape[2:], mode="bilinear") for p in pooled), x], 1)

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.conv1, self.deconv = conv(given, made, 1), nn.ConvTranspose2d(made, made, 3, 2, 1, 1)
            self.norm, self.conv3 = nn.BatchNorm2d(made), conv(made, made, 1)

        def forward(self, x):
            return self.conv3(F.relu(self.norm(self.deconv(self.conv1(x)))))

    def __init__(self):
        super().__init__()
        self.encoder, self.context = Encoder((8, 16, 24, 32), 3, stem=2), self.Context(32)
        self.decoder4, self.decoder3, self.decoder2, self.decoder1 = (
            self.Up(35, 24),
            self.Up(24, 16),
            self.Up(16, 8),
            self.Up(8, 8),
        )
        self.final = nn.Sequential(conv(8, 8), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, x):
        c1, c2, c3, c4 = self.encoder(x)
        y = self.decoder4(self.context(c4)) + c3
        y = self.decoder3(y) + c2
        y = self.decoder2(y) + c1
        return torch.sigmoid(self.final(self.decoder1(y)))


@family(
    "LinkNet from a dictionary",
    ["decoder.block_0", "decoder.block_1", "decoder.block_2"],
    (1, 3, 64, 64),
    source="third",
)
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


@family("recurrent bottom", ["up.0", "up.1"], (1, 3, 32, 32), source="third")
class Recurrent(nn.Module):
    """The coarsest map is refined three times by one recurrent unit before a ladder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.update = (
            Encoder((8, 16, 24), 3),
            nn.ModuleList([nn.Conv2d(48, 24, 3, padding=1) for _ in range(3)]),
        )
        self.up, self.head = nn.ModuleList([twice(40, 16), twice(24, 8)]), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        *skips, context = self.encoder(x)
        y = torch.tanh(context)
        for _ in range(3):
            both = torch.cat([y, context], 1)
            forget, write = torch.sigmoid(self.update[0](both)), torch.sigmoid(self.update[1](both))
            y = (1 - forget) * y + forget * torch.tanh(self.update[2](torch.cat([write * y, context], 1)))
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2), skips.pop()], 1))
        return self.head(y)


@family("UNet3+", ["relu3d", "relu2d", "relu1d"], (1, 1, 64, 64), source="second")
class UNet3Plus(nn.Module):
    def __init__(self):
        super().__init__()
        widths, each, self.n = (4, 8, 12, 16), 4, 4
        self.encoder = Encoder(widths)
        for level in (3, 2, 1):
            for source in (1, 2, 3, 4):
                given = widths[source - 1] if source <= level or source == 4 else 4 * each
                setattr(self, f"take{source}for{level}", conv(given, each))
            setattr(self, f"conv{level}d", nn.Conv2d(4 * each, 4 * each, 3, padding=1))
            setattr(self, f"bn{level}d", nn.BatchNorm2d(4 * each))
            setattr(self, f"relu{level}d", nn.ReLU(inplace=True))
        self.outconv1 = nn.Conv2d(4 * each, 3, 3, padding=1)

    def forward(self, x):
        h = dict(enumerate(self.encoder(x), 1))
        d = {4: h[4]}
        for level in (3, 2, 1):
            taken = []
            for source in (1, 2, 3, 4):
                if source <= level:
                    value = F.max_pool2d(h[source], 2 ** (level - source), ceil_mode=True)
                else:
                    value = F.interpolate(d[source], scale_factor=2 ** (source - level), mode="bilinear")
                taken.append(getattr(self, f"take{source}for{level}")(value))
            x = getattr(self, f"bn{level}d")(getattr(self, f"conv{level}d")(torch.cat(taken, 1)))
            d[level] = getattr(self, f"relu{level}d")(x)
        return self.outconv1(d[1])
