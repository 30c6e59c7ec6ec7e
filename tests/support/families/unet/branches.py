"""A shallow branch beside a deep one: what is fused has one level, and no ladder."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


class Pools(nn.Module):
    """A map beside what it is pooled to in several sizes, all at one size again, and a layer on them."""

    def __init__(self, given, made):
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(pool, nn.Conv2d(given, 8, 1))
            for pool in (nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AdaptiveAvgPool2d(1))
        )
        self.whole, self.mix = nn.Conv2d(given, 8, 1), conv(24, 24)
        self.out, self.short = nn.Conv2d(32, made, 1), nn.Conv2d(given, made, 1)

    def forward(self, x):
        whole = self.whole(x)
        pooled = [F.interpolate(s(x), size=x.shape[2:], mode="bilinear") + whole for s in self.scales]
        found = [whole, self.mix(torch.cat(pooled, 1))]
        return self.out(torch.cat(found, 1)) + self.short(x)


@family("two branches that exchange maps", ["pools", "last"], (1, 3, 256, 256), source="seventh")
class TwoBranches(nn.Module):
    """One branch stays at an eighth, the other goes down; both get the other's maps, pools end the deep one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, stride=2), conv(8, 16, stride=2), conv(16, 16, stride=2))
        self.fine = nn.ModuleList(conv(16, 16) for _ in range(3))
        self.deep = nn.ModuleList(conv(a, b, stride=2) for a, b in ((16, 24), (24, 32), (32, 48)))
        self.down = nn.ModuleList(
            [conv(16, 24, stride=2), nn.Sequential(conv(16, 24, stride=2), conv(24, 32, stride=2))]
        )
        self.project = nn.ModuleList([conv(24, 16, 1), conv(32, 16, 1)])
        self.pools, self.last = Pools(48, 16), nn.Identity()
        self.head = nn.Sequential(conv(16, 16), nn.Conv2d(16, 3, 1))

    def forward(self, x):
        fine = deep = self.stem(x)
        size = fine.shape[2:]
        for i in range(2):
            deep, fine = self.deep[i](deep), self.fine[i](fine)
            deep, fine = deep + self.down[i](fine), fine + F.interpolate(self.project[i](deep), size=size)
        deep = F.interpolate(self.pools(self.deep[2](deep)), size=size)
        return self.head(self.last(self.fine[2](fine) + deep))


@family("a head of three layers", ["refine", "fuse"], (2, 3, 64, 64), source="seventh")
class ThreeLayers(nn.Module):
    """A shallow branch and a deep one with its mean added, fused by one layer; the head has three."""

    def __init__(self):
        super().__init__()
        self.detail = nn.Sequential(conv(3, 8, stride=2), conv(8, 8, stride=2), conv(8, 16, stride=2))
        self.encoder, self.lateral = Encoder((8, 16, 24, 32, 48), 3, stem=2), nn.Conv2d(32, 16, 1)
        self.deepest, self.refine = nn.Conv2d(48, 16, 1), conv(16, 16)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 16, 1))
        self.fuse, self.head = conv(32, 16), nn.Sequential(conv(16, 16), conv(16, 16), nn.Conv2d(16, 3, 1))

    def forward(self, x):
        *_, d, e = self.encoder(x)
        deep = F.interpolate(self.deepest(e) + self.mean(e), scale_factor=2)
        deep = self.refine(self.lateral(d) + deep)
        return self.head(self.fuse(torch.cat([self.detail(x), F.interpolate(deep, scale_factor=2)], 1)))


@family("Fast-SCNN", ["low"], (2, 3, 64, 64), tags="nonU", source="second")
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


@family("BiSeNet", ["ffm"], (2, 3, 64, 64), tags="nonU", source="second")
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


@family("DDRNet", ["in:final"], (2, 3, 64, 64), alts={0: ["final.1"]}, tags="nonU", source="fourth", started=True)
class DDRNet(nn.Module):
    """A branch stays at 1/8, one goes on to 1/32; each is added to the other; pools of several sizes."""

    class Pools(nn.Module):
        def __init__(self, c, made):
            super().__init__()
            self.scale = nn.ModuleList(
                nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 8, 1)) for _ in range(3)
            )
            self.process = nn.ModuleList(conv(8, 8) for _ in range(2))
            self.compress, self.short = conv(24, made, 1), nn.Conv2d(c, made, 1)

        def forward(self, x):
            pooled = [x, F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, 1)]
            made = [self.scale[0](x)]
            for scale, process, p in zip(self.scale[1:], self.process, pooled[1:], strict=True):
                made.append(process(F.interpolate(scale(p), x.shape[2:], mode="bilinear") + made[-1]))
            return self.compress(torch.cat(made, 1)) + self.short(x)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 2), conv(8, 16, 3, 2))
        self.low1, self.low2, self.low3 = conv(16, 24, 3, 2), conv(24, 32, 3, 2), conv(32, 32)
        self.high1, self.high2, self.high3 = conv(16, 16), conv(16, 16), conv(16, 16)
        self.compress1, self.compress2 = conv(24, 16, 1), conv(32, 16, 1)
        self.down1, self.down2 = conv(16, 24, 3, 2), nn.Sequential(conv(16, 24, 3, 2), conv(24, 32, 3, 2))
        self.spp, self.final = self.Pools(32, 16), nn.Sequential(nn.BatchNorm2d(16), conv(16, 16), nn.Conv2d(16, 5, 1))
        self.extra = nn.Sequential(nn.BatchNorm2d(16), conv(16, 8), nn.Conv2d(8, 5, 1))

    def forward(self, x):
        shared = self.stem(x)
        low, high = self.low1(shared), self.high1(shared)
        low, high = low + self.down1(high), high + up_to(self.compress1(low), high)
        aux = high
        low, high = self.low2(F.relu(low)), self.high2(F.relu(high))
        low, high = low + self.down2(high), high + up_to(self.compress2(low), high)
        high, low = self.high3(F.relu(high)), self.low3(F.relu(low))
        y = self.final(high + up_to(self.spp(low), high))
        return (self.extra(aux), y) if self.training else y
