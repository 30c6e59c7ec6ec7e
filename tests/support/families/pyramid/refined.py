"""Pyramids whose levels are refined and attended one by one, and side outputs that make the result."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


@family("RefineNet", ["refine4", "refine3", "refine2", "refine1"], (1, 3, 64, 64), source="second")
class RefineNet(nn.Module):
    class Refine(nn.Module):
        def __init__(self, given, coarse, made):
            super().__init__()
            self.rcu1, self.rcu2, self.out = self.unit(given), self.unit(coarse or given), self.unit(made)
            self.fuse1, self.fuse2 = (
                nn.Conv2d(given, made, 3, padding=1),
                nn.Conv2d(coarse or given, made, 3, padding=1),
            )
            self.pool, self.pooled = nn.MaxPool2d(5, 1, 2), nn.Conv2d(made, made, 3, padding=1)

        def unit(self, c):
            return nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))

        def forward(self, fine, coarse=None):
            x = self.fuse1(fine + self.rcu1(fine))
            if coarse is not None:
                x = x + up_to(self.fuse2(coarse + self.rcu2(coarse)), x)
            x = F.relu(x)
            x = x + self.pooled(self.pool(x))
            return x + self.out(x)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.refine4, self.refine3 = self.Refine(32, None, 16), self.Refine(24, 16, 12)
        self.refine2, self.refine1 = self.Refine(16, 12, 8), self.Refine(8, 8, 8)
        self.clf = nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        y = self.refine1(x1, self.refine2(x2, self.refine3(x3, self.refine4(x4))))
        return up_to(self.clf(y), x)


@family(
    "RefineNet in layers",
    ["joint1", "joint2", "joint3", "pool4"],
    (1, 3, 64, 64),
    alts={0: ["pool1"], 1: ["pool2"], 2: ["pool3"]},
    source="eighth",
)
class LayeredRefineNet(nn.Module):
    """The parts of the refining blocks are the network's own layers; what resizes is made when it runs."""

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.layers = nn.MaxPool2d(5, 1, 2), nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(3))

        def forward(self, x):
            top = x
            for layer in self.layers:
                top = layer(self.pool(top))
                x = x + top
            return x

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        for i, width in enumerate((32, 24, 16, 8), 1):
            self.add_module(f"reduce{i}", nn.Conv2d(width, 16, 1))
            self.add_module(f"pool{i}", self.Chain())
            self.add_module(f"joint{i}", nn.Conv2d(16, 16, 1))
        self.head = nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        y = self.joint1(self.pool1(F.relu(self.reduce1(x4))))
        y = self.joint2(self.pool2(F.relu(self.reduce2(x3) + nn.Upsample(x3.shape[2:], mode="bilinear")(y))))
        y = self.joint3(self.pool3(F.relu(self.reduce3(x2) + nn.Upsample(x2.shape[2:], mode="bilinear")(y))))
        return self.head(self.pool4(F.relu(self.reduce4(x1) + nn.Upsample(x1.shape[2:], mode="bilinear")(y))))


