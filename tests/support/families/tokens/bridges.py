"""Transformers beside or below convolutions: at the bottom, between the skips, over the tokens of several scales."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, Expand, attention, conv, tokens_of, twice, up_to


@family("TransUNet", ["decoder.0", "decoder.1", "decoder.2"], (1, 3, 64, 64), source="second")
class TransUNet(nn.Module):
    class Block(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.conv1, self.conv2, self.up = (
                conv(given + skip, made),
                conv(made, made),
                nn.UpsamplingBilinear2d(scale_factor=2),
            )

        def forward(self, x, skip=None):
            x = self.up(x)
            return self.conv2(self.conv1(x if skip is None else torch.cat([x, skip], 1)))

    def __init__(self):
        super().__init__()
        self.stem, self.deep, self.patch = conv(3, 8, 3, 2), conv(8, 16, 3, 2), nn.Conv2d(16, 32, 2, 2)
        self.position = nn.Parameter(torch.zeros(1, 64, 32))
        self.transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 48, 0.0, batch_first=True), 2)
        self.conv_more, self.head = conv(32, 32), nn.Conv2d(8, 5, 3, padding=1)
        self.decoder = nn.ModuleList([self.Block(32, 16, 16), self.Block(16, 8, 8), self.Block(8, 0, 8)])

    def forward(self, x):
        a = self.stem(x)
        b = self.deep(a)
        tokens = self.transformer(self.patch(b).flatten(2).transpose(-1, -2) + self.position)
        n, length, hidden = tokens.shape
        side = int(length**0.5)
        x = self.conv_more(tokens.permute(0, 2, 1).contiguous().view(n, hidden, side, side))
        for block, skip in zip(self.decoder, (b, a, None), strict=True):
            x = block(x, skip)
        return self.head(x)


@family(
    "TransBTS",
    ["decode.0", "decode.1", "decode.2"],
    (1, 4, 16, 16, 16),
    ladders=[["enblock", "decode.0", "decode.1", "decode.2"]],
    source="third",
)
class TransBTS(nn.Module):
    class Block(nn.Module):
        def __init__(self, c, groups=4):
            super().__init__()
            self.norm, self.conv = nn.GroupNorm(groups, c), nn.Conv3d(c, c, 3, 1, 1)

        def forward(self, x):
            return x + self.conv(F.relu(self.norm(x)))

    class Up(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.deconv, self.conv3 = (
                nn.Conv3d(c, c // 2, 1),
                nn.ConvTranspose3d(c // 2, c // 2, 2, 2),
                nn.Conv3d(c, c // 2, 1),
            )

        def forward(self, x, prev):
            return self.conv3(torch.cat((prev, self.deconv(self.conv1(x))), 1))

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv3d(4, 4, 3, 1, 1), nn.Conv3d(4, 3, 1)
        self.encode = nn.ModuleList(self.Block(c) for c in (4, 8, 16))
        self.down = nn.ModuleList(nn.Conv3d(c, 2 * c, 3, 2, 1) for c in (4, 8, 16))
        self.mapping, self.position = nn.Conv3d(32, 24, 3, 1, 1), nn.Parameter(torch.zeros(1, 8, 24))
        self.transformer, self.enblock = (
            nn.ModuleList([attention(24), attention(24)]),
            nn.Sequential(nn.Conv3d(24, 32, 3, 1, 1), self.Block(32)),
        )
        self.up = nn.ModuleList(self.Up(c) for c in (32, 16, 8))
        self.decode = nn.ModuleList(nn.Sequential(self.Block(c), self.Block(c)) for c in (16, 8, 4))

    def forward(self, x):
        x, skips = self.first(x), []
        for encode, down in zip(self.encode, self.down, strict=True):
            skips.append(encode(x))
            x = down(skips[-1])
        y = self.mapping(x).permute(0, 2, 3, 4, 1).contiguous().view(len(x), -1, 24) + self.position
        for layer in self.transformer:
            y = layer(y)
        y = y.view(len(x), 2, 2, 2, 24).permute(0, 4, 1, 2, 3).contiguous()
        y = self.enblock(y)
        for up, decode in zip(self.up, self.decode, strict=True):
            y = decode(up(y, skips.pop()))
        return F.softmax(self.head(y), 1)


@family("UCTransNet", ["up.0", "up.1", "up.2"], (1, 1, 64, 64), source="third")
class UCTransNet(nn.Module):
    """The skips become as many tokens each, side by side in channels; attention between channels; laid out again."""

    class Cross(nn.Module):
        def __init__(self, widths, sizes):
            super().__init__()
            self.embed = nn.ModuleList(nn.Conv2d(c, c, s, s) for c, s in zip(widths, sizes, strict=True))
            self.query, self.out = (nn.ModuleList(nn.Linear(c, c) for c in widths) for _ in range(2))
            self.key, self.value, self.norm = nn.Linear(48, 48), nn.Linear(48, 48), nn.LayerNorm(48)

        def forward(self, maps):
            tokens = [tokens_of(embed(x)) for embed, x in zip(self.embed, maps, strict=True)]
            whole = self.norm(torch.cat(tokens, 2))
            key, value, made = self.key(whole), self.value(whole), []
            for x, t, query, out in zip(maps, tokens, self.query, self.out, strict=True):
                score = F.softmax(query(t).transpose(1, 2) @ key / 7, -1)
                y = t + out((score @ value.transpose(1, 2)).transpose(1, 2))
                y = y.transpose(1, 2).reshape(len(x), -1, 8, 8)
                made.append(x + F.interpolate(y, x.shape[2:]))
            return made

    class Up(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.up, self.gate, self.convs = (
                nn.Upsample(scale_factor=2),
                nn.Linear(given, skip),
                twice(given + skip, made),
            )

        def forward(self, x, skip):
            x = self.up(x)
            gate = torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
            return self.convs(torch.cat([torch.relu(skip * gate), x], 1))

    def __init__(self):
        super().__init__()
        self.encoder, self.cross, self.head = (
            Encoder((8, 16, 24, 32)),
            self.Cross((8, 16, 24), (8, 4, 2)),
            nn.Conv2d(8, 3, 1),
        )
        self.up = nn.ModuleList([self.Up(32, 24, 24), self.Up(24, 16, 16), self.Up(16, 8, 8)])

    def forward(self, x):
        *skips, x = self.encoder(x)
        for up, skip in zip(self.up, self.cross(skips)[::-1], strict=True):
            x = up(x, skip)
        return self.head(x)


@family(
    "MISSFormer",
    ["decoders.0", "decoders.1", "decoders.2"],
    (1, 3, 64, 64),
    ladders=[["decoders.1", "decoders.2"], ["bridge@[0]", "decoders.1", "decoders.2"]],
    source="third",
)
class MissFormer(nn.Module):
    """A bridge lays the tokens of all scales, cut to one width, behind each other, and slices them apart again."""

    class Bridge(nn.Module):
        def __init__(self, widths):
            super().__init__()
            self.widths, self.layer = widths, attention(8)

        def forward(self, maps):
            whole = torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, 8) for x in maps], 1)
            whole, made, start = self.layer(whole), [], 0
            for x in maps:
                b, c, h, w = x.shape
                count = h * w * c // 8
                made.append(whole[:, start : start + count].reshape(b, h, w, c))
                start += count
            return made[::-1]

    class Decoder(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.expand, self.concat, self.layer = Expand(given, made), nn.Linear(made + skip, made), attention(made)

        def forward(self, x, skip):
            x = self.expand(x)
            x = self.concat(torch.cat([x, skip], -1))
            return self.layer(x.flatten(1, 2)).view(x.shape)

    def __init__(self):
        super().__init__()
        self.encoder, self.bridge = Encoder((8, 16, 24, 32), 3, stem=4), self.Bridge((8, 16, 24, 32))
        self.decoders = nn.ModuleList([self.Decoder(32, 24, 24), self.Decoder(24, 16, 16), self.Decoder(16, 8, 8)])
        self.up, self.head = Expand(8, 8, 4), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x, *skips = self.bridge(self.encoder(x))
        for decoder, skip in zip(self.decoders, skips, strict=True):
            x = decoder(x, skip)
        return self.head(self.up(x).permute(0, 3, 1, 2))


@family("CoTr", ["stage2_de", "stage1_de", "stage0_de"], (1, 1, 16, 16, 16), source="fourth", started=True)
class CoTr(nn.Module):
    """3D: two coarse scales are one sequence for a transformer, then taken apart; skips are added; supervised."""

    class Res(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm1, self.norm2 = nn.InstanceNorm3d(c, affine=True), nn.InstanceNorm3d(c, affine=True)
            self.conv1, self.conv2 = (nn.Conv3d(c, c, 3, padding=1, bias=False) for _ in range(2))

        def forward(self, x):
            y = self.conv1(F.leaky_relu(self.norm1(x)))
            return x + self.conv2(F.leaky_relu(self.norm2(y)))

    def __init__(self):
        super().__init__()
        self.stem, self.down1, self.down2, self.down3 = (
            nn.Sequential(nn.Conv3d(a, b, 3, s, 1), nn.InstanceNorm3d(b), nn.LeakyReLU(), self.Res(b))
            for a, b, s in ((1, 4, 1), (4, 8, 2), (8, 16, 2), (16, 16, 2))
        )
        self.level, self.layers = nn.Parameter(torch.zeros(2, 16)), nn.ModuleList([attention(16), attention(16)])
        self.transposeconv_stage2, self.transposeconv_stage1, self.transposeconv_stage0 = (
            nn.ConvTranspose3d(a, b, 2, 2, bias=False) for a, b in ((16, 16), (16, 8), (8, 4))
        )
        self.stage2_de, self.stage1_de, self.stage0_de = self.Res(16), self.Res(8), self.Res(4)
        self.ds2, self.ds1, self.cls = (nn.Conv3d(c, 3, 1) for c in (16, 8, 4))

    def forward(self, x):
        x0 = self.stem(x)
        x1 = self.down1(x0)
        maps = [self.down2(x1)]
        maps.append(self.down3(maps[0]))
        tokens = torch.cat([tokens_of(m) + self.level[i] for i, m in enumerate(maps)], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        parts = tokens.split([m[0, 0].numel() for m in maps], 1)
        x2, x3 = (p.transpose(1, 2).reshape(m.shape) for p, m in zip(parts, maps, strict=True))
        y2 = self.stage2_de(self.transposeconv_stage2(x3) + x2)
        y1 = self.stage1_de(self.transposeconv_stage1(y2) + x1)
        y0 = self.stage0_de(self.transposeconv_stage0(y1) + x0)
        return [self.cls(y0), self.ds1(y1), self.ds2(y2)]


@family(
    "TransFuse",
    ["fuse", "up1.convs", "up2.convs"],
    (1, 3, 64, 64),
    alts={1: ["up1"], 2: ["up2"]},
    ladders=[["up1", "up2"]],
    source="third",
)
class TransFuse(nn.Module):
    """A CNN and a ViT side by side; their maps are fused at each scale, and the fused maps are gated and merged up."""

    class Fuse(nn.Module):
        def __init__(self, a, b, made):
            super().__init__()
            self.spatial, self.se1, self.se2 = nn.Conv2d(2, 1, 7, padding=3), nn.Linear(b, 4), nn.Linear(4, b)
            self.wa, self.wb, self.mix = nn.Conv2d(a, made, 1), nn.Conv2d(b, made, 1), twice(a + b + made, made)

        def forward(self, g, x):
            both = self.wa(g) * self.wb(x)
            pool = torch.cat([g.max(1, keepdim=True)[0], g.mean(1, keepdim=True)], 1)
            g = torch.sigmoid(self.spatial(pool)) * g
            x = torch.sigmoid(self.se2(F.relu(self.se1(x.mean((2, 3))))))[..., None, None] * x
            return self.mix(torch.cat([g, x, both], 1))

    class Up(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.gate_x, self.gate_s, self.psi = nn.Conv2d(given, 4, 1), nn.Conv2d(skip, 4, 1), nn.Conv2d(4, 1, 1)
            self.convs = twice(given + skip, made)

        def forward(self, x, skip):
            x = up_to(x, skip)
            skip = skip * torch.sigmoid(self.psi(F.relu(self.gate_x(x) + self.gate_s(skip))))
            return self.convs(torch.cat([skip, x], 1))

    def __init__(self):
        super().__init__()
        self.cnn, self.patch = Encoder((8, 16, 24, 32), 3, stem=2), nn.Conv2d(3, 32, 16, 16)
        self.vit = nn.ModuleList([attention(32), attention(32)])
        self.vit_up1, self.vit_up2 = twice(32, 24), twice(24, 16)
        self.fuse, self.fuse1, self.fuse2 = self.Fuse(32, 32, 32), self.Fuse(24, 24, 24), self.Fuse(16, 16, 16)
        self.up1, self.up2 = self.Up(32, 24, 24), self.Up(24, 16, 16)
        self.final, self.final_x, self.final_v = (
            nn.Sequential(conv(c, 8), nn.Conv2d(8, 2, 3, padding=1)) for c in (16, 32, 16)
        )

    def forward(self, x):
        size = x.shape[2:]
        _, c1, c2, c3 = self.cnn(x)
        t = tokens_of(self.patch(x))
        for layer in self.vit:
            t = layer(t)
        v3 = t.transpose(1, 2).reshape(len(x), -1, 4, 4)
        v2 = self.vit_up1(F.interpolate(v3, size=c2.shape[2:]))
        v1 = self.vit_up2(F.interpolate(v2, size=c1.shape[2:]))
        y = self.fuse(c3, F.interpolate(v3, size=c3.shape[2:]))
        y = self.up1(y, self.fuse1(c2, v2))
        y = self.up2(y, self.fuse2(c1, v1))
        return tuple(
            F.interpolate(head(m), size, mode="bilinear")
            for head, m in ((self.final_x, c3), (self.final, y), (self.final_v, v1))
        )


class GlobalLocal(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2, self.qkv = nn.BatchNorm2d(c), nn.BatchNorm2d(c), nn.Conv2d(c, 3 * c, 1, bias=False)
        self.local1, self.local2, self.proj = conv(c, c), conv(c, c, 1), nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.mlp = nn.Sequential(nn.Conv2d(c, 2 * c, 1), nn.ReLU6(), nn.Conv2d(2 * c, c, 1))

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = self.qkv(y).flatten(2).chunk(3, 1)
        far = v @ ((q.transpose(1, 2) @ k) * q.shape[1] ** -0.5).softmax(-1).transpose(1, 2)
        x = x + self.proj(far.view(x.shape) + self.local1(y) + self.local2(y))
        return x + self.mlp(self.norm2(x))


@family(
    "UNetFormer",
    ["decoder.b4", "decoder.b3", "decoder.b2", "decoder.p1"],
    (2, 3, 64, 64),
    alts={3: ["decoder.seg.0"]},
    source="fourth",
    started=True,
)
class UNetFormer(nn.Module):
    """A CNN down; up: weighted sums with the skips, global and local blocks; an auxiliary head when it is trained."""

    class Weighted(nn.Module):
        def __init__(self, skip, c):
            super().__init__()
            self.pre, self.post, self.weights = nn.Conv2d(skip, c, 1), conv(c, c), nn.Parameter(torch.ones(2))

        def forward(self, x, skip):
            w = F.relu(self.weights)
            w = w / (w.sum() + 1e-8)
            return self.post(w[0] * self.pre(skip) + w[1] * up_to(x, skip))

    class Refine(Weighted):
        def __init__(self, skip, c):
            super().__init__(skip, c)
            self.pa = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Sigmoid())
            self.ca = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.ReLU6(), nn.Conv2d(4, c, 1), nn.Sigmoid()
            )
            self.short, self.proj = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 3, padding=1, groups=c)

        def forward(self, x, skip):
            x = super().forward(x, skip)
            return F.relu6(self.proj(self.pa(x) * x + self.ca(x) * x) + self.short(x))

    class Decoder(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.pre_conv, self.seg = conv(32, c, 1), nn.Sequential(conv(c, c), nn.Conv2d(c, 5, 1))
            self.b4, self.b3, self.b2 = (GlobalLocal(c) for _ in range(3))
            self.p3, self.p2, self.p1 = UNetFormer.Weighted(24, c), UNetFormer.Weighted(16, c), UNetFormer.Refine(8, c)
            self.aux = nn.Sequential(conv(c, c), nn.Conv2d(c, 5, 1))

        def forward(self, maps, x):
            h4 = self.b4(self.pre_conv(maps[3]))
            h3 = self.b3(self.p3(h4, maps[2]))
            h2 = self.b2(self.p2(h3, maps[1]))
            y = up_to(self.seg(self.p1(h2, maps[0])), x)
            return (y, up_to(self.aux(up_to(h4, h2) + up_to(h3, h2) + h2), x)) if self.training else y

    def __init__(self):
        super().__init__()
        self.backbone, self.decoder = Encoder((8, 16, 24, 32), 3, stem=2), self.Decoder(16)

    def forward(self, x):
        return self.decoder(self.backbone(x), x)
