"""Ladders of tokens: windows, attention over space and channels; maps that have no B × C × H × W form of their own."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import conv, map_of, tokens_of, twice


class Expand(nn.Module):
    def __init__(self, c, size, scale=2):
        super().__init__()
        self.size, self.scale, self.made = size, scale, c // 2 if scale == 2 else c
        self.expand, self.norm = nn.Linear(c, self.made * scale**2, bias=False), nn.LayerNorm(self.made)

    def forward(self, x):
        b, s, h = len(x), self.scale, self.size
        x = self.expand(x).view(b, h, h, s, s, self.made).permute(0, 1, 3, 2, 4, 5).reshape(b, h * s, h * s, self.made)
        return self.norm(x.view(b, -1, self.made))


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


class Layer(nn.Module):
    """Blocks, then the change of size."""

    def __init__(self, c, size, resample=None):
        super().__init__()
        self.blocks, self.resample = nn.ModuleList([Mix(c, size), Mix(c, size)]), resample

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x if self.resample is None else self.resample(x)


class Merge(nn.Module):
    def __init__(self, c, size):
        super().__init__()
        self.size, self.reduction, self.norm = size, nn.Linear(4 * c, 2 * c, bias=False), nn.LayerNorm(4 * c)

    def forward(self, x):
        b, _, c = x.shape
        x = x.view(b, self.size, self.size, c)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1).view(b, -1, 4 * c)
        return self.reduction(self.norm(x))


@family(
    "Swin-Unet",
    ["in:layers_up.1.resample", "norm_up"],
    (1, 3, 64, 64),
    alts={1: ["layers_up.2"], 0: ["layers_up.1.blocks.1"]},
    source="second",
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


@family("Uformer", ["decode.0", "decode.1"], (1, 3, 32, 32), source="second")
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


@family("UNETR-2D", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="second")
class UNETR(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.raw = nn.Conv2d(1, 16, 8, 8), conv(1, 4)
        self.vit = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(3))
        self.skip = nn.ModuleList(
            [
                nn.ConvTranspose2d(16, 8, 2, 2),
                nn.Sequential(nn.ConvTranspose2d(16, 6, 2, 2), nn.ConvTranspose2d(6, 6, 2, 2)),
            ]
        )
        self.rise = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((16, 8), (8, 6), (6, 4)))
        self.up, self.out = nn.ModuleList([twice(16, 8), twice(12, 6), twice(8, 4)]), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        raw, t = self.raw(x), self.patch(x).flatten(2).transpose(1, 2)
        hidden = []
        for block in self.vit:
            t = block(t)
            hidden.append(t.transpose(1, 2).reshape(len(t), -1, 4, 4))
        skips = [self.skip[0](hidden[1]), self.skip[1](hidden[0]), raw]
        y = hidden[2]
        for rise, up, skip in zip(self.rise, self.up, skips, strict=True):
            y = up(torch.cat([rise(y), skip], 1))
        return self.out(y)


@family("nnFormer", ["up.0", "up.1"], (1, 1, 16, 16, 16), source="second")
class NnFormer(nn.Module):
    """3D tokens; the skip is added after a transposed convolution on the reshaped map."""

    class Up(nn.Module):
        def __init__(self, given, made, size):
            super().__init__()
            self.size, self.norm, self.rise = size, nn.LayerNorm(given), nn.ConvTranspose3d(given, made, 2, 2)
            self.mix, self.fc = (
                nn.LayerNorm(made),
                nn.Sequential(nn.Linear(made, made), nn.GELU(), nn.Linear(made, made)),
            )

        def forward(self, x, skip):
            b, _, c = x.shape
            x = self.rise(self.norm(x).permute(0, 2, 1).view(b, c, *[self.size // 2] * 3)).flatten(2).transpose(1, 2)
            x = x + skip
            return x + self.fc(self.mix(x))

    def __init__(self):
        super().__init__()
        self.embed, self.down1, self.down2 = nn.Conv3d(1, 8, 2, 2), nn.Conv3d(8, 16, 2, 2), nn.Conv3d(16, 24, 2, 2)
        self.up, self.head = nn.ModuleList([self.Up(24, 16, 4), self.Up(16, 8, 8)]), nn.ConvTranspose3d(8, 3, 2, 2)

    def forward(self, x):
        a = self.embed(x)
        b = self.down1(a)
        c = self.down2(b)
        a, b, x = (t.flatten(2).transpose(1, 2) for t in (a, b, c))
        x = self.up[1](self.up[0](x, b), a)
        return self.head(x.transpose(1, 2).view(len(x), 8, 8, 8, 8))


class Paired(nn.Module):
    """UNETR++: attention over space and over channels with shared queries and keys, on a map's positions."""

    def __init__(self, c, size):
        super().__init__()
        n = size**3
        self.position, self.norm, self.qkvv = nn.Parameter(torch.zeros(1, n, c)), nn.LayerNorm(c), nn.Linear(c, 4 * c)
        self.short, self.out1, self.out2 = nn.Linear(n, 8), nn.Linear(c, c // 2), nn.Linear(c, c // 2)
        self.conv = nn.Sequential(nn.Conv3d(c, c, 3, 1, 1), nn.BatchNorm3d(c), nn.LeakyReLU())

    def forward(self, x):
        b, c, h, w, d = x.shape
        y = x.reshape(b, c, h * w * d).permute(0, 2, 1) + self.position
        q, k, v, s = self.qkvv(self.norm(y)).view(b, -1, 4, 2, c // 2).permute(2, 0, 3, 4, 1)
        channel = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)).softmax(-1) @ v
        space = (q.transpose(-1, -2) @ self.short(k)).softmax(-1) @ self.short(s).transpose(-1, -2)
        channel = channel.permute(0, 3, 1, 2).reshape(b, -1, c)
        space = space.permute(0, 3, 1, 2).reshape(b, -1, c)
        y = y + torch.cat([self.out1(space), self.out2(channel)], -1)
        y = y.reshape(b, h, w, d, c).permute(0, 4, 1, 2, 3)
        return y + self.conv(y)


