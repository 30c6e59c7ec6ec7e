"""Cascades: several U-Nets one after another, inside each other or beside each other."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


class Hourglass(nn.Module):
    def __init__(self, n, c):
        super().__init__()
        self.up1, self.low1, self.low3 = conv(c, c), conv(c, c), conv(c, c)
        self.low2 = Hourglass(n - 1, c) if n > 1 else conv(c, c)

    def forward(self, x):
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
        return self.up1(x) + F.interpolate(low, scale_factor=2)


@family(
    "stacked hourglass",
    ["hgs.1.low2.low2", "hgs.1.low2", "features.1"],
    (1, 3, 64, 64),
    alts={0: ["hgs.1.low2.low3", "in:hgs.1.low2.low3"], 1: ["hgs.1.low3", "in:hgs.1.low3"], 2: ["hgs.1"]},
    ladders=[
        ["hgs.1.low2.low3", "hgs.1.low3", "features.1"],
        ["hgs.1.low2", "features.1"],
        ["hgs.1.low3", "features.1"],
    ],
    source="second",
)
class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre = nn.Sequential(conv(3, 16, 7, 2), nn.MaxPool2d(2), conv(16, 16))
        self.hgs = nn.ModuleList(Hourglass(2, 16) for _ in range(2))
        self.features = nn.ModuleList(nn.Sequential(conv(16, 16), conv(16, 16, 1)) for _ in range(2))
        self.outs = nn.ModuleList(nn.Conv2d(16, 5, 1) for _ in range(2))
        self.merge_features, self.merge_preds = nn.Conv2d(16, 16, 1), nn.Conv2d(5, 16, 1)

    def forward(self, x):
        x = self.pre(x)
        for i in range(2):
            feature = self.features[i](self.hgs[i](x))
            preds = self.outs[i](feature)
            x = x + self.merge_preds(preds) + self.merge_features(feature)
        return preds


@family("W-Net", ["second.up.0", "second.up.1"], (1, 1, 32, 32), source="second")
class WNet(nn.Module):
    class U(nn.Module):
        def __init__(self, given, classes):
            super().__init__()
            self.encoder, self.head = Encoder((8, 16, 24), given), nn.Conv2d(8, classes, 1)
            self.up = nn.ModuleList([twice(40, 16), twice(24, 8)])

        def forward(self, x):
            *skips, x = self.encoder(x)
            for up in self.up:
                skip = skips.pop()
                x = up(torch.cat([up_to(x, skip), skip], 1))
            return self.head(x)

    def __init__(self):
        super().__init__()
        self.first, self.second = self.U(1, 3), self.U(4, 3)

    def forward(self, x):
        return self.second(torch.cat([x, self.first(x)], 1))


class Squeezed(nn.Module):
    """Two convolutions, then squeeze and excitation."""

    def __init__(self, given, made):
        super().__init__()
        self.body, self.fc1, self.fc2 = twice(given, made), nn.Linear(made, 4), nn.Linear(4, made)

    def forward(self, x):
        x = self.body(x)
        b, c, _, _ = x.shape
        scale = torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1).view(b, c)))))
        return x * scale.view(b, c, 1, 1)


@family("DoubleU-Net", ["decode2.0", "decode2.1", "decode2.2"], (2, 3, 32, 32), source="fourth", started=True)
class DoubleUNet(nn.Module):
    """A mask times the image is the second network's input; its decoder has both encoders' skips; both masks leave."""

    class ASPP(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.pooled, self.out = conv(c, 8, 1), conv(32, c, 1)
            self.rates = nn.ModuleList(nn.Conv2d(c, 8, 3, padding=r, dilation=r) for r in (1, 2, 3))

        def forward(self, x):
            pooled = F.interpolate(self.pooled(F.adaptive_avg_pool2d(x, 1)), x.shape[2:], mode="bilinear")
            return self.out(torch.cat([pooled, *(F.relu(rate(x)) for rate in self.rates)], 1))

    def __init__(self):
        super().__init__()
        self.encode1, self.aspp1, self.aspp2 = Encoder((8, 12, 16, 24), 3), self.ASPP(24), self.ASPP(24)
        self.encode2 = nn.ModuleList(Squeezed(a, b) for a, b in ((3, 8), (8, 12), (12, 16), (16, 24)))
        self.decode1 = nn.ModuleList(Squeezed(a + b, b) for a, b in ((24, 16), (16, 12), (12, 8)))
        self.decode2 = nn.ModuleList(Squeezed(a + 2 * b, b) for a, b in ((24, 16), (16, 12), (12, 8)))
        self.output1, self.output2 = (nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid()) for _ in range(2))

    def decode(self, blocks, x, *skips):
        for i, block in enumerate(blocks):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = block(torch.cat([x, *(s[2 - i] for s in skips)], 1))
        return x

    def forward(self, image):
        *first, x = self.encode1(image)
        mask = self.output1(self.decode(self.decode1, self.aspp1(x), first))
        x, second = image * mask, []
        for i, encode in enumerate(self.encode2):
            x = encode(F.max_pool2d(x, 2) if i else x)
            second.append(x)
        x = self.decode(self.decode2, self.aspp2(second.pop()), first, second)
        return torch.cat([mask, self.output2(x)], 1)


@family("IterNet", ["mini.up.0#1", "mini.up.1#1"], (1, 1, 32, 32), source="third")
class IterNet(nn.Module):
    """A U-Net, then one small U-Net run twice on the features before it; all masks are returned, the last first."""

    class Mini(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.up = Encoder((8, 16, 24), 16), nn.ModuleList([twice(40, 16), twice(24, 8)])

        def forward(self, x):
            *skips, x = self.encoder(x)
            for up in self.up:
                x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            return x

    def __init__(self):
        super().__init__()
        self.encoder, self.up, self.head = (
            Encoder((8, 16, 24)),
            nn.ModuleList([twice(40, 16), twice(24, 8)]),
            nn.Conv2d(8, 1, 1),
        )
        self.mini, self.heads = self.Mini(), nn.ModuleList([nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)])

    def forward(self, x):
        *skips, y = self.encoder(x)
        first = skips[0]
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2), skips.pop()], 1))
        masks = [self.head(y)]
        for head in self.heads:
            y = self.mini(torch.cat([first, y], 1))
            masks.insert(0, head(y))
        return masks


@family(
    "KiU-Net",
    ["in:join2", "in:join1", "in:head"],
    (1, 1, 32, 32),
    alts={0: ["up2"], 1: ["up1"]},
    ladders=[["in:join1", "in:head"], ["up1", "in:head"]],
    source="third",
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


class RSU(nn.Module):
    """A U inside a block."""

    def __init__(self, given, middle, made, depth):
        super().__init__()
        self.first = conv(given, made)
        self.enc = nn.ModuleList(conv(made if i == 0 else middle, middle) for i in range(depth))
        self.bottom, self.pool = conv(middle, middle), nn.MaxPool2d(2, 2, ceil_mode=True)
        self.dec = nn.ModuleList(conv(2 * middle, middle if i else made) for i in reversed(range(depth)))

    def forward(self, x):
        first = x = self.first(x)
        skips = []
        for i, enc in enumerate(self.enc):
            x = enc(self.pool(x) if i else x)
            skips.append(x)
        x = self.bottom(x)
        for dec in self.dec:
            x = dec(torch.cat((up_to(x, skips[-1]), skips.pop()), 1))
        return x + first


@family(
    "U2-Net",
    ["stage4", "stage3d", "stage2d", "stage1d"],
    (1, 3, 64, 64),
    ladders=[["stage3d", "stage2d", "stage1d"]],
    source="second",
)
class U2Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1, self.stage2, self.stage3 = RSU(3, 4, 8, 4), RSU(8, 4, 12, 3), RSU(12, 4, 16, 2)
        self.stage4, self.stage3d = RSU(16, 4, 16, 2), RSU(32, 4, 12, 2)
        self.stage2d, self.stage1d = RSU(24, 4, 8, 3), RSU(16, 4, 8, 4)
        self.side1, self.side2, self.side3, self.side4 = (nn.Conv2d(c, 1, 3, padding=1) for c in (8, 8, 12, 16))
        self.outconv, self.pool = nn.Conv2d(4, 1, 1), nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, x):
        h1 = self.stage1(x)
        h2 = self.stage2(self.pool(h1))
        h3 = self.stage3(self.pool(h2))
        h4 = self.stage4(self.pool(h3))
        h3d = self.stage3d(torch.cat((up_to(h4, h3), h3), 1))
        h2d = self.stage2d(torch.cat((up_to(h3d, h2), h2), 1))
        h1d = self.stage1d(torch.cat((up_to(h2d, h1), h1), 1))
        d1 = self.side1(h1d)
        d2, d3, d4 = up_to(self.side2(h2d), d1), up_to(self.side3(h3d), d1), up_to(self.side4(h4), d1)
        d0 = self.outconv(torch.cat((d1, d2, d3, d4), 1))
        return torch.sigmoid(d0), torch.sigmoid(d1), torch.sigmoid(d2), torch.sigmoid(d3), torch.sigmoid(d4)


@family("a second U that goes down again", ["again1", "again0"], source="ninth")
class DownAgain(nn.Module):
    """Two U's of which the second takes skips from the first, at its bottom too."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 12, 16))
        self.up1, self.up0, self.head = conv(28, 12), conv(20, 8), nn.Conv2d(8, 2, 1)
        self.down1, self.down2 = conv(8 + 12, 12), conv(12 + 16, 16)
        self.again1, self.again0 = conv(28, 12), conv(20, 8)

    def forward(self, x):
        def up(low, high, block):
            return block(torch.cat([F.interpolate(low, scale_factor=2), high], 1))

        a, b, c = self.encoder(x)
        b = up(c, b, self.up1)
        a = up(b, a, self.up0)
        b = self.down1(torch.cat([F.max_pool2d(a, 2), b], 1))
        c = self.down2(torch.cat([F.max_pool2d(b, 2), c], 1))
        return self.head(up(up(c, b, self.again1), a, self.again0))


