"""Restoration of images and sound: denoising, deblurring, raw pixels, wavelets, frequencies."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


class Gated(nn.Module):
    """NAFNet's block: no activation, a product of halves."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.one, self.depth = (
            nn.GroupNorm(1, c),
            nn.Conv2d(c, 2 * c, 1),
            nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c),
        )
        self.sca, self.two = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1)), nn.Conv2d(c, c, 1)
        self.beta = nn.Parameter(torch.full((1, c, 1, 1), 0.1))

    def forward(self, x):
        a, b = self.depth(self.one(self.norm(x))).chunk(2, 1)
        y = a * b
        return x + self.two(y * self.sca(y)) * self.beta


@family("NAFNet", ["decoders.0", "decoders.1"], (1, 3, 30, 30), source="second")
class NAFNet(nn.Module):
    """Pads the image, goes up by pixel shuffling, adds skips, adds the image, crops."""

    def __init__(self):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.encoders, self.middle = nn.ModuleList([Gated(8), Gated(16)]), Gated(32)
        self.downs = nn.ModuleList([nn.Conv2d(8, 16, 2, 2), nn.Conv2d(16, 32, 2, 2)])
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 2 * c, 1, bias=False), nn.PixelShuffle(2)) for c in (32, 16)
        )
        self.decoders = nn.ModuleList([Gated(16), Gated(8)])

    def forward(self, image):
        h, w = image.shape[2:]
        image = F.pad(image, (0, -w % 4, 0, -h % 4))
        x, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return (self.ending(x) + image)[:, :, :h, :w]


class Transposed(nn.Module):
    """Restormer's block: attention between channels, then a gated convolution."""

    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2, self.temperature = nn.LayerNorm(c), nn.LayerNorm(c), nn.Parameter(torch.ones(2, 1, 1))
        self.qkv, self.project = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)
        self.depth, self.into, self.out = (
            nn.Conv2d(3 * c, 3 * c, 3, 1, 1, groups=3 * c),
            nn.Conv2d(c, 4 * c, 1),
            nn.Conv2d(2 * c, c, 1),
        )

    def normed(self, norm, x):
        b, c, h, w = x.shape
        return norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 2, c // 2, h * w) for t in self.depth(self.qkv(self.normed(self.norm1, x))).chunk(3, 1))
        attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(-1)
        x = x + self.project((attention @ v).reshape(b, c, h, w))
        a, g = self.into(self.normed(self.norm2, x)).chunk(2, 1)
        return x + self.out(F.gelu(a) * g)


@family("Restormer", ["decoder_level2", "decoder_level1"], (1, 3, 32, 32), alts={1: ["refinement"]}, source="second")
class Restormer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.output = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
        self.level1, self.level2, self.latent = Transposed(8), Transposed(16), Transposed(32)
        self.down1 = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.PixelUnshuffle(2))
        self.down2 = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.PixelUnshuffle(2))
        self.up2 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.PixelShuffle(2))
        self.up1 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2))
        self.reduce2, self.decoder_level2 = nn.Conv2d(32, 16, 1), Transposed(16)
        self.decoder_level1, self.refinement = Transposed(16), nn.Sequential(Transposed(16))

    def forward(self, image):
        a = self.level1(self.embed(image))
        b = self.level2(self.down1(a))
        x = self.up2(self.latent(self.down2(b)))
        x = self.up1(self.decoder_level2(self.reduce2(torch.cat([x, b], 1))))
        return self.output(self.refinement(self.decoder_level1(torch.cat([x, a], 1)))) + image


