"""U-Nets of the first years: plain, residual, dense and recurrent blocks, additions for skips, borders cut off."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice


@family("MultiResUNet", ["multires3", "multires4"], source="second")
class MultiRes(nn.Module):
    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            a, b = made // 6, made // 3
            c = made - a - b
            self.short, self.three, self.five, self.seven = conv(given, made, 1), conv(given, a), conv(a, b), conv(b, c)
            self.norm1, self.norm2 = nn.BatchNorm2d(made), nn.BatchNorm2d(made)

        def forward(self, x):
            three = self.three(x)
            five = self.five(three)
            seven = self.seven(five)
            return self.norm2(F.relu(self.norm1(torch.cat([three, five, seven], 1)) + self.short(x)))

    def __init__(self):
        super().__init__()
        self.multires1, self.multires2, self.bottom = self.Block(1, 12), self.Block(12, 24), self.Block(24, 48)
        self.pool, self.path1, self.path2 = nn.MaxPool2d(2), conv(12, 12), conv(24, 24)
        self.up3, self.multires3 = nn.ConvTranspose2d(48, 24, 2, 2), self.Block(48, 24)
        self.up4, self.multires4 = nn.ConvTranspose2d(24, 12, 2, 2), self.Block(24, 12)
        self.conv_final = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x1 = self.multires1(x)
        x2 = self.multires2(self.pool(x1))
        x = self.bottom(self.pool(x2))
        x = self.multires3(torch.cat([self.up3(x), self.path2(x2)], 1))
        return self.conv_final(self.multires4(torch.cat([self.up4(x), self.path1(x1)], 1)))


@family("R2U-Net", ["Up_RRCNN3", "Up_RRCNN2"], source="second")
class R2UNet(nn.Module):
    class Recurrent(nn.Module):
        def __init__(self, channels, t=2):
            super().__init__()
            self.t, self.conv = t, conv(channels, channels)

        def forward(self, x):
            for i in range(self.t):
                x1 = self.conv(x) if i == 0 else x1  # noqa: F821
                x1 = self.conv(x + x1)
            return x1

    def __init__(self):
        super().__init__()

        class RRCNN(nn.Module):
            def __init__(self, given, made):
                super().__init__()
                self.RCNN = nn.Sequential(R2UNet.Recurrent(made), R2UNet.Recurrent(made))
                self.Conv_1x1 = nn.Conv2d(given, made, 1)

            def forward(self, x):
                x = self.Conv_1x1(x)
                return x + self.RCNN(x)

        def up(given, made):
            return nn.Sequential(nn.Upsample(scale_factor=2), *conv(given, made))

        self.Maxpool, self.Upsample = nn.MaxPool2d(2, 2), nn.Upsample(scale_factor=2)
        self.RRCNN1, self.RRCNN2, self.RRCNN3 = RRCNN(1, 8), RRCNN(8, 16), RRCNN(16, 32)
        self.Up3, self.Up_RRCNN3, self.Up2, self.Up_RRCNN2 = up(32, 16), RRCNN(32, 16), up(16, 8), RRCNN(16, 8)
        self.Conv_1x1 = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x1 = self.RRCNN1(x)
        x2 = self.RRCNN2(self.Maxpool(x1))
        d3 = self.Up3(self.RRCNN3(self.Maxpool(x2)))
        d3 = self.Up_RRCNN3(torch.cat((x2, d3), dim=1))
        d2 = self.Up_RRCNN2(torch.cat((x1, self.Up2(d3)), dim=1))
        return self.Conv_1x1(d2)


@family(
    "ResUNet++",
    ["up_residual1", "up_residual2", "aspp_out"],
    alts={0: ["attention2"], 1: ["attention3"], 2: ["up_residual3"]},
    source="second",
)
class ResUNetPP(nn.Module):
    class Residual(nn.Module):
        def __init__(self, given, made, stride=1):
            super().__init__()
            self.block = nn.Sequential(nn.BatchNorm2d(given), nn.ReLU(), nn.Conv2d(given, made, 3, stride, 1))
            self.skip = nn.Sequential(nn.Conv2d(given, made, 3, stride, 1), nn.BatchNorm2d(made))

        def forward(self, x):
            return self.block(x) + self.skip(x)

    class ASPP(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.branches = nn.ModuleList(nn.Conv2d(given, made, 3, padding=r, dilation=r) for r in (2, 4))
            self.output = nn.Conv2d(2 * made, made, 1)

        def forward(self, x):
            return self.output(torch.cat([F.relu(branch(x)) for branch in self.branches], 1))

    class Attention(nn.Module):
        def __init__(self, encoder, decoder):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(encoder, decoder, 3, padding=1), nn.MaxPool2d(2))
            self.decoder, self.attention = nn.Conv2d(decoder, decoder, 3, padding=1), nn.Conv2d(decoder, 1, 1)

        def forward(self, skip, x):
            return self.attention(F.relu(self.encoder(skip) + self.decoder(x))) * x

    def __init__(self):
        super().__init__()
        self.input, self.down1 = nn.Conv2d(1, 8, 3, padding=1), self.Residual(8, 16, 2)
        self.down2, self.down3 = self.Residual(16, 24, 2), self.Residual(24, 32, 2)
        self.bridge, self.aspp_out = self.ASPP(32, 48), self.ASPP(8, 8)
        self.attention1, self.attention2 = self.Attention(24, 48), self.Attention(16, 24)
        self.attention3, self.up = self.Attention(8, 16), nn.Upsample(scale_factor=2, mode="bilinear")
        self.up_residual1, self.up_residual2 = self.Residual(48 + 24, 24), self.Residual(24 + 16, 16)
        self.up_residual3, self.output_layer = self.Residual(16 + 8, 8), nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid())

    def forward(self, x):
        x1 = self.input(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.bridge(self.down3(x3))
        x = self.up_residual1(torch.cat([self.up(self.attention1(x3, x)), x3], 1))
        x = self.up_residual2(torch.cat([self.up(self.attention2(x2, x)), x2], 1))
        x = self.up_residual3(torch.cat([self.up(self.attention3(x1, x)), x1], 1))
        return self.output_layer(self.aspp_out(x))


@family("FC-DenseNet", ["denseBlocksUp.0", "denseBlocksUp.1"], source="second")
class Tiramisu(nn.Module):
    class Dense(nn.Module):
        def __init__(self, given, growth=4, layers=2, upsample=False):
            super().__init__()
            self.upsample = upsample
            self.layers = nn.ModuleList(
                nn.Sequential(
                    nn.BatchNorm2d(given + i * growth), nn.ReLU(True), nn.Conv2d(given + i * growth, growth, 3, 1, 1)
                )
                for i in range(layers)
            )

        def forward(self, x):
            new = []
            for layer in self.layers:
                out = layer(x)
                x = torch.cat([x, out], 1)
                new.append(out)
            return torch.cat(new, 1) if self.upsample else x

    def __init__(self):
        super().__init__()
        self.firstconv = nn.Conv2d(1, 8, 3, 1, 1)
        self.denseBlocksDown = nn.ModuleList([self.Dense(8), self.Dense(16)])
        self.down = nn.ModuleList([nn.Sequential(nn.Conv2d(c, c, 1), nn.MaxPool2d(2)) for c in (16, 24)])
        self.bottleneck = self.Dense(24, upsample=True)
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 3, 2) for _ in range(2)])
        self.denseBlocksUp = nn.ModuleList([self.Dense(32, upsample=True), self.Dense(24)])
        self.finalConv = nn.Conv2d(32, 3, 1)

    def forward(self, x):
        out, skips = self.firstconv(x), []
        for block, down in zip(self.denseBlocksDown, self.down, strict=True):
            out = block(out)
            skips.append(out)
            out = down(out)
        out = self.bottleneck(out)
        for up, block in zip(self.up, self.denseBlocksUp, strict=True):
            skip, out = skips.pop(), up(out)
            top, left = (out.size(2) - skip.size(2)) // 2, (out.size(3) - skip.size(3)) // 2
            out = out[:, :, top : top + skip.size(2), left : left + skip.size(3)]
            out = block(torch.cat([out, skip], 1))
        return F.log_softmax(self.finalConv(out), 1)


@family(
    "SegNet",
    ["dec3", "dec2", "dec1"],
    ladders=[["dec3", "dec2", "dec1.0"], ["dec3", "dec2", "dec1.0.2"]],
    source="second",
)
class SegNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1, self.enc2, self.enc3 = twice(1, 8), twice(8, 16), twice(16, 24)
        self.dec3, self.dec2 = nn.Sequential(conv(24, 24), conv(24, 16)), nn.Sequential(conv(16, 16), conv(16, 8))
        self.dec1 = nn.Sequential(conv(8, 8), nn.Conv2d(8, 3, 3, padding=1))
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)

    def forward(self, x):
        kept = []
        for enc in (self.enc1, self.enc2, self.enc3):
            x, where = self.pool(enc(x))
            kept.append(where)
        for dec in (self.dec3, self.dec2, self.dec1):
            x = dec(self.unpool(x, kept.pop()))
        return x


@family(
    "ENet",
    ["regular4", "regular5"],
    (1, 1, 64, 64),
    ladders=[["regular4", "regular5", "transposed"]],
    source="second",
)
class ENet(nn.Module):
    class Down(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.pool, self.made = nn.MaxPool2d(2, return_indices=True), made
            self.ext = nn.Sequential(conv(given, 4, 2, 2)[:1], conv(4, made))
            self.ext[0][0].padding = (0, 0)

        def forward(self, x):
            main, where = self.pool(x)
            pad = main.new_zeros(len(x), self.made - x.shape[1], *main.shape[2:])
            return F.relu(torch.cat((main, pad), 1) + self.ext(x)), where

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.main, self.unpool = nn.Conv2d(given, made, 1), nn.MaxUnpool2d(2)
            self.ext = nn.Sequential(conv(given, 4, 1), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, made, 1))

        def forward(self, x, where):
            return F.relu(self.unpool(self.main(x), where) + self.ext(x))

    class Regular(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.ext = nn.Sequential(conv(channels, 4, 1), conv(4, 4), conv(4, channels, 1))

        def forward(self, x):
            return F.relu(x + self.ext(x))

    def __init__(self):
        super().__init__()
        self.initial, self.pool = nn.Conv2d(1, 7, 3, 2, 1), nn.MaxPool2d(3, 2, 1)
        self.down1, self.regular1, self.down2 = self.Down(8, 16), self.Regular(16), self.Down(16, 32)
        self.regular3 = self.Regular(32)
        self.up4, self.regular4 = self.Up(32, 16), nn.Sequential(self.Regular(16), self.Regular(16))
        self.up5, self.regular5 = self.Up(16, 8), self.Regular(8)
        self.transposed = nn.ConvTranspose2d(8, 3, 3, 2, 1, 1, bias=False)

    def forward(self, x):
        x = torch.cat((self.initial(x), self.pool(x)), 1)
        x, where1 = self.down1(x)
        x, where2 = self.down2(self.regular1(x))
        x = self.regular4(self.up4(self.regular3(x), where2))
        return self.transposed(self.regular5(self.up5(x, where1)))


@family(
    "FCN-8s",
    ["score_fr", "in:upscore_pool4", "in:upscore8"],
    (1, 1, 128, 128),
    ladders=[["in:upscore_pool4", "in:upscore8"], ["upscore2", "upscore_pool4"]],
    source="second",
)
class FCN8s(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 8, 16, 16, 24), stem=2)
        self.score_fr, self.score_pool4, self.score_pool3 = (nn.Conv2d(c, 3, 1) for c in (24, 16, 16))
        self.upscore2, self.upscore_pool4 = (nn.ConvTranspose2d(3, 3, 4, 2, bias=False) for _ in range(2))
        self.upscore8 = nn.ConvTranspose2d(3, 3, 16, 8, bias=False)

    def forward(self, x):
        _, _, pool3, pool4, pool5 = self.encoder(x)
        up = self.upscore2(self.score_fr(pool5))
        up = up[:, :, 1 : 1 + pool4.size(2), 1 : 1 + pool4.size(3)]
        up = self.upscore_pool4(self.score_pool4(pool4) + up)
        up = up[:, :, 1 : 1 + pool3.size(2), 1 : 1 + pool3.size(3)]
        up = self.upscore8(up + self.score_pool3(pool3))
        return up[:, :, 4 : 4 + x.size(2), 4 : 4 + x.size(3)].contiguous()


@family("V-Net-add", ["up2", "up1"], (1, 1, 16, 16, 16), source="second")
class VNetAdd(nn.Module):
    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.rise = nn.Sequential(nn.ConvTranspose3d(given, made, 2, 2), nn.InstanceNorm3d(made), nn.PReLU())
            self.conv1, self.conv2 = nn.Conv3d(made, made, 5, padding=2), nn.Conv3d(made, made, 5, padding=2)

        def forward(self, x, skip):
            x = self.rise(x) + skip
            return F.relu(x + self.conv2(F.relu(self.conv1(x))))

    def __init__(self):
        super().__init__()
        self.inp, self.down1 = nn.Conv3d(1, 4, 5, padding=2), nn.Conv3d(4, 8, 2, 2)
        self.down2, self.up2, self.up1, self.out = (
            nn.Conv3d(8, 16, 2, 2),
            self.Up(16, 8),
            self.Up(8, 4),
            nn.Conv3d(4, 2, 1),
        )

    def forward(self, x):
        x0 = F.relu(self.inp(x))
        x1 = F.relu(self.down1(x0))
        return self.out(self.up1(self.up2(F.relu(self.down2(x1)), x1), x0))


@family("anisotropic 3D", ["up.0", "up.1", "up.2"], (1, 1, 4, 32, 32), source="second")
class Anisotropic(nn.Module):
    def __init__(self):
        super().__init__()
        widths, self.scales = (4, 8, 12, 16), [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
        self.down = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a + b, b, 3, padding=1), nn.InstanceNorm3d(b), nn.LeakyReLU(0.01, True))
            for a, b in ((16, 12), (12, 8), (8, 4))
        )
        self.head = nn.Conv3d(4, 2, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down):
            x = F.relu(down(F.max_pool3d(x, self.scales[i - 1]) if i else x))
            skips.append(x)
        skips.pop()
        for up, scale in zip(self.up, self.scales[::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=scale, mode="trilinear"), skips.pop()], 1))
        return self.head(x)


@family("output at a quarter", ["up.0", "up.1"], (1, 3, 64, 64), source="second")
class Quarter(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder((8, 16, 24, 32), 3, stem=2)
        self.up = nn.ModuleList([twice(32 + 24, 24), twice(24 + 16, 16)])
        self.cls = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        _, x2, x3, x = self.encoder(x)
        for up, skip in zip(self.up, (x3, x2), strict=True):
            x = up(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear"), skip], 1))
        return self.cls(x)