@family("UNETR++", ["up.0", "up.1", "up.2"], (1, 1, 16, 32, 32), alts={2: ["up.2.block"]}, source="third")
class UNETRPP(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, made, block, scale=2):
            super().__init__()
            self.up, self.block = nn.ConvTranspose3d(given, made, scale, scale), block

        def forward(self, x, skip):
            return self.block(self.up(x) + skip)

    def __init__(self):
        super().__init__()
        self.inp = nn.Sequential(nn.Conv3d(1, 8, 3, 1, 1), nn.BatchNorm3d(8), nn.LeakyReLU())
        self.stem = nn.Sequential(nn.Conv3d(1, 8, (2, 4, 4), (2, 4, 4)), nn.GroupNorm(4, 8))
        self.down = nn.ModuleList(nn.Sequential(nn.Conv3d(c, 2 * c, 2, 2), nn.GroupNorm(4, 2 * c)) for c in (8, 16))
        self.encode = nn.ModuleList([Paired(8, 8), Paired(16, 4), Paired(32, 2)])
        last = nn.Sequential(nn.Conv3d(8, 8, 3, 1, 1), nn.BatchNorm3d(8), nn.LeakyReLU(), nn.Conv3d(8, 8, 3, 1, 1))
        ups = [self.Up(32, 16, Paired(16, 4)), self.Up(16, 8, Paired(8, 8)), self.Up(8, 8, last, (2, 4, 4))]
        self.up, self.head = nn.ModuleList(ups), nn.Conv3d(8, 4, 1)

    def forward(self, x):
        skips, y = [self.inp(x)], self.encode[0](self.stem(x))
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skips.append(y)
            y = encode(down(y))
        for up in self.up:
            y = up(y, skips.pop())
        return self.head(y)


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


@family(
    "DAE-Former",
    ["decoder_1.block2", "decoder_0.block2"],
    (1, 3, 64, 64),
    ladders=[["decoder_1.block2", "decoder_0.block2", "in:decoder_0.last"]],
    source="fourth",
    started=True,
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
