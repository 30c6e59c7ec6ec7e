"""Depth, flow and matting: what is guessed at a level goes on beside the features, and is returned."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, attention, conv, tokens_of, twice, up_to


class Planes(nn.Module):
    def __init__(self, c, scale):
        super().__init__()
        self.scale, self.reduc = scale, nn.Sequential(nn.Conv2d(c, 8, 1), nn.ELU(), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        theta, phi, dist = self.reduc(x).chunk(3, 1)
        theta, phi, dist = torch.sigmoid(theta), torch.sigmoid(phi) * 6, torch.sigmoid(dist) * 10
        plane = [torch.sin(theta) * torch.cos(phi), torch.sin(theta) * torch.sin(phi), torch.cos(theta), dist]
        a, b, c, d = (p.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3) for p in plane)
        step = (torch.arange(self.scale, device=x.device) - (self.scale - 1) / 2) / self.scale
        u, v = step.repeat(x.shape[3])[None, None, None], step.repeat(x.shape[2])[None, None, :, None]
        return d / (a * u + b * v + c + 2.5) / 10


@family(
    "BTS",
    ["daspp", "conv3", "conv2", "conv1"],
    (1, 3, 64, 64),
    alts={0: ["conv4"]},
    source="fourth",
    started=True,
)
class Bts(nn.Module):
    """Depth: at each level planes are guessed and drawn at full size, used by finer levels, and returned."""

    def __init__(self):
        super().__init__()
        self.encoder, self.daspp = Encoder((8, 16, 24, 32), 3, stem=2), nn.Sequential(conv(24, 16, 1), conv(16, 16))
        self.up4, self.up3, self.up2, self.up1 = self.up(32, 24), self.up(16, 16), self.up(16, 8), self.up(8, 8)
        self.conv4, self.conv3, self.conv2, self.conv1 = (
            self.elu(a, b) for a, b in ((48, 24), (33, 16), (17, 8), (12, 8))
        )
        self.plane8, self.plane4, self.plane2 = Planes(16, 8), Planes(16, 4), Planes(8, 2)
        self.reduc1, self.get_depth = (
            nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid()),
            nn.Conv2d(8, 1, 3, padding=1, bias=False),
        )

    def elu(self, a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.ELU())

    def up(self, a, b):
        return nn.Sequential(nn.Upsample(scale_factor=2), *self.elu(a, b), nn.BatchNorm2d(b))

    def forward(self, x):
        s1, s2, s3, y = self.encoder(x)
        y = self.daspp(self.conv4(torch.cat([self.up4(y), s3], 1)))
        depth8 = self.plane8(y)
        y = self.conv3(torch.cat([self.up3(y), s2, F.interpolate(depth8, scale_factor=0.25)], 1))
        depth4 = self.plane4(y)
        y = self.conv2(torch.cat([self.up2(y), s1, F.interpolate(depth4, scale_factor=0.5)], 1))
        depth2, y = self.plane2(y), self.up1(y)
        depth1 = self.reduc1(y)
        y = self.conv1(torch.cat([y, depth1, depth2, depth4, depth8], 1))
        return depth8, depth4, depth2, depth1, torch.sigmoid(self.get_depth(y)) * 10


class Adaptive(nn.Module):
    def __init__(self, c, bins):
        super().__init__()
        self.patch, self.layers = nn.Conv2d(c, 16, 4, 4), nn.ModuleList([attention(16), attention(16)])
        self.position, self.conv3x3 = nn.Parameter(torch.rand(64, 16)), nn.Conv2d(c, 16, 3, padding=1)
        self.regressor = nn.Sequential(nn.Linear(16, 32), nn.LeakyReLU(), nn.Linear(32, bins))

    def forward(self, x):
        tokens = tokens_of(self.patch(x)) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        x, queries = self.conv3x3(x), tokens[:, 1:9]
        ranges = torch.einsum("bchw,bqc->bqhw", x, queries)
        widths = F.relu(self.regressor(tokens[:, 0])) + 0.1
        return widths / widths.sum(1, keepdim=True), ranges


@family(
    "AdaBins",
    ["decoder.up.0", "decoder.up.1", "decoder.up.2"],
    (1, 3, 64, 64),
    alts={2: ["decoder", "adaptive.conv3x3"]},
    source="fourth",
    started=True,
)
class AdaBins(nn.Module):
    """Depth as an expectation over bins whose widths a small transformer finds from the decoder's finest map."""

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv2, self.conv3 = nn.Conv2d(32, 32, 1), nn.Conv2d(8, 16, 3, padding=1)
            self.up = nn.ModuleList(twice(a, b) for a, b in ((56, 24), (40, 16), (24, 8)))

        def forward(self, maps):
            *skips, x = maps
            x = self.conv2(x)
            for up in self.up:
                skip = skips.pop()
                x = up(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True), skip], 1))
            return self.conv3(x)

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.adaptive = (
            Encoder((8, 16, 24, 32), 3, stem=2),
            self.Decoder(),
            Adaptive(16, 6),
        )
        self.conv_out = nn.Sequential(nn.Conv2d(8, 6, 1), nn.Softmax(1))

    def forward(self, x):
        widths, ranges = self.adaptive(self.decoder(self.encoder(x)))
        out = self.conv_out(ranges)
        edges = F.pad(10 * widths, (1, 0), value=0.1).cumsum(1)
        centers = 0.5 * (edges[:, :-1] + edges[:, 1:])
        return edges, (out * centers[..., None, None]).sum(1, keepdim=True)


