"""Pyramids: levels that are summed downwards, searched, repeated or aligned, and joined for one head."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


@family("FPN-sum", ["smooth4", "smooth3", "smooth2"], (1, 3, 64, 64), alts={0: ["top"], 2: ["seg"]}, source="second")
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
    "NAS-FPN",
    ["cells.1@[2]", "cells.1@[1]", "cells.1@[0]"],
    (2, 3, 64, 64),
    source="third",
)
class NasFpn(nn.Module):
    """A searched pyramid: sums and gated sums of levels in an odd order, twice; the head takes all levels, stacked."""

    class Cell(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)) for _ in range(4)
            )

        def gated(self, a, b):
            gate = torch.sigmoid(F.adaptive_max_pool2d(b, 1))
            return a + gate * b if a.shape == b.shape else F.adaptive_max_pool2d(a, b.shape[2:]) * gate + b

        def forward(self, maps):
            p3, p4, p5 = maps
            middle = self.convs[0](self.gated(p4, F.interpolate(p5, scale_factor=2)))
            out3 = self.convs[1](F.interpolate(middle, scale_factor=2) + p3)
            out4 = self.convs[2](F.max_pool2d(out3, 2) + middle)
            out5 = self.convs[3](self.gated(F.max_pool2d(out4, 2), p5))
            return out3, out4, out5

    def __init__(self):
        super().__init__()
        self.encoder, self.lateral = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (16, 24, 32)),
        )
        self.cells, self.seg = (
            nn.ModuleList([self.Cell(16), self.Cell(16)]),
            nn.Sequential(conv(48, 16), nn.Conv2d(16, 5, 1)),
        )

    def forward(self, x):
        maps = [lateral(y) for lateral, y in zip(self.lateral, self.encoder(x)[1:], strict=True)]
        for cell in self.cells:
            maps = cell(maps)
        return up_to(self.seg(torch.cat([maps[0], *(up_to(m, maps[0]) for m in maps[1:])], 1)), x)


@family("BiFPN", ["layers.1@[3]", "layers.1@[2]", "layers.1@[1]", "layers.1@[0]"], (1, 3, 64, 64), source="third")
class WithBiFPN(nn.Module):
    """Twice down and up again over all levels, with learned weights; logits from the sum of all levels."""

    class Layer(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.down, self.rise = (nn.ModuleList(conv(c, c) for _ in range(3)) for _ in range(2))
            self.first, self.second = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 3))

        def forward(self, maps):
            first, second = F.relu(self.first), F.relu(self.second)
            first, second = first / (first.sum(1, keepdim=True) + 1e-4), second / (second.sum(1, keepdim=True) + 1e-4)
            tops = [maps[3]]
            for i in (2, 1, 0):
                tops.insert(0, self.down[i](first[i, 0] * maps[i] + first[i, 1] * up_to(tops[0], maps[i])))
            made = [tops[0]]
            for i in (1, 2, 3):
                w, low = second[i - 1], F.max_pool2d(made[-1], 2)
                middle = tops[i] if i < 3 else maps[i]
                made.append(self.rise[i - 1](w[0] * maps[i] + w[1] * middle + w[2] * low))
            return made

    def __init__(self):
        super().__init__()
        self.encoder, self.lateral = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (8, 16, 24, 32)),
        )
        self.layers, self.head = nn.ModuleList([self.Layer(16), self.Layer(16)]), nn.Conv2d(16, 5, 3, padding=1)

    def forward(self, x):
        maps = [lateral(y) for lateral, y in zip(self.lateral, self.encoder(x), strict=True)]
        for layer in self.layers:
            maps = layer(maps)
        total = maps[0] + sum(up_to(y, maps[0]) for y in maps[1:])
        return up_to(self.head(total), x)


@family("deep layer aggregation", ["rounds.0@[1]", "rounds.1@[2]", "rounds.2@[3]"], (1, 3, 64, 64), source="third")
class Dla(nn.Module):
    """Neighbours are merged again and again, each round from one level finer; its last map goes on."""

    class Round(nn.Module):
        def __init__(self, made, *given):
            super().__init__()
            self.project = nn.ModuleList(conv(c, made, 1) for c in given)
            self.up = nn.ModuleList(nn.ConvTranspose2d(made, made, 4, 2, 1, groups=made) for _ in given)
            self.node = nn.ModuleList(conv(2 * made, made) for _ in given)

        def forward(self, maps):
            made = list(maps)
            for i, (project, up, node) in enumerate(zip(self.project, self.up, self.node, strict=True), 1):
                made[i] = node(torch.cat([made[i - 1], up(project(made[i]))], 1))
            return made

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.rounds = nn.ModuleList([self.Round(24, 32), self.Round(16, 24, 24), self.Round(8, 16, 16, 16)])
        self.head = nn.Sequential(conv(8, 16), nn.Conv2d(16, 5, 1))

    def forward(self, x):
        maps = list(self.encoder(x))
        for i, merge in enumerate(self.rounds):
            maps[2 - i :] = merge(maps[2 - i :])
        return self.head(maps[-1])


class Align(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.down_h, self.down_l = nn.Conv2d(c, c // 2, 1, bias=False), nn.Conv2d(c, c // 2, 1, bias=False)
        self.flow_make = nn.Conv2d(c, 2, 3, padding=1, bias=False)

    def forward(self, low, high):
        h, w = low.shape[2:]
        flow = self.flow_make(torch.cat([up_to(self.down_h(high), low), self.down_l(low)], 1)).permute(0, 2, 3, 1)
        ys, xs = (torch.linspace(-1, 1, size, device=flow.device) for size in (h, w))
        ys, xs = torch.meshgrid(ys, xs, indexing="ij")
        grid = torch.stack([xs, ys], 2) + flow / torch.tensor([w, h], device=flow.device)
        return F.grid_sample(high, grid, align_corners=True)


@family(
    "SFNet",
    ["psp", "fpn_out.0", "fpn_out.1", "fpn_out.2"],
    (2, 3, 64, 64),
    alts={1: ["in:fpn_out.0"], 2: ["in:fpn_out.1"], 3: ["in:fpn_out.2", "last"]},
    source="fourth",
    started=True,
)
class SFNet(nn.Module):
    """A pyramid whose coarse maps are warped by a learned flow before they are added; all levels join for the head."""

    class Pooled(nn.Module):
        def __init__(self, c, made):
            super().__init__()
            self.stages, self.bottleneck = nn.ModuleList(conv(c, made, 1) for _ in range(2)), conv(c + 2 * made, made)

        def forward(self, x):
            pooled = [F.adaptive_avg_pool2d(x, k) for k in (1, 2)]
            return self.bottleneck(
                torch.cat([x, *(up_to(s(p), x) for s, p in zip(self.stages, pooled, strict=True))], 1)
            )

    def __init__(self):
        super().__init__()
        self.encoder, self.psp = Encoder((8, 16, 24, 32), 3, stem=2), self.Pooled(32, 16)
        self.fpn_in = nn.ModuleList(conv(c, 16, 1) for c in (24, 16, 8))
        self.align, self.fpn_out = (
            nn.ModuleList(Align(16) for _ in range(3)),
            nn.ModuleList(conv(16, 16) for _ in range(3)),
        )
        self.last, self.cls = conv(64, 16), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        *skips, y = self.encoder(x)
        y = self.psp(y)
        made = [y]
        for lateral, align, out in zip(self.fpn_in, self.align, self.fpn_out, strict=True):
            skip = lateral(skips.pop())
            y = skip + align(skip, y)
            made.append(out(y))
        return up_to(self.cls(self.last(torch.cat([*(up_to(m, made[-1]) for m in made[:-1]), made[-1]], 1))), x)


@family(
    "DBNet",
    ["in5", "in:out4.0", "in:out3.0", "in:out2"],
    (2, 3, 64, 64),
    alts={0: ["out5.0"], 1: ["out4.0"], 2: ["out3.0"], 3: ["out2"]},
    ladders=[["in5", "in:out4.0", "in:out3.0", at, "binarize.1"] for at in ("in:out2", "binarize.0")],
    source="fourth",
    started=True,
)
class DBNet(nn.Module):
    """Text: a pyramid, its levels side by side at 1/4; probability and threshold go up by 4 and are compared softly."""

    def __init__(self):
        super().__init__()
        self.stem, self.encoder = conv(3, 8, 3, 2), Encoder((8, 16, 24, 32), 8, stem=2)
        self.in5, self.in4, self.in3, self.in2 = (nn.Conv2d(c, 16, 1, bias=False) for c in (32, 24, 16, 8))
        self.out5, self.out4, self.out3 = (
            nn.Sequential(nn.Conv2d(16, 4, 3, padding=1, bias=False), nn.Upsample(scale_factor=s)) for s in (8, 4, 2)
        )
        self.out2, self.binarize, self.thresh = nn.Conv2d(16, 4, 3, padding=1, bias=False), self.head(), self.head()

    def head(self):
        up = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        return nn.Sequential(conv(16, 8), up, nn.ConvTranspose2d(8, 1, 2, 2), nn.Sigmoid())

    def forward(self, x):
        c2, c3, c4, c5 = self.encoder(self.stem(x))
        y5 = self.in5(c5)
        y4 = F.interpolate(y5, scale_factor=2) + self.in4(c4)
        y3 = F.interpolate(y4, scale_factor=2) + self.in3(c3)
        y2 = F.interpolate(y3, scale_factor=2) + self.in2(c2)
        fused = torch.cat([self.out5(y5), self.out4(y4), self.out3(y3), self.out2(y2)], 1)
        binary = self.binarize(fused)
        if not self.training:
            return binary
        thresh = self.thresh(fused)
        return {"binary": binary, "thresh": thresh, "soft": torch.reciprocal(1 + torch.exp(-50 * (binary - thresh)))}


class DilatedPyramid(nn.Module):
    def __init__(self, c, made):
        super().__init__()
        self.convs = nn.ModuleList(nn.Sequential(nn.Conv2d(c, made, 3, 1, r, r), nn.ReLU()) for r in (1, 2, 3))
        self.pooled, self.project = conv(c, made, 1), conv(4 * made, made, 1)

    def forward(self, x):
        pooled = F.interpolate(self.pooled(x.mean((2, 3), keepdim=True)), size=x.shape[2:], mode="bilinear")
        return self.project(torch.cat([*(layer(x) for layer in self.convs), pooled], 1))


@family(
    "Panoptic-DeepLab",
    ["semantic.fuse.0", "semantic.fuse.1"],
    (2, 3, 64, 64),
    ladders=[["semantic.aspp", "semantic.fuse.0", "semantic.fuse.1"], ["semantic.fuse.0", "semantic_head.0"]],
    source="fourth",
    started=True,
)
class PanopticDeepLab(nn.Module):
    """A decoder for classes, one for instances (centres and offsets), each with dilated pyramids and two skips."""

    class Decoder(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.aspp, self.project = DilatedPyramid(32, c), nn.ModuleList([conv(24, 8, 1), conv(16, 4, 1)])
            self.fuse = nn.ModuleList([self.separable(c + 8, c), self.separable(c + 4, c)])

        def separable(self, a, b):
            return nn.Sequential(conv(a, a, 5, groups=a), conv(a, b, 1))

        def forward(self, maps):
            x = self.aspp(maps[3])
            for i, (project, fuse) in enumerate(zip(self.project, self.fuse, strict=True)):
                skip = project(maps[2 - i])
                x = fuse(torch.cat([F.interpolate(x, size=skip.shape[2:], mode="bilinear"), skip], 1))
            return x

    def __init__(self):
        super().__init__()
        self.encoder, self.semantic, self.instance = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            self.Decoder(16),
            self.Decoder(12),
        )
        self.semantic_head, self.center_head, self.offset_head = (
            nn.Sequential(conv(c, c, 5), nn.Conv2d(c, made, 1)) for c, made in ((16, 5), (12, 1), (12, 2))
        )

    def forward(self, x):
        maps = self.encoder(x)
        semantic, instance = self.semantic(maps), self.instance(maps)
        found = dict(
            semantic=self.semantic_head(semantic), center=self.center_head(instance), offset=self.offset_head(instance)
        )
        return {key: F.interpolate(y, size=x.shape[2:], mode="bilinear") for key, y in found.items()}


class Lateral(nn.Module):
    """A map of the encoder, projected, and the coarser level, added."""

    def __init__(self, given):
        super().__init__()
        self.project = nn.Conv2d(given, 16, 1)

    def forward(self, here, above):
        return self.project(here) + F.interpolate(above, scale_factor=2)


@family(
    "levels laid side by side for the head",
    ["p4", "p3", "p2", "p1"],
    (1, 1, 64, 64),
    alts={3: ["in:head"]},
    source="seventh",
)
class SideBySide(nn.Module):
    """A pyramid whose levels are worked on again, brought to one size and laid side by side: that the head is given."""

    def __init__(self):
        super().__init__()
        self.encoder, self.p4 = Encoder(stem=2), nn.Conv2d(48, 16, 1)
        self.p1, self.p2, self.p3 = Lateral(8), Lateral(16), Lateral(32)
        self.ahead, self.head = nn.ModuleList(), nn.Conv2d(32, 3, 3, padding=1)
        for times in (3, 2, 1, 0):
            steps = [layer for _ in range(times) for layer in (conv(8, 8), nn.Upsample(scale_factor=2))]
            self.ahead.append(nn.Sequential(conv(16, 8), *steps))

    def forward(self, x):
        a, b, c, d = self.encoder(x)
        d = self.p4(d)
        c = self.p3(c, d)
        b = self.p2(b, c)
        sides = [ahead(m) for ahead, m in zip(self.ahead, (d, c, b, self.p1(a, b)), strict=True)]
        return F.interpolate(self.head(torch.cat(sides, 1)), scale_factor=2)


@family("HRNet", ["head"], (1, 3, 64, 64), tags="nonU", source="second")
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


@family("SegFormer-like", ["fuse"], (1, 3, 64, 64), tags="nonU", source="second")
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
