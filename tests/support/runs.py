"""A short search on shapes, and whether two of them came out the same."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.result import Result
from support.shapes import CLASSES, Shapes, build

SETTINGS = {"batch_size": 4, "lr": 1e-2, "validate_every": 4, "checkpoint_every": 3, "seed": 5}


def run(folder: Path, train: Any = None, val: Any = None, **changes: Any) -> Result:
    net, loss = changes.pop("built", None) or build("deep_supervision")
    settings = {"steps": 12, "progress": False} | SETTINGS | changes
    data = train or Shapes(), val or Shapes(4)
    return lomix.search(net, loss, *data, folder=folder, classes=CLASSES, **settings)


def same(one: Path, other: Path) -> None:
    for name in ("mixture.json", "mixture.safetensors"):
        assert (one / name).exists() == (other / name).exists()
        assert not (one / name).exists() or (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("final.pt", "best.pt"):
        a, b = read_tensors(one / name), read_tensors(other / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in b), name


class Normed(nn.Module):
    """Two stages with batch norms, which a batch of NaN would spoil for good."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.up(self.middle(self.down(x))))
        return out


def normed() -> tuple[Any, lomix.MixtureLoss]:
    torch.manual_seed(3)
    net = lomix.instrument(Normed(), torch.zeros(1, 1, 16, 16), stages=["middle", "up"])
    return net, lomix.MixtureLoss("lomix", 2, 3)
