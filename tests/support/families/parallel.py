"""Pyramids, side outputs, full-scale skips, several decoders: what does not run along one ladder."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family


def up_to(x, other, mode="bilinear"):
    return F.interpolate(x, other.shape[2:], mode=mode)


@family("UNet3+", ["relu3d", "relu2d", "relu1d"], (1, 1, 64, 64))
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


@family("RefineNet", ["refine4", "refine3", "refine2", "refine1"], (1, 3, 64, 64))
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


@family("HRNet", ["head"], (1, 3, 64, 64), tags="nonU")
class HRNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 3, stem=2)
        self.down = nn.ModuleList([conv(8, 16, 3, 2), conv(16, 24, 3, 2)])
        self.up, self.head = nn.ModuleList([nn.Conv2d(16, 8, 1), nn.Conv2d(24, 16, 1)]), conv(48, 32)
        self.cls, self.query = nn.Conv2d(32, 5, 1), nn.Conv2d(32, 5, 1)

    def forward(self, x):
        a, b, c = self.encoder(x)
        a, b, c = (
            F.relu(a + up_to(self.up[0](b), a)),
            F.relu(b + self.down[0](a) + up_to(self.up[1](c), b)),
            F.relu(c + self.down[1](b)),
        )
        feats = self.head(torch.cat([a, up_to(b, a), up_to(c, a)], 1))
        soft = self.query(feats).flatten(2).softmax(2)
        context = soft @ feats.flatten(2).transpose(1, 2)
        back = (feats.flatten(2).transpose(1, 2) @ context.transpose(1, 2)).softmax(-1) @ context
        feats = feats + back.transpose(1, 2).reshape(feats.shape)
        return up_to(self.cls(feats), x)


@family("SegFormer-like", ["fuse"], (1, 3, 64, 64), tags="nonU")
class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.linear = nn.ModuleList(nn.Linear(c, 16) for c in (8, 16, 24, 32))
        self.fuse, self.pred = conv(64, 16, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        found = self.encoder(x)
        made = []
        for linear, f in zip(self.linear, found, strict=True):
            y = linear(f.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(f), -1, *f.shape[2:])
            made.append(up_to(y, found[0]))
        return self.pred(self.fuse(torch.cat(made[::-1], 1)))


@family("Fast-SCNN", ["low"], (2, 3, 64, 64), tags="nonU")
class FastSCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep = (
            nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2)),
            nn.Sequential(conv(16, 24, 3, 2), conv(24, 32, 3, 2)),
        )
        self.pyramid, self.out = nn.ModuleList(conv(32, 8, 1) for _ in range(2)), conv(48, 32, 1)
        self.high, self.low, self.classifier = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 5, 1)

    def forward(self, x):
        high = self.down(x)
        low = self.deep(high)
        pooled = [up_to(p(F.adaptive_avg_pool2d(low, k)), low) for p, k in zip(self.pyramid, (1, 2), strict=True)]
        low = self.out(torch.cat([low, *pooled], 1))
        y = F.relu(self.high(high) + self.low(up_to(low, high)))
        return up_to(self.classifier(y), x)


@family("BiSeNet", ["ffm"], (2, 3, 64, 64), tags="nonU")
class BiSeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.spatial = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2)),
        )
        self.arm16, self.arm32, self.average = conv(24, 16), conv(32, 16), conv(32, 16, 1)
        self.att16, self.att32 = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.head16, self.head32, self.ffm, self.out = conv(16, 16), conv(16, 16), conv(32, 16, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        _, _, x16, x32 = self.encoder(x)
        a32, a16 = self.arm32(x32), self.arm16(x16)
        a32 = a32 * torch.sigmoid(self.att32(a32.mean((2, 3), keepdim=True)))
        a32 = a32 + up_to(self.average(x32.mean((2, 3), keepdim=True)), x32, "nearest")
        a32 = self.head32(up_to(a32, x16, "nearest"))
        a16 = a16 * torch.sigmoid(self.att16(a16.mean((2, 3), keepdim=True))) + a32
        sp = self.spatial(x)
        y = self.ffm(torch.cat([sp, self.head16(up_to(a16, sp, "nearest"))], 1))
        return up_to(self.out(y), x)


@family("PAN", ["fpa", "gau3", "gau2", "gau1"], (2, 3, 64, 64), ladders=[["gau3", "gau2", "gau1"]])
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
    "MA-Net",
    ["center", "blocks.0", "blocks.1", "blocks.2"],
    (1, 3, 64, 64),
    ladders=[["blocks.0", "blocks.1", "blocks.2"]],
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
