"""Tokens and channels-last maps: decoders whose stages have no B × C × H × W form of their own."""

import torch
from torch import nn

from support.families.base import conv, family


class Mix(nn.Module):
    """Attention in windows over tokens B × L × C, then an MLP; as in Swin."""

    def __init__(self, c, size, window=4):
        super().__init__()
        self.size, self.window = size, window
        self.norm1, self.norm2, self.qkv, self.proj = (
            nn.LayerNorm(c),
            nn.LayerNorm(c),
            nn.Linear(c, 3 * c),
            nn.Linear(c, c),
        )
        self.mlp = nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c))

    def forward(self, x):
        b, n, c = x.shape
        h = w = self.size
        k = self.window
        y = self.norm1(x).view(b, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, k * k, c)
        q, key, v = self.qkv(y).reshape(-1, k * k, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = ((q @ key.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(-1, k * k, c)
        y = self.proj(y).view(b, h // k, w // k, k, k, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, c)
        x = x + y.view(b, n, c)
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    def __init__(self, c, size):
        super().__init__()
        self.size, self.reduction, self.norm = size, nn.Linear(4 * c, 2 * c, bias=False), nn.LayerNorm(4 * c)

    def forward(self, x):
        b, _, c = x.shape
        x = x.view(b, self.size, self.size, c)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1).view(b, -1, 4 * c)
        return self.reduction(self.norm(x))


class Expand(nn.Module):
    def __init__(self, c, size, scale=2):
        super().__init__()
        self.size, self.scale, self.made = size, scale, c // 2 if scale == 2 else c
        self.expand, self.norm = nn.Linear(c, self.made * scale**2, bias=False), nn.LayerNorm(self.made)

    def forward(self, x):
        b, s, h = len(x), self.scale, self.size
        x = self.expand(x).view(b, h, h, s, s, self.made).permute(0, 1, 3, 2, 4, 5).reshape(b, h * s, h * s, self.made)
        return self.norm(x.view(b, -1, self.made))


class Layer(nn.Module):
    """Blocks, then the change of size."""

    def __init__(self, c, size, resample=None):
        super().__init__()
        self.blocks, self.resample = nn.ModuleList([Mix(c, size), Mix(c, size)]), resample

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x if self.resample is None else self.resample(x)


@family(
    "Swin-Unet",
    ["in:layers_up.1.resample", "norm_up"],
    (1, 3, 64, 64),
    alts={1: ["layers_up.2"], 0: ["layers_up.1.blocks.1"]},
)
class SwinUnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.norm_up = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(32), nn.LayerNorm(8)
        self.layers = nn.ModuleList([Layer(8, 16, Merge(8, 16)), Layer(16, 8, Merge(16, 8)), Layer(32, 4)])
        self.layers_up = nn.ModuleList([Expand(32, 4), Layer(16, 8, Expand(16, 8)), Layer(8, 16)])
        self.concat_back_dim = nn.ModuleList([nn.Identity(), nn.Linear(32, 16), nn.Linear(16, 8)])
        self.up, self.output = Expand(8, 16, 4), nn.Conv2d(8, 5, 1, bias=False)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        skips = []
        for layer in self.layers:
            skips.append(x)
            x = layer(x)
        x = self.norm(x)
        for i, layer in enumerate(self.layers_up):
            x = layer(x if i == 0 else self.concat_back_dim[i](torch.cat([x, skips[2 - i]], -1)))
        x = self.up(self.norm_up(x))
        return self.output(x.view(len(x), 64, 64, -1).permute(0, 3, 1, 2))


@family("TransUNet", ["decoder.0", "decoder.1", "decoder.2"], (1, 3, 64, 64))
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
    "SETR-PUP",
    ["up.0", "up.1", "up.2"],
    (1, 3, 64, 64),
    alts={i: [f"up.{i}.0"] for i in range(3)},
    ladders=[["in:up.0.1", "in:up.1.1", "in:up.2.1"], ["in:up.0.1", "in:up.1.1", "in:up.2.1", "up.2"]],
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


@family("Uformer", ["decode.0", "decode.1"], (1, 3, 32, 32))
class Uformer(nn.Module):
    """Tokens throughout; goes up by a transposed convolution; the image is added to the output."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.deconv = nn.ConvTranspose2d(given, made, 2, 2)

        def forward(self, x):
            side = int(x.shape[1] ** 0.5)
            return (
                self.deconv(x.transpose(1, 2).contiguous().view(len(x), -1, side, side))
                .flatten(2)
                .transpose(1, 2)
                .contiguous()
            )

    def __init__(self):
        super().__init__()
        self.inp, self.out = conv(3, 8), nn.Conv2d(16, 3, 3, padding=1)
        self.encode, self.bottom = nn.ModuleList([Layer(8, 32), Layer(16, 16)]), Layer(32, 8)
        self.down = nn.ModuleList([nn.Conv2d(8, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1)])
        self.upsample, self.decode = (
            nn.ModuleList([self.Up(32, 16), self.Up(32, 8)]),
            nn.ModuleList([Layer(32, 16), Layer(16, 32)]),
        )

    def forward(self, x):
        y = self.inp(x).flatten(2).transpose(1, 2)
        skips = []
        for layer, down in zip(self.encode, self.down, strict=True):
            y = layer(y)
            skips.append(y)
            side = int(y.shape[1] ** 0.5)
            y = down(y.transpose(1, 2).view(len(y), -1, side, side)).flatten(2).transpose(1, 2)
        y = self.bottom(y)
        for up, layer in zip(self.upsample, self.decode, strict=True):
            y = layer(torch.cat([up(y), skips.pop()], -1))
        return x + self.out(y.transpose(1, 2).view(len(y), -1, *x.shape[2:]))
