"""Networks that return their logits in every way that people do, and the Dice of each by a hand computation.

``KINDS`` holds the ways by name, ``build(kind)`` a network, ``Items(network)`` images with labels of known Dice.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from lomix_search.data.case import Case
from support.zoo import SmallUNet


@dataclass
class Out:
    features: Tensor
    logits: Tensor
    loss: Tensor | None = None


class Pair(NamedTuple):
    coarse: Tensor
    fine: Tensor


class ModelOutput(OrderedDict):
    """As those of transformers: a mapping that also has attributes and can be indexed by number."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Shaped(SmallUNet):
    """A SmallUNet whose answer is laid out, activated and accompanied as a kind says."""

    def __init__(self, kind: str, dims: int = 2) -> None:
        classes = KINDS[kind][0]
        super().__init__(dims, classes)
        self.kind = kind
        self.side, self.other = type(self.head)(8, classes, 1), type(self.head)(4, classes, 1)
        self.sigmoid, self.softmax, self.log_softmax = nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1)
        self.dropout.p = 0.0
        for part in (self.head, self.side, self.other):
            nn.init.normal_(part.weight, std=4.0)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The finest logits, those of the level below, and the last features."""
        self.image, skips = (x > 0.3).float(), []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            skips.append(x)
        x, maps = self.dropout(skips.pop()), []
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            maps.append(x)
        return self.head(maps[1]), self.side(maps[0]), maps[1]

    def forward(self, x: Tensor) -> Any:
        fine, coarse, features = self.parts(x)
        return KINDS[self.kind][1](self, fine, coarse, features)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2)


def binary(z: Tensor) -> Tensor:
    return (z[:, 0] > 0).long()


def largest(z: Tensor) -> Tensor:
    return z.argmax(1)


def rows(logits: Tensor) -> Tensor:
    """A table of positions × classes, of all images, as in V-Net's first code."""
    last = logits.permute(0, 2, 3, 1).contiguous()
    return last.view(last.numel() // last.shape[-1], last.shape[-1])


# kind → classes, what forward returns, how the finest logits are decided by hand
KINDS: dict[str, tuple[int, Any, Any]] = {
    "plain": (3, lambda n, z, c, f: z, largest),
    "one channel": (1, lambda n, z, c, f: z, binary),
    "two channels": (2, lambda n, z, c, f: z, largest),
    "fine, coarse (nnU-Net)": (3, lambda n, z, c, f: [z, c], largest),
    "coarse, fine": (3, lambda n, z, c, f: (c, z), largest),
    "coarse resized, fine": (3, lambda n, z, c, f: [up(c), z], largest),
    "fine, coarse resized": (3, lambda n, z, c, f: [z, up(c)], largest),
    "stacked fine first": (3, lambda n, z, c, f: torch.stack([z, up(c)], 1), largest),
    "stacked coarse first": (3, lambda n, z, c, f: torch.stack([up(c), z], 1), largest),
    "stacked in front": (3, lambda n, z, c, f: torch.stack([up(c), z]), largest),
    "stacked by cat": (3, lambda n, z, c, f: torch.cat([up(c).unsqueeze(1), z.unsqueeze(1)], 1), largest),
    "mask and label": (3, lambda n, z, c, f: (z, z.mean((2, 3))), largest),
    "label and mask": (3, lambda n, z, c, f: (z.mean((2, 3)), z), largest),
    "dict": (3, lambda n, z, c, f: {"features": f, "aux": c, "out": z}, largest),
    "dict, aux resized": (3, lambda n, z, c, f: {"out": z, "aux": up(c)}, largest),
    "nested": (3, lambda n, z, c, f: {"maps": [c, (z, None)], "name": "unet"}, largest),
    "dataclass": (3, lambda n, z, c, f: Out(f, z), largest),
    "named tuple": (3, lambda n, z, c, f: Pair(c, z), largest),
    "ModelOutput": (3, lambda n, z, c, f: ModelOutput(logits=z, hidden_states=(c, f)), largest),
    "channels last": (3, lambda n, z, c, f: z.permute(0, 2, 3, 1), largest),
    "rows": (3, lambda n, z, c, f: z.permute(0, 2, 3, 1).reshape(-1, 3), largest),
    "rows of a softmax": (3, lambda n, z, c, f: (rows(z).softmax(1), rows(c).softmax(1)), largest),
    "rows of a sigmoid": (1, lambda n, z, c, f: z.sigmoid().permute(0, 2, 3, 1).contiguous().view(-1, 1), binary),
    "class axis dropped": (1, lambda n, z, c, f: z.squeeze(1), binary),
    "class axis dropped, sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z.squeeze(1)), binary),
    "class axis dropped after a sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z)[:, 0], binary),
    "sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z), binary),
    "sigmoid module": (1, lambda n, z, c, f: n.sigmoid(z), binary),
    "sigmoid method in a dict": (1, lambda n, z, c, f: {"mask": z.sigmoid(), "coarse": c.sigmoid()}, binary),
    "softmax": (3, lambda n, z, c, f: z.softmax(1), largest),
    "softmax module, fine first": (3, lambda n, z, c, f: [n.softmax(z), n.softmax(c)], largest),
    "log-softmax": (3, lambda n, z, c, f: F.log_softmax(z, 1), largest),
    "log-softmax module": (3, lambda n, z, c, f: n.log_softmax(z), largest),
    "log of a softmax": (3, lambda n, z, c, f: torch.log(z.softmax(1)), largest),
    "logsigmoid": (1, lambda n, z, c, f: F.logsigmoid(z), binary),
    "sigmoid of three channels": (3, lambda n, z, c, f: torch.sigmoid(z), largest),
    "clamped sigmoid": (1, lambda n, z, c, f: torch.sigmoid(z).clamp(1e-6, 1 - 1e-6), binary),
    "clamped to 0 … 1": (1, lambda n, z, c, f: z.clamp(0, 1), lambda z: (z[:, 0] > 0.5).long()),
    "hardsigmoid": (1, lambda n, z, c, f: F.hardsigmoid(z), binary),
    "tanh": (1, lambda n, z, c, f: torch.tanh(z), binary),
    "sigmoid of a sum": (1, lambda n, z, c, f: torch.sigmoid(z + 0.5 * up(c)), None),
    "sigmoid of a scaled map": (1, lambda n, z, c, f: torch.sigmoid(z / 3), binary),
    "mean of two sigmoids": (1, lambda n, z, c, f: (z.sigmoid() + n.other(f).sigmoid()) / 2, None),
    "one minus a sigmoid": (1, lambda n, z, c, f: 1 - torch.sigmoid(z), lambda z: (z[:, 0] < 0).long()),
    "sigmoid where there is an image": (1, lambda n, z, c, f: z.sigmoid() * n.image, None),
    "both probabilities": (2, lambda n, z, c, f: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1), binary),
    "sigmoid in bytes": (1, lambda n, z, c, f: 255 * torch.sigmoid(z), binary),
    "foreground of a softmax": (2, lambda n, z, c, f: z.softmax(1)[:, 1:], largest),
    "without the background": (3, lambda n, z, c, f: z.softmax(1)[:, 1:], largest),
    "logits and probabilities": (1, lambda n, z, c, f: (z, z.sigmoid()), binary),
    "probabilities and logits": (1, lambda n, z, c, f: {"p": z.sigmoid(), "logits": z}, binary),
    "decision and logits": (3, lambda n, z, c, f: (z.argmax(1, keepdim=True).float(), z), largest),
    "decision and probabilities": (1, lambda n, z, c, f: ((z.sigmoid() > 0.5).float(), z.sigmoid()), binary),
    "decision alone": (1, lambda n, z, c, f: (z.sigmoid() > 0.5).float(), binary),
    "sigmoid in eval mode alone": (1, lambda n, z, c, f: z if n.training else z.sigmoid(), binary),
    "list in train mode alone": (3, lambda n, z, c, f: [z, c] if n.training else z, largest),
    "stacked in train mode alone": (3, lambda n, z, c, f: torch.stack([z, up(c)], 1) if n.training else z, largest),
}  # fmt: skip

