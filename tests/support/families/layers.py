"""The layers that several families share: convolutions, an encoder, attention, and tokens laid out as maps."""

from torch import nn
from torch.nn import functional as F


def conv(given: int, made: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(made), nn.ReLU(inplace=True))


def twice(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(*conv(given, made), *conv(made, made))


class Encoder(nn.Module):
    """A pyramid: the first map at the input's size, each next one at half of it."""

    def __init__(self, widths=(8, 16, 32, 48), given=1, stem=1):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(conv(a, b, stride=stem if not i else 2), conv(b, b))
            for i, (a, b) in enumerate(zip((given, *widths), widths, strict=False))
        )

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found


def up_to(x, other, mode="bilinear"):
    return F.interpolate(x, other.shape[2:], mode=mode)


def attention(c, heads=2):
    return nn.TransformerEncoderLayer(c, heads, 2 * c, 0.0, batch_first=True)


def tokens_of(x):
    return x.flatten(2).transpose(1, 2)


def map_of(tokens, height, width):
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


class Expand(nn.Module):
    def __init__(self, c, made, scale=2):
        super().__init__()
        self.scale, self.expand, self.norm = scale, nn.Linear(c, made * scale**2, bias=False), nn.LayerNorm(made)

    def forward(self, x):  # B × H × W × C
        b, h, w, _ = x.shape
        x = self.expand(x).view(b, h, w, self.scale, self.scale, -1).permute(0, 1, 3, 2, 4, 5)
        return self.norm(x.reshape(b, h * self.scale, w * self.scale, -1))
