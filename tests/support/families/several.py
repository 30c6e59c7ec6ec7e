"""Stacked and doubled networks, side outputs, pyramids that are summed."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to


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


@family("W-Net", ["second.up.0", "second.up.1"], (1, 1, 32, 32))
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
    "LR-side",
    ["up3", "up2", "up1"],
    (1, 1, 64, 64),
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


@family("FPN-sum", ["smooth4", "smooth3", "smooth2"], (1, 3, 64, 64), alts={0: ["top"], 2: ["seg"]})
class SemanticFPN(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.top = Encoder((8, 16, 24, 32), 3, stem=2), nn.Conv2d(32, 16, 1)
        self.lateral3, self.lateral2 = nn.Conv2d(24, 16, 1), nn.Conv2d(16, 16, 1)
        self.smooth4, self.smooth3, self.smooth2 = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.seg, self.cls = conv(48, 16), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        _, c2, c3, c4 = self.encoder(x)
        p4 = self.top(c4)
        p3 = up_to(p4, c3, "nearest") + self.lateral3(c3)
        p2 = up_to(p3, c2, "nearest") + self.lateral2(c2)
        p4, p3, p2 = self.smooth4(p4), self.smooth3(p3), self.smooth2(p2)
        return up_to(self.cls(self.seg(torch.cat([up_to(p4, p2), up_to(p3, p2), p2], 1))), x)


@family(
    "DPT",
    ["refine.3", "refine.2", "refine.1", "refine.0"],
    (1, 3, 64, 64),
    ladders=[
        ["refine.3.unit2", "refine.2.unit2", "refine.1.unit2", "refine.0.unit2", "refine.0"],
        ["refine.2.unit2", "refine.1.unit2", "refine.0.unit2", "refine.0"],
    ],
)
class DPT(nn.Module):
    """A ViT whose tokens are reassembled at four scales and fused; logits at half the size."""

    class Unit(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv = conv(c, c)

        def forward(self, x):
            return x + self.conv(x)

    class Fuse(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.unit1, self.unit2, self.out = DPT.Unit(c), DPT.Unit(c), nn.Conv2d(c, c, 1)

        def forward(self, x, skip=None):
            x = self.unit2(x if skip is None else x + self.unit1(skip))
            return self.out(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))

    def __init__(self):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.zeros(1, 1, 32))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 2, 48, 0.0, batch_first=True) for _ in range(4))
        self.reassemble = nn.ModuleList(
            [
                nn.ConvTranspose2d(32, 16, 4, 4),
                nn.ConvTranspose2d(32, 16, 2, 2),
                nn.Conv2d(32, 16, 1),
                conv(32, 16, 3, 2),
            ]
        )
        self.refine, self.head = nn.ModuleList(self.Fuse(16) for _ in range(4)), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.patch(x)
        size = x.shape[2:]
        x = torch.cat([self.cls.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        maps = []
        for block, reassemble in zip(self.blocks, self.reassemble, strict=True):
            x = block(x)
            maps.append(reassemble(x[:, 1:].transpose(1, 2).unflatten(2, size)))
        y = self.refine[3](maps[3])
        for i in (2, 1, 0):
            y = self.refine[i](y, maps[i])
        return self.head(y)
