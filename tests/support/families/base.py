"""The list of families, and the layers that most of them share."""

import torch
from torch import Tensor, nn

FAMILIES: list[dict] = []


def family(id, stages, *inputs, alts=None, ladders=(), tags="U", args=()):
    """Put a class on the list: shapes of its inputs, stages, `alts` for a stage, whole `ladders` that are right too."""

    def put(cls):
        entry = dict(id=id, build=lambda: cls(*args), inputs=lambda: tuple(map(example, inputs or [(1, 1, 32, 32)])))
        entry |= dict(stages=stages, ladders=list(ladders), alts=alts or {}, tags=tags.split(), train=True)
        FAMILIES.append(entry)
        return cls

    return put


def example(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(*shape)


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