COMPUTED = {
    "sigmoid where there is an image": lambda n, z, c, f: (z[:, 0] > 0) & (n.image[:, 0] > 0),
    "sigmoid of a sum": lambda n, z, c, f: (z + 0.5 * up(c))[:, 0] > 0,
    "mean of two sigmoids": lambda n, z, c, f: (z.sigmoid() + n.other(f).sigmoid())[:, 0] > 1,
}


def build(kind: str) -> Shaped:
    torch.manual_seed(1)
    network = Shaped(kind)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():  # running statistics as after a training
        for momentum in (None,) * 4 + (0.1,):  # None: the mean of all
            for norm in norms:
                norm.momentum = momentum
            network.parts(torch.rand(8, 1, 32, 24))
        fine, coarse, _ = network.eval().parts(torch.rand(8, 1, 32, 24))
        network.head.bias -= fine.mean((0, 2, 3))
        network.side.bias -= coarse.mean((0, 2, 3))
    return network


def by_hand(network: Shaped, images: Tensor) -> Tensor:
    with torch.no_grad():
        parts = network.parts(images)
    decide = KINDS[network.kind][2]
    return decide(parts[0]) if decide else COMPUTED[network.kind](network, *parts).long()


class Items(Dataset):
    """Images whose labels are what a network says by hand, a band of them changed."""

    multilabel = False

    def __init__(self, network: Shaped, ignored: int | None = None, number: int = 3) -> None:
        self.images = torch.rand(number, 1, 32, 24, generator=torch.Generator().manual_seed(2))
        self.said = by_hand(network, self.images)
        self.labels, self.classes = self.said.clone(), max(2, KINDS[network.kind][0])
        self.labels[:, 4:9] = (self.labels[:, 4:9] + 1) % self.classes
        self.kept = torch.ones_like(self.labels, dtype=torch.bool)
        if ignored is not None:
            self.kept[:, 2:14, :20] = False
            self.labels[~self.kept] = ignored
        self.names = [f"item {i}" for i in range(number)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]

    def cases(self) -> list[Case]:
        return [Case(str(i), x[None].numpy(), y[None].numpy()) for i, (x, y) in enumerate(self)]

    def dice(self) -> float:
        """Mean over classes of the mean over items, by counting pixels one class at a time."""
        means = []
        for c in range(1, self.classes):
            scores = []
            for said, true, kept in zip(self.said.numpy(), self.labels.numpy(), self.kept.numpy(), strict=True):
                p, t = (said == c) & kept, (true == c) & kept
                if p.sum() + t.sum():
                    scores.append(2 * (p & t).sum() / (p.sum() + t.sum()))
            means.append(np.mean(scores))
        return float(np.mean(means))
