"""Decoders of tokens: plain and pyramidal transformers, tokens of several scales in one sequence, masks as products."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, attention, conv, map_of, tokens_of, up_to


@family(
    "SETR-PUP",
    ["up.0", "up.1", "up.2"],
    (1, 3, 64, 64),
    alts={i: [f"up.{i}.0"] for i in range(3)},
    ladders=[["in:up.0.1", "in:up.1.1", "in:up.2.1"], ["in:up.0.1", "in:up.1.1", "in:up.2.1", "up.2"]],
    source="second",
)
class SETR(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.vit = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 48, 0.0, batch_first=True), 2)
        up = [
            nn.Sequential(conv(c, d), nn.Upsample(scale_factor=2, mode="bilinear"))
            for c, d in ((32, 24), (24, 16), (16, 8))
        ]
        self.up, self.cls = nn.ModuleList(up), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = self.patch(x)
        x = self.vit(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        for up in self.up:
            x = up(x)
        return self.cls(x)


@family(
    "DPT",
    ["refine.3", "refine.2", "refine.1", "refine.0"],
    (1, 3, 64, 64),
    ladders=[
        ["refine.3.unit2", "refine.2.unit2", "refine.1.unit2", "refine.0.unit2", "refine.0"],
        ["refine.2.unit2", "refine.1.unit2", "refine.0.unit2", "refine.0"],
    ],
    source="second",
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


@family(
    "transformer pixel decoder",
    ["pixel@[1][0]", "pixel@[1][1]", "pixel@[1][2]", "pixel.output"],
    (2, 3, 64, 64),
    source="third",
)
class PixelDecoder(nn.Module):
    """As in OneFormer: tokens of three scales are one sequence for the transformer, then taken apart; FPN to 1/4."""

    class Pixel(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.project = nn.ModuleList(nn.Conv2d(w, c, 1) for w in (40, 32, 24))
            self.level, self.layers = nn.Parameter(torch.zeros(3, c)), nn.ModuleList(attention(c) for _ in range(2))
            self.lateral, self.output = nn.Conv2d(16, c, 1), conv(c, c)

        def forward(self, maps):
            maps, finest = maps[:0:-1], maps[0]
            given = [project(x) for project, x in zip(self.project, maps, strict=True)]
            tokens = torch.cat([tokens_of(x) + self.level[i] for i, x in enumerate(given)], 1)
            for layer in self.layers:
                tokens = layer(tokens)
            parts = torch.split(tokens, [x.shape[2] * x.shape[3] for x in given], 1)
            made = [p.transpose(1, 2).view(x.shape) for p, x in zip(parts, given, strict=True)]
            lateral = self.lateral(finest)
            return self.output(lateral + up_to(made[-1], lateral)), made

    def __init__(self):
        super().__init__()
        self.encoder, self.pixel = Encoder((8, 16, 24, 32, 40), 3, stem=2), self.Pixel(16)
        self.query, self.decoder = nn.Embedding(4, 16), nn.TransformerDecoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.classes, self.masks = nn.Linear(16, 5), nn.Linear(16, 16)

    def forward(self, x):
        features, levels = self.pixel(self.encoder(x)[1:])
        queries = self.decoder(self.query.weight.expand(len(x), -1, -1), tokens_of(levels[0]))
        masks = torch.einsum("bqc,bchw->bqhw", self.masks(queries), features).sigmoid()
        return torch.einsum("bqk,bqhw->bkhw", self.classes(queries).softmax(-1), masks)


@family(
    "promptable mask decoder",
    ["upscale.2", "upscale"],
    (1, 3, 64, 64),
    (1, 2, 2),
    alts={0: ["upscale.0", "upscale.1"], 1: ["upscale.3"]},
    ladders=[["image", "upscale.2", "upscale"]],
    source="third",
)
class MaskDecoder(nn.Module):
    """As in Segment Anything: two-way attention, two transposed convolutions, masks as products with tokens."""

    def __init__(self):
        super().__init__()
        self.patch, self.image, self.prompt = nn.Conv2d(3, 32, 8, 8), nn.Identity(), nn.Linear(2, 32)
        self.vit, self.masks = nn.ModuleList([attention(32), attention(32)]), nn.Embedding(3, 32)
        self.to_image, self.to_tokens = (nn.MultiheadAttention(32, 2, batch_first=True) for _ in range(2))
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 2, 2), nn.GroupNorm(1, 16), nn.GELU(), nn.ConvTranspose2d(16, 8, 2, 2), nn.GELU()
        )
        self.hyper = nn.ModuleList(nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(3))

    def forward(self, x, points):
        x = self.patch(x)
        image = tokens_of(x)
        for layer in self.vit:
            image = layer(image)
        tokens = torch.cat([self.masks.weight.expand(len(x), -1, -1), self.prompt(points)], 1)
        tokens = tokens + self.to_image(tokens, image, image)[0]
        image = image + self.to_tokens(image, tokens, tokens)[0]
        y = self.upscale(self.image(image.transpose(1, 2).view(x.shape)))
        weights = torch.stack([hyper(tokens[:, i]) for i, hyper in enumerate(self.hyper)], 1)
        return (weights @ y.flatten(2)).view(len(x), -1, *y.shape[2:])


@family(
    "queries that begin with the map they are laid over",
    ["pyramid.0", "pyramid.1", "pyramid.2"],
    (1, 3, 32, 32),
    alts={2: ["embed"]},
    source="eighth",
)
class LaidOver(nn.Module):
    """Masks are products of an embedding of the finest level and of queries, which look at that embedding too."""

    def __init__(self, queries=4):
        super().__init__()
        self.encoder = Encoder((8, 16, 24), 3)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (24, 16, 8))
        self.pyramid = nn.ModuleList(conv(16, 16) for _ in range(3))
        self.embed, self.keys = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.queries = nn.Parameter(torch.randn(1, queries, 16))
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.words = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, x):
        x1, x2, x3 = self.encoder(x)
        y = self.pyramid[0](self.lateral[0](x3))
        y = self.pyramid[1](self.lateral[1](x2) + F.interpolate(y, scale_factor=2))
        y = self.embed(self.pyramid[2](self.lateral[2](x1) + F.interpolate(y, scale_factor=2)))
        seen = self.keys(y).flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(x), -1, -1)
        queries = self.norm(queries + self.attention(queries, seen, seen)[0])
        return torch.einsum("bqc,bchw->bqhw", self.words(queries), y)


@family(
    "Segmenter", ["in:proj_patch"], (1, 3, 64, 64), alts={0: ["proj_patch"]}, tags="nonU", source="fourth", started=True
)
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
    source="fourth",
    started=True,
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


@family(
    "ChangeFormer",
    ["in:predict4", "in:predict3", "in:predict2", "in:predict1", "dense_2x", "dense_1x"],
    (1, 3, 64, 64),
    (1, 3, 64, 64),
    alts={3: ["fuse"]},
    ladders=[["in:predict4", "in:predict3", "in:predict2", "in:predict1", "dense_1x"]],
    source="fourth",
    started=True,
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


@family("TopFormer", ["inject.2", "inject.1", "inject.0"], (2, 3, 64, 64), source="third")
class TopFormer(nn.Module):
    """All scales are pooled to one grid, mixed as one wide token each, and injected into each scale again; summed."""

    class Inject(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.local, self.semantic, self.gate = (
                nn.Sequential(nn.Conv2d(c, made, 1, bias=False), nn.BatchNorm2d(made)) for c in (given,) * 3
            )

        def forward(self, x, y):
            gate = F.interpolate(F.hardsigmoid(self.gate(y)), x.shape[2:], mode="bilinear")
            return self.local(x) * gate + F.interpolate(self.semantic(y), x.shape[2:], mode="bilinear")

    def __init__(self):
        super().__init__()
        self.encoder, self.layers = Encoder((8, 16, 24, 32), 3, stem=2), nn.ModuleList([attention(72), attention(72)])
        self.inject = nn.ModuleList(self.Inject(c, 16) for c in (16, 24, 32))
        self.fuse, self.cls = conv(16, 16, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        maps = self.encoder(x)[1:]
        wide = torch.cat([F.adaptive_avg_pool2d(m, 2) for m in maps], 1)
        t = tokens_of(wide)
        for layer in self.layers:
            t = layer(t)
        parts = t.transpose(1, 2).reshape(wide.shape).split([m.shape[1] for m in maps], 1)
        made = [inject(m, p) for inject, m, p in zip(self.inject, maps, parts, strict=True)]
        total = made[0]
        for m in made[1:]:
            total = total + up_to(m, made[0])
        return self.cls(self.fuse(total))
