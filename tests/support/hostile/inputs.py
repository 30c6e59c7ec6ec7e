"""Networks that change what they are given."""

import dataclasses

from torch import Tensor, nn

from support.hostile.base import hostile
from support.zoo import SmallUNet


@hostile
class AddsToInput(SmallUNet):
    def forward(self, x):
        x.add_(1)
        x *= 0.5
        x[:, :, 0] = 0
        return super().forward(x)


@hostile
class InplaceFirst(SmallUNet):
    def __init__(self):
        super().__init__()
        self.first = nn.ReLU(inplace=True)

    def forward(self, x):
        return super().forward(self.first(x.sub_(x.mean())))


@hostile
class StubbornInput(AddsToInput):
    def __deepcopy__(self, memo):
        raise RuntimeError("no")


class Pair(SmallUNet):
    def forward(self, x, extra):
        image, scale = extra["pair"]
        x.add_(image.mul_(scale))
        extra["new"] = x
        extra["list"].append(extra.pop("gone"))
        scale += 1
        return super().forward(x.requires_grad_(False))


@dataclasses.dataclass
class Batch:
    image: Tensor
    meta: dict


class Boxed(SmallUNet):
    def forward(self, batch):
        batch.image.mul_(2)
        batch.meta["n"] += 1
        batch.extra = 1
        return super().forward(batch.image)