@family("wavelet", ["up.0", "up.1"], (1, 1, 32, 32), source="second")
class Wavelet(nn.Module):
    """Haar's transform goes down, its inverse goes up; neither has weights."""

    def down(self, x):
        a, b = x[:, :, 0::2] / 2, x[:, :, 1::2] / 2
        p, q, r, s = a[:, :, :, 0::2], b[:, :, :, 0::2], a[:, :, :, 1::2], b[:, :, :, 1::2]
        return torch.cat((p + q + r + s, -p - q + r + s, -p + q - r + s, p - q - r + s), 1)

    def rise(self, x):
        b, c, h, w = x.shape
        p, q, r, s = x.div(2).chunk(4, 1)
        y = torch.zeros(b, c // 4, 2 * h, 2 * w, device=x.device, dtype=x.dtype)
        y[:, :, 0::2, 0::2], y[:, :, 1::2, 0::2] = p - q - r + s, p - q + r - s
        y[:, :, 0::2, 1::2], y[:, :, 1::2, 1::2] = p + q - r - s, p + q + r + s
        return y

    def __init__(self):
        super().__init__()
        self.first, self.mid, self.bottom = twice(1, 8), twice(32, 16), twice(64, 64)
        self.up, self.tail = nn.ModuleList([twice(16, 32), twice(8, 8)]), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        a = self.first(x)
        b = self.mid(self.down(a))
        x = self.up[0](self.rise(self.bottom(self.down(b))) + b)
        return self.tail(self.up[1](self.rise(x) + a))


@family("MIMO-UNet", ["decoder.0", "decoder.1", "decoder.2"], (1, 3, 32, 32), source="third")
class Mimo(nn.Module):
    """Smaller images enter at each level, sharp images leave each level; skips are mixed from all levels."""

    class Blocks(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.one, self.two = twice(c, c), twice(c, c)

        def forward(self, x):
            x = x + self.one(x)
            return x + self.two(x)

    def __init__(self):
        super().__init__()
        self.inp = nn.ModuleList([conv(3, 8), conv(8, 16, stride=2), conv(16, 24, stride=2)])
        self.scm, self.fam = nn.ModuleList([conv(3, 16), conv(3, 24)]), nn.ModuleList([conv(16, 16), conv(24, 24)])
        self.encoder, self.decoder = (nn.ModuleList(map(self.Blocks, cs)) for cs in ((8, 16, 24), (24, 16, 8)))
        self.aff = nn.ModuleList(nn.Sequential(conv(48, c, 1), nn.Conv2d(c, c, 3, 1, 1)) for c in (8, 16))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((24, 16), (16, 8)))
        self.squeeze = nn.ModuleList([conv(32, 16, 1), conv(16, 8, 1)])
        self.out = nn.ModuleList(nn.Conv2d(c, 3, 3, 1, 1) for c in (24, 16, 8))

    def forward(self, x):
        images = [x, F.interpolate(x, scale_factor=0.5), F.interpolate(x, scale_factor=0.25)]
        y, maps = self.encoder[0](self.inp[0](x)), []
        maps.append(y)
        for i in (1, 2):
            y, z = self.inp[i](y), self.scm[i - 1](images[i])
            y = self.encoder[i](y + self.fam[i - 1](y * z))
            maps.append(y)
        skips = [
            aff(torch.cat([F.interpolate(m, maps[i].shape[2:]) for m in maps], 1)) for i, aff in enumerate(self.aff)
        ]
        y = self.decoder[0](y)
        outputs = [self.out[0](y) + images[2]]
        for i in (1, 2):
            y = self.decoder[i](self.squeeze[i - 1](torch.cat([self.up[i - 1](y), skips[2 - i]], 1)))
            outputs.append(self.out[i](y) + images[2 - i])
        return outputs


@family(
    "See-in-the-Dark",
    ["in:upv7", "in:upv8", "in:conv10"],
    (1, 4, 32, 32),
    alts={0: ["conv6_2"], 1: ["conv7_2"], 2: ["conv8_2"]},
    source="fourth",
    started=True,
)
class Sid(nn.Module):
    """Packed raw pixels in, colours at twice the size out: the head's channels are shuffled into places."""

    def __init__(self):
        super().__init__()
        pairs = ((1, 4, 8), (2, 8, 16), (3, 16, 24), (4, 24, 32), (6, 48, 24), (7, 32, 16), (8, 16, 8))
        for i, a, b in pairs:
            setattr(self, f"conv{i}_1", nn.Conv2d(a, b, 3, padding=1))
            setattr(self, f"conv{i}_2", nn.Conv2d(b, b, 3, padding=1))
        self.upv6, self.upv7, self.upv8 = (nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((32, 24), (24, 16), (16, 8)))
        self.pool, self.conv10 = nn.MaxPool2d(2), nn.Conv2d(8, 12, 1)

    def lrelu(self, x):
        return torch.max(0.2 * x, x)

    def level(self, i, x):
        return self.lrelu(getattr(self, f"conv{i}_2")(self.lrelu(getattr(self, f"conv{i}_1")(x))))

    def forward(self, x):
        conv1 = self.level(1, x)
        conv2 = self.level(2, self.pool(conv1))
        conv3 = self.level(3, self.pool(conv2))
        x = self.level(4, self.pool(conv3))
        x = self.level(6, torch.cat([self.upv6(x), conv3], 1))
        x = self.level(7, torch.cat([self.upv7(x), conv2], 1))
        x = self.level(8, torch.cat([self.upv8(x), conv1], 1))
        return F.pixel_shuffle(self.conv10(x), 2)


class HalfNorm(nn.Module):
    def __init__(self, given, made, cross=False):
        super().__init__()
        self.identity, self.norm = nn.Conv2d(given, made, 1), nn.InstanceNorm2d(made // 2, affine=True)
        self.conv_1, self.conv_2 = nn.Conv2d(given, made, 3, padding=1), nn.Conv2d(made, made, 3, padding=1)
        self.csff = nn.ModuleList(nn.Conv2d(made, made, 3, padding=1) for _ in range(2 if cross else 0))

    def forward(self, x, enc=None, dec=None):
        y = self.conv_1(x)
        one, two = y.chunk(2, 1)
        y = F.leaky_relu(self.conv_2(F.leaky_relu(torch.cat([self.norm(one), two], 1), 0.2)), 0.2)
        y = y + self.identity(x)
        return y if enc is None else y + self.csff[0](enc) + self.csff[1](dec)


@family("HINet", ["up_path_2.0", "up_path_2.1"], (1, 3, 32, 32), source="fourth", started=True)
class HINet(nn.Module):
    """Two U-Nets with half instance norm; the first one's maps and its image, attended, go into the second."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.up, self.conv_block = nn.ConvTranspose2d(given, made, 2, 2), HalfNorm(2 * made, made)

        def forward(self, x, bridge):
            return self.conv_block(torch.cat([self.up(x), bridge], 1))

    def __init__(self):
        super().__init__()
        widths, make = (8, 16, 24), nn.ModuleList
        self.conv_01, self.conv_02, self.cat12 = (
            nn.Conv2d(c, 8, k, padding=k // 2) for c, k in ((3, 3), (3, 3), (16, 1))
        )
        self.down_path_1 = make(HalfNorm(a, b) for a, b in zip((8, 8, 16), widths, strict=True))
        self.down_path_2 = make(HalfNorm(a, b, b < 24) for a, b in zip((8, 8, 16), widths, strict=True))
        self.shrink = make(nn.Conv2d(c, c, 4, 2, 1, bias=False) for c in (8, 16, 8, 16))
        self.up_path_1, self.up_path_2 = (make([self.Up(24, 16), self.Up(16, 8)]) for _ in range(2))
        self.skip_conv_1, self.skip_conv_2 = (
            make([nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)]) for _ in range(2)
        )
        self.sam1, self.sam2, self.sam3, self.last = (
            nn.Conv2d(a, b, 3, 1, 1) for a, b in ((8, 8), (8, 3), (3, 8), (8, 3))
        )

    def forward(self, image):
        x, encs, decs = self.conv_01(image), [], []
        for i, down in enumerate(self.down_path_1):
            x = down(x)
            if i < 2:
                encs.append(x)
                x = self.shrink[i](x)
        for i, up in enumerate(self.up_path_1):
            x = up(x, self.skip_conv_1[i](encs[1 - i]))
            decs.insert(0, x)
        first = self.sam2(x) + image
        x, blocks = (
            self.cat12(torch.cat([self.conv_02(image), self.sam1(x) * torch.sigmoid(self.sam3(first)) + x], 1)),
            [],
        )
        for i, down in enumerate(self.down_path_2):
            x = down(x, encs[i], decs[i]) if i < 2 else down(x)
            if i < 2:
                blocks.append(x)
                x = self.shrink[2 + i](x)
        for i, up in enumerate(self.up_path_2):
            x = up(x, self.skip_conv_2[i](blocks[1 - i]))
        return [first, self.last(x) + image]


@family("Wave-U-Net", ["up.0", "up.1", "up.2"], (2, 1, 64), source="third")
class Wave(nn.Module):
    """Sound: every second value is dropped on the way down, interpolated on the way up; the input joins the head."""

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.down = nn.ModuleList(self.layer(a, b, 15) for a, b in zip((1, *widths), widths, strict=False))
        self.middle, self.head = self.layer(24, 32, 15), nn.Conv1d(9, 2, 1)
        self.up = nn.ModuleList(self.layer(a + b, b, 5) for a, b in ((32, 24), (24, 16), (16, 8)))

    def layer(self, a, b, kernel):
        return nn.Sequential(nn.Conv1d(a, b, kernel, padding=kernel // 2), nn.BatchNorm1d(b), nn.LeakyReLU(0.1))

    def forward(self, x):
        y, skips = x, []
        for down in self.down:
            y = down(y)
            skips.append(y)
            y = y[:, :, ::2]
        y = self.middle(y)
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2, mode="linear", align_corners=True), skips.pop()], 1))
        return torch.tanh(self.head(torch.cat([y, x], 1)))


@family("complex spectrum", ["up.0", "up.1", "up.2"], (1, 1, 32, 32), source="sixth")
class Spectrum(nn.Module):
    """A filter in the frequencies, whose real and imaginary parts are worked on."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.mix = nn.Conv2d(16, 16, 1)
        self.up = nn.ModuleList([twice(80, 32), twice(48, 16), twice(24, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def filtered(self, x):
        found = torch.fft.rfftn(x, dim=(-2, -1))
        real, imaginary = self.mix(torch.cat([found.real, found.imag], 1)).chunk(2, 1)
        return x + torch.fft.irfftn(torch.complex(real, imaginary), s=x.shape[-2:], dim=(-2, -1))

    def forward(self, x):
        first, *skips, x = self.encoder(x)
        skips = [self.filtered(first), *skips]
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x)