@family(
    "FlowNet",
    ["in:predict5", "in:predict4", "in:predict3", "in:predict2"],
    (1, 6, 64, 64),
    ladders=[["in:predict4", "in:predict3", "in:predict2"]],
    source="fourth",
    started=True,
)
class FlowNetS(nn.Module):
    """A flow is predicted at each level, and goes on beside the features; the output is at a quarter."""

    def __init__(self):
        super().__init__()
        leaky, widths = self.leaky, (8, 12, 16, 24, 32)
        self.encoder = nn.ModuleList(
            leaky(nn.Conv2d(a, b, 7 if i == 0 else 3, 2, 3 if i == 0 else 1))
            for i, (a, b) in enumerate(zip((6, *widths), widths, strict=False))
        )
        self.deconv4, self.deconv3, self.deconv2 = (
            leaky(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)) for a, b in ((32, 16), (42, 12), (30, 8))
        )
        self.predict5, self.predict4, self.predict3, self.predict2 = (
            nn.Conv2d(c, 2, 3, padding=1, bias=False) for c in (32, 42, 30, 22)
        )
        self.up5, self.up4, self.up3 = (nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False) for _ in range(3))

    def leaky(self, layer):
        return nn.Sequential(layer, nn.LeakyReLU(0.1, inplace=True))

    def forward(self, x):
        maps = []
        for layer in self.encoder:
            x = layer(x)
            maps.append(x)
        flow5 = self.predict5(x)
        x = torch.cat([maps[3], self.deconv4(x), self.up5(flow5)], 1)
        flow4 = self.predict4(x)
        x = torch.cat([maps[2], self.deconv3(x), self.up4(flow4)], 1)
        flow3 = self.predict3(x)
        x = torch.cat([maps[1], self.deconv2(x), self.up3(flow3)], 1)
        flow2 = self.predict2(x)
        return (flow2, flow3, flow4, flow5) if self.training else flow2