@family("PAN", ["fpa", "gau3", "gau2", "gau1"], (2, 3, 64, 64), ladders=[["gau3", "gau2", "gau1"]], source="second")
class PAN(nn.Module):
    class FPA(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.mid, self.one = conv(given, made, 1), conv(given, made, 1)
            self.down1, self.down2, self.conv2, self.conv1 = (
                conv(given, 1, 3, 2),
                conv(1, 1, 3, 2),
                conv(1, 1),
                conv(1, 1),
            )

        def forward(self, x):
            b1 = F.interpolate(self.one(F.adaptive_avg_pool2d(x, 1)), x.shape[2:], mode="bilinear")
            d1 = self.down1(x)
            d = self.conv1(d1) + up_to(self.conv2(self.down2(d1)), d1)
            return up_to(d, x) * self.mid(x) + b1

    class GAU(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.conv1 = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(made, made, 1), nn.Sigmoid())
            self.conv2 = conv(given, made)

        def forward(self, x, y):
            return up_to(y, x) + self.conv2(x) * self.conv1(y)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.fpa, self.gau3, self.gau2, self.gau1 = (
            self.FPA(32, 16),
            self.GAU(24, 16),
            self.GAU(16, 16),
            self.GAU(8, 16),
        )
        self.head = nn.Sequential(nn.Conv2d(16, 5, 3, padding=1), nn.UpsamplingBilinear2d(scale_factor=2))

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        return self.head(self.gau1(x1, self.gau2(x2, self.gau3(x3, self.fpa(x4)))))


@family(
    "large kernels on scores",
    ["br4", "br5", "br6", "br7"],
    (1, 3, 64, 64),
    ladders=[["br1", "br4", "br5", "br6", "br7"], ["br4", "br5", "br6"], ["br1", "br4", "br5", "br6"]],
    source="third",
)
class Gcn(nn.Module):
    """GCN: every map of the decoder has one channel for each class."""

    class Kernel(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.left = nn.Sequential(
                nn.Conv2d(given, made, (7, 1), padding=(3, 0)), nn.Conv2d(made, made, (1, 7), padding=(0, 3))
            )
            self.right = nn.Sequential(
                nn.Conv2d(given, made, (1, 7), padding=(0, 3)), nn.Conv2d(made, made, (7, 1), padding=(3, 0))
            )

        def forward(self, x):
            return self.left(x) + self.right(x)

    class Refine(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x):
            return x + self.conv2(F.relu(self.conv1(x)))

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.kernels = nn.ModuleList(self.Kernel(c, 5) for c in (32, 24, 16, 8))
        self.br1, self.br2, self.br3, self.br0 = (self.Refine(5) for _ in range(4))
        self.br4, self.br5, self.br6, self.br7 = (self.Refine(5) for _ in range(4))
        self.deconv1, self.deconv2, self.deconv3, self.deconv4 = (nn.ConvTranspose2d(5, 5, 4, 2, 1) for _ in range(4))

    def forward(self, x):
        maps = [kernel(y) for kernel, y in zip(self.kernels, self.encoder(x)[::-1], strict=True)]
        y = self.br1(maps[0])
        y = self.br4(self.deconv1(y) + self.br2(maps[1]))
        y = self.br5(self.deconv2(y) + self.br3(maps[2]))
        y = self.br6(self.deconv3(y) + self.br0(maps[3]))
        return self.br7(self.deconv4(y))


@family(
    "LR-side",
    ["up3", "up2", "up1"],
    (1, 1, 64, 64),
    source="second",
)
class SideSum(nn.Module):
    """Side logits of each level are upsampled and averaged into the output."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32))
        self.up3, self.up2, self.up1 = twice(56, 24), twice(40, 16), twice(24, 8)
        self.side = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in (24, 16, 8))

    def forward(self, x):
        *skips, y = self.encoder(x)
        total = 0
        for up, side in zip((self.up3, self.up2, self.up1), self.side, strict=True):
            skip = skips.pop()
            y = up(torch.cat([up_to(y, skip), skip], 1))
            total = total + up_to(side(y), x)
        return total / 3


@family(
    "PraNet",
    ["in:crop4", "in:crop3", "in:crop2"],
    (1, 3, 64, 64),
    ladders=[
        ["agg", "in:crop3", "in:crop2", "sum2"],
        ["in:crop3", "in:crop2", "sum2"],
        ["in:crop4", "in:crop3", "sum2"],
    ],
    args=(),
    source="second",
)
class PraNet(nn.Module):
    """Deeply supervised: four logits at the input's size, from 1/8 (partial decoder), 1/32, 1/16, 1/8."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32, 40), 3, stem=2)
        self.rfb2, self.rfb3, self.rfb4 = conv(24, 8, 1), conv(32, 8, 1), conv(40, 8, 1)
        self.agg = nn.Conv2d(24, 1, 3, padding=1)
        self.ra4, self.ra3, self.ra2 = (nn.Sequential(conv(c, 8), nn.Conv2d(8, 1, 3, padding=1)) for c in (40, 32, 24))
        self.crop4, self.crop3, self.crop2 = nn.Identity(), nn.Identity(), nn.Identity()
        self.sum2 = nn.Identity()

    def forward(self, x):
        _, _, x2, x3, x4 = self.encoder(x)
        y2, y3, y4 = self.rfb2(x2), self.rfb3(x3), self.rfb4(x4)
        ra5 = self.agg(torch.cat([y2, up_to(y3, y2), up_to(y4, y2)], 1))
        maps = [F.interpolate(ra5, scale_factor=8, mode="bilinear")]
        before = F.interpolate(ra5, scale_factor=0.25, mode="bilinear")
        for feats, ra, crop, factor in (
            (x4, self.ra4, self.crop4, 32),
            (x3, self.ra3, self.crop3, 16),
            (x2, self.ra2, self.crop2, 8),
        ):
            reverse = (1 - torch.sigmoid(before)).expand(-1, feats.shape[1], -1, -1) * feats
            y = crop(ra(reverse) + before)
            maps.append(F.interpolate(y, scale_factor=factor, mode="bilinear"))
            before = F.interpolate(y, scale_factor=2, mode="bilinear") if factor > 8 else y
        return tuple(maps)


@family(
    "Inf-Net",
    ["agg.0", "ra4.0", "ra3.0", "ra2.0"],
    (1, 3, 64, 64),
    ladders=[["ra4.0", "ra3.0", "ra2.0"], ["join4", "join3", "join2"], ["agg", "join4", "join3", "join2"]],
    source="fourth",
    started=True,
)
class InfNet(nn.Module):
    """A partial decoder, reverse attention upon it with edge features; edges and four masks are supervised."""

    def __init__(self):
        super().__init__()
        self.encoder, self.edge = Encoder((8, 16, 24, 32), 3, stem=2), nn.Sequential(conv(8, 8, 1), conv(8, 8))
        self.edge_out, self.rfb = nn.Conv2d(8, 1, 3, padding=1), nn.ModuleList(conv(c, 8, 1) for c in (16, 24, 32))
        self.agg = nn.Sequential(twice(24, 8), nn.Conv2d(8, 1, 1))
        self.ra4, self.ra3, self.ra2 = (
            nn.Sequential(nn.Sequential(conv(c + 8, 8, 1), conv(8, 8)), nn.Conv2d(8, 1, 3, padding=1))
            for c in (32, 24, 16)
        )
        self.join4, self.join3, self.join2 = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        edge = self.edge(x1)
        y2, y3, y4 = (rfb(y) for rfb, y in zip(self.rfb, (x2, x3, x4), strict=True))
        y34 = y3 * up_to(y4, y3)
        mask = self.agg(torch.cat([y2 * up_to(y34, y2), up_to(y34, y2), up_to(y4, y2)], 1))
        masks = [up_to(mask, x)]
        for y, ra, join in ((x4, self.ra4, self.join4), (x3, self.ra3, self.join3), (x2, self.ra2, self.join2)):
            before = up_to(mask, y)
            reverse = (1 - torch.sigmoid(before)).expand(-1, y.shape[1], -1, -1) * y
            mask = join(ra(torch.cat([reverse, up_to(edge, y)], 1)) + before)
            masks.append(up_to(mask, x))
        return *masks, up_to(self.edge_out(edge), x)


@family(
    "F3Net",
    ["second.0@[1]", "second.1@[1]", "second.2@[1]"],
    (1, 3, 64, 64),
    ladders=[["in:second.0", "second.0@[1]", "second.1@[1]", "second.2@[1]"]],
    source="third",
)
class F3Net(nn.Module):
    """Neighbouring levels are multiplied into each other; what the first decoder makes is fed back to all levels."""

    class Cross(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.h1, self.h2, self.h3, self.v1, self.v2, self.v3 = (conv(c, c) for _ in range(6))

        def forward(self, left, down):
            h, v = self.h1(left), self.v1(up_to(down, left))
            fused = self.h2(h) * self.v2(v)
            return self.h3(fused) + h, self.v3(fused) + v

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.squeeze = nn.ModuleList(conv(c, 8, 1) for c in (8, 16, 24, 32))
        self.first, self.second = (nn.ModuleList(self.Cross(8) for _ in range(3)) for _ in range(2))
        self.out1, self.out2 = (nn.Conv2d(8, 1, 3, padding=1) for _ in range(2))
        self.sides = nn.ModuleList(nn.Conv2d(8, 1, 3, padding=1) for _ in range(3))

    def decode(self, crosses, maps, back=None):
        maps = [m if back is None else m + F.interpolate(back, m.shape[2:], mode="bilinear") for m in maps]
        down, made = maps[3], [maps[3]]
        for cross, left in zip(crosses, maps[2::-1], strict=True):
            left, down = cross(left, down)
            made.insert(0, left)
        return made, down

    def forward(self, x):
        maps = [squeeze(y) for squeeze, y in zip(self.squeeze, self.encoder(x), strict=True)]
        maps, first = self.decode(self.first, maps)
        maps, second = self.decode(self.second, maps, first)
        sides = [up_to(side(y), x) for side, y in zip(self.sides, maps[1:], strict=True)]
        return up_to(self.out1(first), x), up_to(self.out2(second), x), *sides


@family(
    "cascaded attention, several outputs", ["block4", "block3", "block2", "block1"], (1, 3, 64, 64), source="second"
)
class Cascade(nn.Module):
    """Gated skips, and a prediction from each of the four stages, all brought to the input's size."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 12, 16, 24), 3, stem=2)
        self.block4, self.block3, self.block2, self.block1 = conv(24, 24), conv(32, 16), conv(24, 12), conv(16, 8)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), *conv(a, b)) for a, b in ((24, 16), (16, 12), (12, 8))
        )
        self.gate = nn.ModuleList(nn.Sequential(nn.Conv2d(2 * c, 1, 1), nn.Sigmoid()) for c in (16, 12, 8))
        self.heads = nn.ModuleList(nn.Conv2d(c, 5, 1) for c in (24, 16, 12, 8))

    def forward(self, image):
        *skips, x = self.encoder(image)
        x = self.block4(x)
        maps = [self.heads[0](x)]
        for i, block in enumerate((self.block3, self.block2, self.block1)):
            skip, x = skips.pop(), self.up[i](x)
            x = block(torch.cat([x, skip * self.gate[i](torch.cat([x, skip], 1))], 1))
            maps.append(self.heads[i + 1](x))
        return [F.interpolate(m, image.shape[2:], mode="bilinear") for m in maps]
