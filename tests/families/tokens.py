"""Tokens and channels-last maps: decoders whose stages have no B × C × H × W form of their own."""

import torch
from torch import nn
from torch.nn import functional as F

from families.base import conv, family, twice


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


@family(
    "UNeXt",
    ["in:decoder1", "in:decoder2", "in:final"],
    (1, 1, 64, 64),
    ladders=[
        ["decoder0", "decoder1", "decoder2", "in:final"],
        ["dblock1", "in:decoder2", "in:final"],
        ["dblock1", "in:final"],
        ["dnorm1", "in:decoder2", "in:final"],
        ["dnorm1", "in:final"],
    ],
)
class UNeXt(nn.Module):
    class Shifted(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm, self.fc1, self.fc2 = nn.LayerNorm(c), nn.Linear(c, c), nn.Linear(c, c)
            self.depth = nn.Conv2d(c, c, 3, padding=1, groups=c)

        def forward(self, x, h, w):
            y = self.norm(x)
            b, _, c = y.shape
            y = torch.roll(y.transpose(1, 2).view(b, c, h, w), 1, 2).reshape(b, c, h * w).transpose(1, 2)
            y = self.depth(self.fc1(y).transpose(1, 2).view(b, c, h, w)).flatten(2).transpose(1, 2)
            return x + self.fc2(F.gelu(y))

    def __init__(self):
        super().__init__()
        self.encoder1, self.encoder2 = conv(1, 8), conv(8, 16)
        self.embed3, self.embed4 = conv(16, 24, 3, 2), conv(24, 32, 3, 2)
        self.block3, self.block4, self.dblock1 = self.Shifted(24), self.Shifted(32), self.Shifted(24)
        self.norm3, self.norm4, self.dnorm1 = nn.LayerNorm(24), nn.LayerNorm(32), nn.LayerNorm(24)
        self.decoder0, self.decoder1, self.decoder2 = conv(32, 24), conv(24, 16), conv(16, 8)
        self.final = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        def back(t, like):
            return t.reshape(len(t), *like.shape[2:], -1).permute(0, 3, 1, 2).contiguous()

        t1 = F.max_pool2d(self.encoder1(x), 2)
        t2 = F.max_pool2d(self.encoder2(t1), 2)
        e3, h = self.embed3(t2), t2.shape[2] // 2
        t3 = back(self.norm3(self.block3(e3.flatten(2).transpose(1, 2), h, h)), e3)
        e4 = self.embed4(t3)
        out = back(self.norm4(self.block4(e4.flatten(2).transpose(1, 2), h // 2, h // 2)), e4)
        out = F.interpolate(self.decoder0(out), scale_factor=2, mode="bilinear") + t3
        out = back(self.dnorm1(self.dblock1(out.flatten(2).transpose(1, 2), h, h)), out)
        out = F.interpolate(self.decoder1(out), scale_factor=2, mode="bilinear") + t2
        out = F.interpolate(self.decoder2(out), scale_factor=2, mode="bilinear") + t1
        return F.interpolate(self.final(out), scale_factor=2, mode="bilinear")


class LastBlock(nn.Module):
    """ConvNeXt's block on B × H × W × C."""

    def __init__(self, c):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c)
        self.first, self.second = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)

    def forward(self, x):
        y = self.depth(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.second(F.gelu(self.first(self.norm(y))))


@family("channels-last ConvNeXt", ["up.0.block", "up.1.block"], (1, 3, 32, 32), alts={0: ["up.0"], 1: ["up.1"]})
class ChannelsLast(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, skip, made):
            super().__init__()
            self.expand, self.reduce, self.block = (
                nn.Linear(given, 4 * made),
                nn.Linear(made + skip, made),
                LastBlock(made),
            )

        def forward(self, x, skip):
            b, h, w, _ = x.shape
            x = self.expand(x).view(b, h, w, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
            return self.block(self.reduce(torch.cat([x, skip], -1)))

    def __init__(self):
        super().__init__()
        self.stem, self.block1, self.block2, self.block3 = nn.Linear(3, 8), LastBlock(8), LastBlock(16), LastBlock(24)
        self.down2, self.down3 = nn.Conv2d(8, 16, 2, 2), nn.Conv2d(16, 24, 2, 2)
        self.up, self.head = nn.ModuleList([self.Up(24, 16, 16), self.Up(16, 8, 8)]), nn.Linear(8, 5)

    def forward(self, x):
        a = self.block1(self.stem(x.permute(0, 2, 3, 1)))
        b = self.block2(self.down2(a.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        x = self.block3(self.down3(b.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.head(self.up[1](self.up[0](x, b), a)).permute(0, 3, 1, 2)


@family("state-space mixer", ["up.0", "up.1"], (1, 1, 32, 32))
class Mamba(nn.Module):
    """Scans along the tokens by a causal depth-wise convolution and a cumulative sum, gated."""

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.into, self.norm, self.inner = nn.Conv2d(given, made, 1), nn.LayerNorm(made), nn.Linear(made, 2 * made)
            self.scan, self.out = nn.Conv1d(made, made, 4, padding=3, groups=made), nn.Linear(made, made)

        def forward(self, x):
            x = self.into(x)
            b, c, h, w = x.shape
            y, gate = self.inner(self.norm(x.flatten(2).transpose(1, 2))).chunk(2, -1)
            y = F.silu(self.scan(y.transpose(1, 2))[..., : h * w]).cumsum(-1).transpose(1, 2) / (h * w)
            return x + self.out(y * F.silu(gate)).transpose(1, 2).reshape(b, c, h, w)

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([self.Block(1, 8), self.Block(8, 16), self.Block(16, 24)])
        self.up, self.head = nn.ModuleList([self.Block(40, 16), self.Block(24, 8)]), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.down[2](F.max_pool2d(b, 2))
        for up, skip in zip(self.up, (b, a), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x)


@family("nnFormer", ["up.0", "up.1"], (1, 1, 16, 16, 16))
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


@family("UX-Net", ["decoder3", "decoder2", "decoder1"], (1, 1, 32, 32, 32))
class UXNet(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.rise, self.first = (
                nn.ConvTranspose3d(given, made, 2, 2, bias=False),
                nn.Conv3d(2 * made, made, 3, padding=1),
            )
            self.second, self.short, self.norm = (
                nn.Conv3d(made, made, 3, padding=1),
                nn.Conv3d(2 * made, made, 1),
                nn.InstanceNorm3d(made),
            )

        def forward(self, x, skip):
            x = torch.cat((self.rise(x), skip), 1)
            return F.leaky_relu(self.norm(self.second(F.leaky_relu(self.first(x)))) + self.short(x))

    def __init__(self):
        super().__init__()
        self.stem, self.depth = nn.Conv3d(1, 8, 7, 2, 3), nn.Conv3d(8, 8, 7, padding=3, groups=8)
        self.down1, self.down2, self.raw = (
            nn.Conv3d(8, 12, 2, 2),
            nn.Conv3d(12, 16, 2, 2),
            nn.Conv3d(1, 4, 3, padding=1),
        )
        self.fc = nn.Conv3d(8, 8, 1)
        self.decoder3, self.decoder2, self.decoder1 = self.Up(16, 12), self.Up(12, 8), self.Up(8, 4)
        self.out = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        a = self.stem(x)
        a = a + self.fc(F.gelu(F.layer_norm(self.depth(a).permute(0, 2, 3, 4, 1), (8,)).permute(0, 4, 1, 2, 3)))
        b = self.down1(a)
        return self.out(self.decoder1(self.decoder2(self.decoder3(self.down2(b), b), a), self.raw(x)))


@family("UNETR-2D", ["up.0", "up.1", "up.2"], (1, 1, 32, 32))
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
