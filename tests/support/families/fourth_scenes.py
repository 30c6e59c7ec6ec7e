"""The fourth list, scenes and people: written blind; factorised convolutions, cascades of image sizes, two decoders."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, twice
from support.families.fourth_base import family
from support.families.parallel import up_to


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
    "ICNet",
    ["psp", "cff_24@[0]", "cff_12@[0]"],
    (2, 3, 64, 64),
    ladders=[["cff_24@[0]", "cff_12@[0]"], ["cff_24.conv_low", "cff_12.conv_low", "cff_12@[0]"]],
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


@family("DDRNet", ["in:final"], (2, 3, 64, 64), alts={0: ["final.1"]}, tags="nonU")
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
    ladders=[["in5", "in:out4.0", "in:out3.0", "in:out2", "binarize.1"]],
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


@family("simple baseline for poses", ["deconv_layers.2", "deconv_layers.5", "deconv_layers.8"], (1, 3, 64, 64))
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