@family(
    "ICNet",
    ["psp", "cff_24@[0]", "cff_12@[0]"],
    (2, 3, 64, 64),
    ladders=[["cff_24@[0]", "cff_12@[0]"], ["cff_24.conv_low", "cff_12.conv_low", "cff_12@[0]"]],
    source="fourth",
    started=True,
)
class ICNet(nn.Module):
    """The image in three sizes: the smallest goes deepest; results are fused upwards, supervised on the way."""

    class Fusion(nn.Module):
        def __init__(self, low, high, made):
            super().__init__()
            self.conv_low = nn.Sequential(
                nn.Conv2d(low, made, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(made)
            )
            self.conv_high = nn.Sequential(nn.Conv2d(high, made, 1, bias=False), nn.BatchNorm2d(made))
            self.conv_cls = nn.Conv2d(made, 5, 1, bias=False)

        def forward(self, low, high):
            low = self.conv_low(up_to(low, high))
            return F.relu(low + self.conv_high(high)), self.conv_cls(low)

    class Pooled(nn.Module):
        def forward(self, x):
            return x + sum(F.interpolate(F.adaptive_avg_pool2d(x, k), x.shape[2:], mode="bilinear") for k in (1, 2))

    def __init__(self):
        super().__init__()
        self.shared, self.psp = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), conv(12, 16, 3, 2)), self.Pooled()
        self.deep = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(16, 16, 3, 1, 2, 2), nn.BatchNorm2d(16), nn.ReLU()) for _ in "ab")
        )
        self.conv_sub1 = nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 2), conv(8, 16, 3, 2))
        self.cff_24, self.cff_12, self.conv_cls = (
            self.Fusion(16, 16, 12),
            self.Fusion(12, 16, 12),
            nn.Conv2d(12, 5, 1, bias=False),
        )

    def forward(self, x):
        half, quarter = (F.interpolate(x, scale_factor=s, mode="bilinear") for s in (0.5, 0.25))
        sub2, sub4 = self.shared(half), self.psp(self.deep(self.shared(quarter)))
        fused, aux24 = self.cff_24(sub4, sub2)
        fused, aux12 = self.cff_12(fused, self.conv_sub1(x))
        up2 = self.conv_cls(F.interpolate(fused, scale_factor=2, mode="bilinear"))
        return [F.interpolate(up2, scale_factor=4, mode="bilinear"), up2, aux12, aux24]