@family(
    "flows go up beside the features",
    ["in:predict.1", "in:predict.2", "in:predict.3"],
    (1, 6, 64, 64),
    ladders=[["in:predict.0", "in:predict.1", "in:predict.2", "in:predict.3"]],
    source="eighth",
)
class FlowsBeside(nn.Module):
    """Each level is laid together of the skip, the level below and the flow made from that; one flow is returned."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), given=6, stem=2)
        given = (32, 24 + 16 + 2, 16 + 12 + 2, 8 + 8 + 2)
        self.predict = nn.ModuleList(nn.Conv2d(c, 2, 3, padding=1) for c in given)
        self.flow = nn.ModuleList(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(3))
        self.deconv = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.LeakyReLU(0.1))
            for a, b in zip(given, (16, 12, 8), strict=False)
        )

    def forward(self, x):
        *skips, x = self.encoder(x)
        for predict, flow, deconv, skip in zip(self.predict, self.flow, self.deconv, reversed(skips), strict=False):
            x = torch.cat([skip, deconv(x), flow(predict(x))], 1)
        return F.interpolate(self.predict[3](x), scale_factor=2, mode="bilinear")


@family("Monodepth2", ["convs.1", "convs.3", "convs.5", "convs.7"], (1, 3, 64, 64), source="third")
class Monodepth(nn.Module):
    """Disparities at four scales, in a dictionary whose keys are tuples; two layers for each level in one list."""

    class Conv(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.pad, self.conv = nn.ReflectionPad2d(1), nn.Conv2d(given, made, 3)

        def forward(self, x):
            return F.elu(self.conv(self.pad(x)), inplace=True)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        widths = ((32, 24), (48, 24), (24, 16), (32, 16), (16, 8), (16, 8), (8, 8), (8, 8))
        self.convs = nn.ModuleList(self.Conv(a, b) for a, b in widths)
        self.disp = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1, padding_mode="reflect") for c in (24, 16, 8, 8))

    def forward(self, x):
        *skips, y = self.encoder(x)
        outputs = {}
        for i in range(4):
            y = [F.interpolate(self.convs[2 * i](y), scale_factor=2, mode="nearest")]
            if skips:
                y += [skips.pop()]
            y = self.convs[2 * i + 1](torch.cat(y, 1))
            outputs["disp", 3 - i] = torch.sigmoid(self.disp[i](y))
        return outputs


class Gru(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ih, self.hh = nn.Conv2d(2 * c, 2 * c, 3, padding=1), nn.Conv2d(2 * c, c, 3, padding=1)

    def forward(self, x, h):
        h = torch.zeros_like(x) if h is None else h
        r, z = torch.sigmoid(self.ih(torch.cat([x, h], 1))).chunk(2, 1)
        return (1 - z) * h + z * torch.tanh(self.hh(torch.cat([x, r * h], 1)))


@family(
    "robust matting",
    ["decode4@[0]", "decode3@[0]", "decode2@[0]", "decode1@[0]", "decode0"],
    (2, 3, 64, 64),
    ladders=[["decode3@[0]", "decode2@[0]", "decode1@[0]", "decode0"]],
    source="fourth",
    started=True,
)
class Matting(nn.Module):
    """Half of each level's channels pass a recurrent unit, whose states are returned; small images are skips too."""

    class Level(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.conv, self.gru = conv(given, made) if given else None, Gru(made // 2)

        def forward(self, x, skip, image, r):
            if self.conv is not None:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
                x = self.conv(torch.cat([x[:, :, : image.shape[2], : image.shape[3]], skip, image], 1))
            a, b = x.chunk(2, 1)
            b = self.gru(b, r)
            return torch.cat([a, b], 1), b

    def __init__(self):
        super().__init__()
        self.encoder, self.decode4, self.decode0 = Encoder((8, 12, 16, 24), 3, stem=2), self.Level(0, 16), twice(11, 8)
        self.aspp, self.gate = (
            conv(24, 16, 1),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 16, 1), nn.Sigmoid()),
        )
        self.decode3, self.decode2, self.decode1 = self.Level(35, 16), self.Level(31, 12), self.Level(23, 8)
        self.project_mat = nn.Conv2d(8, 4, 1)

    def forward(self, image, r1=None, r2=None, r3=None, r4=None):
        s1, s2, s3 = (F.avg_pool2d(image, 2**i, 2**i) for i in (1, 2, 3))
        f1, f2, f3, f4 = self.encoder(image)
        x, r4 = self.decode4(self.aspp(f4) * self.gate(f4), None, None, r4)
        x, r3 = self.decode3(x, f3, s3, r3)
        x, r2 = self.decode2(x, f2, s2, r2)
        x, r1 = self.decode1(x, f1, s1, r1)
        x = self.decode0(torch.cat([up_to(x, image), image], 1))
        residual, alpha = self.project_mat(x).split([3, 1], 1)
        return [(residual + image).clamp(0, 1), alpha.clamp(0, 1), r1, r2, r3, r4]
