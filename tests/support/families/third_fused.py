"""The third list, fusion: two branches side by side, tokens injected into maps, masks as products with tokens."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to
from support.families.third_tokens import attention, tokens_of


@family(
    "TransFuse",
    ["fuse", "up1.convs", "up2.convs"],
    (1, 3, 64, 64),
    alts={1: ["up1"], 2: ["up2"]},
    ladders=[["up1", "up2"]],
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


@family("TopFormer", ["inject.2", "inject.1", "inject.0"], (2, 3, 64, 64))
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


@family(
    "promptable mask decoder",
    ["upscale.2", "upscale"],
    (1, 3, 64, 64),
    (1, 2, 2),
    alts={0: ["upscale.0", "upscale.1"], 1: ["upscale.3"]},
    ladders=[["image", "upscale.2", "upscale"]],
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
