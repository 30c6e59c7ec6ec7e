"""The list of families, to which each class is put with the stages that an expert names."""

import torch
from torch import Tensor, nn

FAMILIES: list[dict] = []


def family(id, stages, *inputs, source, alts=None, ladders=(), tags="U", args=(), started=False):
    """Put a class on the list.

    Args:
        id: Its name.
        stages: The modules at which an expert sees the stages, coarse to fine, in the notation of published/base.py.
        inputs: Shapes of its inputs.
        source: The list that it was written for: "second" … "twenty-third"; docs/zoo.md counts the first three.
        alts: Other modules that are right too, for each stage.
        ladders: Whole lists of stages that are right too.
        tags: "nonU" for a network without a ladder.
        args: What the class is built with.
        started: Whether it starts from He's weights, so that no map fades and two can be told apart.
    """

    def put(cls):
        build = (lambda: start(cls(*args))) if started else (lambda: cls(*args))
        entry = dict(id=id, build=build, inputs=lambda: tuple(map(example, inputs or [(1, 1, 32, 32)])), source=source)
        entry |= dict(kind=cls.__module__.removeprefix("support.families."))
        entry |= dict(stages=stages, ladders=list(ladders), alts=alts or {}, tags=tags.split(), train=True)
        FAMILIES.append(entry)
        return cls

    return put


def example(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(*shape)


def start(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
