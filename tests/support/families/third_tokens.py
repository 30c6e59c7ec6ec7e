"""The third list, transformers and scans: tokens of several scales in one sequence, maps with channels last."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import Encoder, conv, family, twice
from support.families.parallel import up_to


def attention(c, heads=2):
    return nn.TransformerEncoderLayer(c, heads, 2 * c, 0.0, batch_first=True)


def tokens_of(x):
    return x.flatten(2).transpose(1, 2)


@family(
    "transformer pixel decoder",
    ["pixel@[1][0]", "pixel@[1][1]", "pixel@[1][2]", "pixel.output"],
    (2, 3, 64, 64),
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


class Expand(nn.Module):
    def __init__(self, c, made, scale=2):
        super().__init__()
        self.scale, self.expand, self.norm = scale, nn.Linear(c, made * scale**2, bias=False), nn.LayerNorm(made)

    def forward(self, x):  # B × H × W × C
        b, h, w, _ = x.shape
        x = self.expand(x).view(b, h, w, self.scale, self.scale, -1).permute(0, 1, 3, 2, 4, 5)
        return self.norm(x.reshape(b, h * self.scale, w * self.scale, -1))


@family(
    "MISSFormer",
    ["decoders.0", "decoders.1", "decoders.2"],
    (1, 3, 64, 64),
    ladders=[["decoders.1", "decoders.2"], ["bridge@[0]", "decoders.1", "decoders.2"]],
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


@family("UCTransNet", ["up.0", "up.1", "up.2"], (1, 1, 64, 64))
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


class Scan(nn.Module):
    """A map B × H × W × C is read along rows and columns, both ways, by a recurrence; as in VMamba."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.into, self.conv, self.out = (
            nn.LayerNorm(c),
            nn.Linear(c, 2 * c),
            nn.Conv2d(c, c, 3, 1, 1, groups=c),
            nn.Linear(c, c),
        )
        self.decay = nn.Parameter(torch.full((4, c), 0.5))

    def forward(self, x):
        b, h, w, c = x.shape
        y, gate = self.into(self.norm(x)).chunk(2, -1)
        y = F.silu(self.conv(y.permute(0, 3, 1, 2).contiguous()))
        ways = torch.stack([y.flatten(2), y.transpose(2, 3).contiguous().flatten(2)], 1)
        ways = torch.cat([ways, ways.flip(-1)], 1)  # B × 4 × C × L
        state, made = x.new_zeros(b, 4, c, 8), []
        for part in ways.split(8, -1):
            state = state * self.decay[..., None] + part
            made.append(state)
        rows, columns, rows_back, columns_back = torch.cat(made, -1).unbind(1)
        y = rows + rows_back.flip(-1) + (columns + columns_back.flip(-1)).view(b, c, w, h).transpose(2, 3).flatten(2)
        return x + self.out(y.transpose(1, 2).reshape(b, h, w, c) * F.silu(gate))


@family(
    "VM-UNet",
    ["layers_up.0", "layers_up.1", "layers_up.2"],
    (1, 3, 64, 64),
    alts={0: ["in:layers_up.1"], 1: ["in:layers_up.2"]},
    ladders=[["layers_up.1", "layers_up.2"], ["in:layers_up.2", "layers_up.2"]],
)
class VMUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.layers = nn.ModuleList(nn.Sequential(Scan(c), Scan(c)) for c in (8, 16, 32))
        self.merge = nn.ModuleList(nn.Linear(4 * c, 2 * c, bias=False) for c in (8, 16))
        up = [
            nn.Sequential(Scan(32), Scan(32)),
            nn.Sequential(Expand(32, 16), Scan(16)),
            nn.Sequential(Expand(16, 8), Scan(8)),
        ]
        self.layers_up, self.final_up, self.final_conv = nn.ModuleList(up), Expand(8, 8, 4), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        skips = []
        for i, layer in enumerate(self.layers):
            skips.append(x)
            x = layer(x)
            if i < 2:
                parts = [x[:, a::2, b::2] for b in (0, 1) for a in (0, 1)]
                x = self.merge[i](torch.cat(parts, -1))
        for i, layer in enumerate(self.layers_up):
            x = layer(x + skips.pop() if i else x)
        return self.final_conv(self.final_up(x).permute(0, 3, 1, 2))


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


@family("UNETR++", ["up.0", "up.1", "up.2"], (1, 1, 16, 32, 32), alts={2: ["up.2.block"]})
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


@family(
    "TransBTS",
    ["decode.0", "decode.1", "decode.2"],
    (1, 4, 16, 16, 16),
    ladders=[["enblock", "decode.0", "decode.1", "decode.2"]],
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