@family(
    "logits enlarged by layers, supervised in train mode",
    ["decoder.0.blocks", "decoder.1.blocks", "in:head"],
    (1, 3, 64, 64),
    (1, 1, 64, 64),
    source="ninth",
)
class ColourAndDepth(nn.Module):
    """Two encoders are summed; blocks work, make logits in train mode, go up, add; layers enlarge the logits by 4."""

    class Up(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.pad, self.conv = nn.ReplicationPad2d(1), nn.Conv2d(width, width, 3, groups=width)

        def forward(self, x):
            return self.conv(self.pad(F.interpolate(x, scale_factor=2)))

    class Level(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.project = conv(given, made)
            self.blocks = nn.Sequential(conv(made, made), conv(made, made))
            self.up, self.side = ColourAndDepth.Up(made), nn.Conv2d(made, 3, 1)

        def forward(self, x, skip):
            x = self.blocks(self.project(x))
            return self.up(x) + skip, self.side(x) if self.training else None

    def __init__(self):
        super().__init__()
        self.colour, self.depth = Encoder((8, 12, 16), 3, stem=4), Encoder((8, 12, 16), 1, stem=4)
        self.context, self.decoder = conv(16, 16), nn.ModuleList([self.Level(16, 12), self.Level(12, 8)])
        self.head, self.up0, self.up1 = nn.Conv2d(8, 3, 3, padding=1), self.Up(3), self.Up(3)

    def forward(self, colour, depth):
        a, b, c = map(torch.add, self.colour(colour), self.depth(depth))
        x, side1 = self.decoder[0](self.context(c), b)
        x, side0 = self.decoder[1](x, a)
        x = self.up1(self.up0(self.head(x)))
        return (x, side0, side1) if self.training else x
