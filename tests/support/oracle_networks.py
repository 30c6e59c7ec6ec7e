"""Networks that know the answer (``Threshold``, ``Told``) and cases to ask them about (``picture_case``)."""

from typing import Any

import numpy as np
import torch

from lomix_search.data.case import Case
from support import twins

SPACING = (5.0, 0.8, 0.7)


class Threshold(torch.nn.Module):
    """Knows the answer: class k where the first channel lies between k and k+1 thirds."""

    def __init__(self, classes: int = 3, one_channel: bool = False, many: bool = False) -> None:
        super().__init__()
        self.classes, self.one_channel, self.many = classes, one_channel, many
        self.scale = torch.nn.Parameter(torch.tensor(200.0))
        self.seen: list[tuple[int, ...]] = []
        self.given: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> Any:
        self.seen.append(tuple(x.shape))
        self.given.append(x)
        if self.one_channel:
            return self.scale * (x[:, :1] - 0.5)
        centres = (torch.arange(self.classes, device=x.device) + 0.5) / self.classes
        logits = -self.scale * (x[:, :1] - centres.reshape(-1, *[1] * (x.ndim - 2))) ** 2
        return [logits * 0, logits] if self.many else logits


def picture_case(classes: int = 3, size: tuple[int, int] = (32, 40), slices: int = 5) -> Case:
    rng = np.random.default_rng(0)
    label = twins.organs(rng, (slices, *size), classes - 1)
    image = ((label + 0.5) / classes)[:, None].astype(np.float32)
    return Case("p1_ED", image, label, SPACING, {}, "p1")


class Told(torch.nn.Module):
    """Knows the answer: class k of C where the first channel is k / C."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(((x[:, :1] * self.classes).round() - torch.arange(self.classes)[:, None, None]) ** 2)
