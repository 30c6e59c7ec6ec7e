"""The fourth list, transformers: written blind; tokens beside convolutions, differences of two images, class tokens."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv
from support.families.fourth_base import family
from support.families.parallel import up_to
from support.families.third_tokens import attention, tokens_of


def map_of(tokens, height, width):
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


class Pyramid(nn.Module):
    """A transformer encoder: overlapping patches, attention with pooled keys, an MLP with a depthwise layer."""

    class Layer(nn.Module):
        def __init__(self, c, pool):
            super().__init__()
            self.norm1, self.norm2, self.pool = nn.LayerNorm(c), nn.LayerNorm(c), nn.Conv2d(c, c, pool, pool)
            self.attend = nn.MultiheadAttention(c, 2, batch_first=True)
            self.fc1, self.depth, self.fc2 = (
                nn.Linear(c, 2 * c),
                nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c),
                nn.Linear(2 * c, c),
            )

        def forward(self, x, h, w):
            y = self.norm1(x)
            keys = tokens_of(self.pool(map_of(y, h, w)))
            x = x + self.attend(y, keys, keys, need_weights=False)[0]
            y = tokens_of(self.depth(map_of(self.fc1(self.norm2(x)), h, w)))
            return x + self.fc2(F.gelu(y))

    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        pairs = list(zip((3, *widths), widths, strict=False))
        self.patch = nn.ModuleList(
            nn.Conv2d(a, b, 3 if i else 7, 2 if i else 4, 1 if i else 3) for i, (a, b) in enumerate(pairs)
        )
        self.layers = nn.ModuleList(self.Layer(c, pool) for c, pool in zip(widths, (4, 2, 1, 1), strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in widths)

    def forward(self, x):
        found = []
        for patch, layer, norm in zip(self.patch, self.layers, self.norms, strict=True):
            x = patch(x)
            h, w = x.shape[2:]
            x = map_of(norm(layer(tokens_of(x), h, w)), h, w)
            found.append(x)
        return found


@family(
    "SSFormer",
    ["fuse.0", "fuse.1", "fuse.2"],
    (2, 3, 64, 64),
    ladders=[["local.3", "fuse.0", "fuse.1", "fuse.2"]],
)
class SSFormer(nn.Module):
    """Each scale passes convolutions that see locally, then they are merged one after another, all at 1/4."""

    def __init__(self):
        super().__init__()
        self.backbone = Pyramid()
        self.local = nn.ModuleList(nn.Sequential(conv(c, 16), conv(16, 16)) for c in (8, 16, 24, 32))
        self.fuse = nn.ModuleList(conv(32, 16, 1) for _ in range(3))
        self.dropout, self.pred = nn.Dropout2d(0.1), nn.Conv2d(16, 1, 1)

    def forward(self, x):
        maps = [local(y) for local, y in zip(self.local, self.backbone(x), strict=True)]
        maps = [F.interpolate(y, size=maps[0].shape[2:], mode="bilinear") for y in maps]
        y = maps.pop()
        for fuse in self.fuse:
            y = fuse(torch.cat([y, maps.pop()], 1))
        return up_to(self.pred(self.dropout(y)), x)


@family("CoTr", ["stage2_de", "stage1_de", "stage0_de"], (1, 1, 16, 16, 16))
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


class Dual(nn.Module):
    """Linear attention over places, then attention over channels; an MLP after each."""

    def __init__(self, c):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(4))
        self.qkv, self.channels, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.mlps = nn.ModuleList(nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c)) for _ in range(2))

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, -1)
        x = x + self.proj(q.softmax(-1) @ (k.softmax(1).transpose(1, 2) @ v))
        x = x + self.mlps[0](self.norms[1](x))
        q, k, v = self.channels(self.norms[2](x)).chunk(3, -1)
        weights = (F.normalize(q, dim=1).transpose(1, 2) @ F.normalize(k, dim=1)).softmax(-1)
        x = x + v @ weights.transpose(1, 2)
        return x + self.mlps[1](self.norms[3](x))


class Bigger(nn.Module):
    """Tokens of a grid become those of a finer one."""

    def __init__(self, c, made, scale=2):
        super().__init__()
        self.scale, self.expand, self.norm = scale, nn.Linear(c, made * scale**2, bias=False), nn.LayerNorm(made)

    def forward(self, x):
        b, n, _ = x.shape
        side, s = int(n**0.5), self.scale
        x = self.expand(x).view(b, side, side, s, s, -1).permute(0, 1, 3, 2, 4, 5)
        return self.norm(x.reshape(b, n * s * s, -1))


@family(
    "DAE-Former",
    ["decoder_1.block2", "decoder_0.block2"],
    (1, 3, 64, 64),
    ladders=[["decoder_1.block2", "decoder_0.block2", "in:decoder_0.last"]],
)
class DaeFormer(nn.Module):
    """Skips enter the decoder by cross attention; its last level makes the logits too, four times as fine."""

    class Decode(nn.Module):
        def __init__(self, c, made, last=None):
            super().__init__()
            self.norm1, self.norm2, self.linear = nn.LayerNorm(c), nn.LayerNorm(c), nn.Linear(c, c)
            self.q, self.kv, self.block1, self.block2 = nn.Linear(c, c), nn.Linear(c, 2 * c), Dual(c), Dual(c)
            self.layer_up, self.last = Bigger(c, made, 4 if last else 2), last

        def forward(self, x, skip):
            k, v = self.kv(self.norm1(x)).chunk(2, -1)
            crossed = self.q(self.norm2(skip)).softmax(-1) @ (k.softmax(1).transpose(1, 2) @ v)
            x = self.layer_up(self.block2(self.block1(self.linear(x) + skip + crossed)))
            if self.last is None:
                return x
            side = int(x.shape[1] ** 0.5)
            return self.last(map_of(x, side, side))

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.patch = nn.ModuleList(
            nn.Conv2d(a, b, 3 if i else 7, 2 if i else 4, 1 if i else 3)
            for i, (a, b) in enumerate(zip((3, *widths), widths, strict=False))
        )
        self.encode = nn.ModuleList(Dual(c) for c in widths)
        self.decoder_2, self.decoder_1 = Bigger(24, 16), self.Decode(16, 8)
        self.decoder_0 = self.Decode(8, 8, nn.Conv2d(8, 4, 1))

    def forward(self, x):
        skips = []
        for patch, encode in zip(self.patch, self.encode, strict=True):
            x = patch(x)
            tokens = encode(tokens_of(x))
            x = map_of(tokens, *x.shape[2:])
            skips.append(tokens)
        x = self.decoder_1(self.decoder_2(skips[2]), skips[1])
        return self.decoder_0(x, skips[0])


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


@family(
    "ChangeFormer",
    ["in:predict4", "in:predict3", "in:predict2", "in:predict1", "dense_2x", "dense_1x"],
    (1, 3, 64, 64),
    (1, 3, 64, 64),
    alts={3: ["fuse"]},
    ladders=[["in:predict4", "in:predict3", "in:predict2", "in:predict1", "dense_1x"]],
)
class ChangeFormer(nn.Module):
    """Two images, one encoder: differences at four scales, each supervised, are summed upwards and fused at 1/4."""

    class Residual(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x):
            return x + 0.1 * self.conv2(F.relu(self.conv1(x)))

    def __init__(self):
        super().__init__()
        self.encoder, self.linear = Pyramid(), nn.ModuleList(nn.Linear(c, 16) for c in (8, 16, 24, 32))
        self.diff = nn.ModuleList(
            nn.Sequential(*conv(32, 16), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(4)
        )
        self.predict1, self.predict2, self.predict3, self.predict4 = (
            nn.Sequential(conv(16, 2), nn.Conv2d(2, 2, 3, padding=1)) for _ in range(4)
        )
        self.fuse, self.change = nn.Sequential(nn.Conv2d(64, 16, 1), nn.BatchNorm2d(16)), nn.Conv2d(16, 2, 3, padding=1)
        self.convd2x, self.convd1x = (nn.ConvTranspose2d(16, 16, 4, 2, 1) for _ in range(2))
        self.dense_2x, self.dense_1x = self.Residual(16), self.Residual(16)

    def forward(self, before, after):
        made, outputs = [], []
        pairs = list(zip(self.encoder(before), self.encoder(after), strict=True))
        for i in (3, 2, 1, 0):
            both = [map_of(self.linear[i](tokens_of(m)), *m.shape[2:]) for m in pairs[i]]
            y = self.diff[i](torch.cat(both, 1))
            y = y + F.interpolate(made[-1], scale_factor=2, mode="bilinear") if made else y
            outputs.append(getattr(self, f"predict{i + 1}")(y))
            made.append(y)
        y = self.fuse(torch.cat([F.interpolate(m, y.shape[2:], mode="bilinear") for m in made], 1))
        y = self.dense_2x(self.convd2x(y))
        outputs.append(self.change(self.dense_1x(self.convd1x(y))))
        return outputs


@family("Segmenter", ["in:proj_patch"], (1, 3, 64, 64), alts={0: ["proj_patch"]}, tags="nonU")
class Segmenter(nn.Module):
    """A plain transformer; class tokens join the patches in the decoder; masks are products of both."""

    def __init__(self):
        super().__init__()
        self.patch, self.position = nn.Conv2d(3, 24, 8, 8), nn.Parameter(torch.zeros(1, 64, 24))
        self.encoder = nn.ModuleList([attention(24), attention(24)])
        self.proj_dec, self.classes, self.norm = (
            nn.Linear(24, 16),
            nn.Parameter(torch.randn(1, 5, 16)),
            nn.LayerNorm(16),
        )
        self.decoder = nn.ModuleList([attention(16), attention(16)])
        self.proj_patch, self.proj_classes, self.mask_norm = nn.Linear(16, 16), nn.Linear(16, 16), nn.LayerNorm(5)

    def forward(self, x):
        tokens = tokens_of(self.patch(x)) + self.position
        for layer in self.encoder:
            tokens = layer(tokens)
        tokens = torch.cat([self.proj_dec(tokens), self.classes.expand(len(x), -1, -1)], 1)
        for layer in self.decoder:
            tokens = layer(tokens)
        patches, classes = self.norm(tokens).split([64, 5], 1)
        patches, classes = self.proj_patch(patches), self.proj_classes(classes)
        masks = F.normalize(patches, dim=-1) @ F.normalize(classes, dim=-1).transpose(1, 2)
        return up_to(map_of(self.mask_norm(masks), 8, 8), x)
