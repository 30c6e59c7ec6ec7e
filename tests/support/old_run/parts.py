import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lomix_search.data.dataset import Case, Slices, Splits


def data(wait=0.0):
    draw = np.random.default_rng(0)
    labels = np.zeros((12, 16, 16), np.int64)
    for label in labels:
        y, x = draw.integers(0, 10, 2)
        label[y : y + 6, x : x + 6] = 1
        y, x = draw.integers(0, 12, 2)
        label[y : y + 3, x : x + 3] = 2
    images = (labels + draw.normal(0, 0.1, labels.shape)).astype(np.float32)[:, None]

    def slowly(image, label):
        if wait:
            time.sleep(wait)
        return image, label

    def part(start, stop, augment=None):
        cases = [f"case{i}" for i in range(start, stop)]
        return Slices(images[start:stop], labels[start:stop], cases, num_classes=3, augment=augment)

    volumes = {"test": [Case(f"case{i}", images[i][None], labels[i][None]) for i in (10, 11)]}
    return Splits(part(0, 8, slowly), part(8, 10), part(10, 12), ("background", "large", "small"), 1, volumes=volumes)


class Tiny(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down = nn.ModuleList([conv(1, width), conv(width, 2 * width), conv(2 * width, 2 * width)])
        self.up = nn.ModuleList([conv(4 * width, 2 * width), conv(3 * width, width)])
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.head(x)


def conv(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())


def build(width=8):
    if width == 13:
        raise ZeroDivisionError("thirteen")
    return Tiny(width)
