"""Networks that change what a deep copy shares with its original: globals, closures, hooks, parts without a copy."""

import functools
import types
import weakref

import torch
from torch import nn

from support.hostile import shelf
from support.hostile.base import Odd, hostile
from support.hostile.objects import Counters
from support.hostile.weights import Buffers
from support.zoo import SmallUNet

CALLS = {"n": 0}
NUMBER = 0
TABLE = torch.zeros(2)


def counted():
    global NUMBER
    NUMBER += 1
    TABLE.add_(1)


@hostile
class Globals(Odd):
    def odd(self, x):
        CALLS["n"] += 1
        CALLS.setdefault("more", []).append(1)
        counted()

    @staticmethod
    def watched():
        return [CALLS, NUMBER, TABLE]


@hostile
class OtherModules(Odd):
    """Writes tensors, lists and numbers that belong to another module of Python."""

    def odd(self, x):
        shelf.TABLE.add_(1)
        shelf.CALLS.append(1)
        shelf.SCALES["mean"].mul_(2)
        shelf.SCALES["rows"][0] += 1
        shelf.NUMBER += 1

    @staticmethod
    def watched():
        return [shelf.TABLE, shelf.CALLS, shelf.SCALES, shelf.NUMBER]


@hostile
class Closures(SmallUNet):
    """A layer whose forward was wrapped by hand, and hooks that count."""

    def __init__(self):
        super().__init__()
        layer, plain = self.head, self.head.forward
        calls, table = [0], torch.zeros(2)
        number = 0

        def forward(x):
            nonlocal number
            number += 1
            calls[0] += 1
            table.add_(1)
            layer.weight.data.add_(1)
            return plain(x)

        layer.forward = forward

    @staticmethod
    def watched():
        return []


@hostile
class Hooked(SmallUNet):
    def __init__(self):
        super().__init__()
        seen, self.features = [], {}
        self.up[0].register_forward_hook(lambda module, given, made: seen.append(made))
        self.up[1].register_forward_pre_hook(lambda module, given: self.features.update(up=given[0]))
        self.down[0].register_forward_hook(functools.partial(self.note, seen, "down"))

    @staticmethod
    def note(seen, name, module, given, made):
        seen.append((name, made))


@hostile
class OwnHooks(Odd):
    """Hooks that are put on and taken off in forward."""

    def odd(self, x):
        self.head.register_forward_hook(lambda *_: None)
        self.up[0].register_forward_pre_hook(lambda *_: None, prepend=True)


@hostile
class Cyclic(Odd):
    def __init__(self):
        super().__init__()
        self.parents, self.weak = [self], weakref.ref(self)
        self.act = functools.partial(type(self).count, self)
        self.bound = types.MethodType(type(self).count, self)
        self.number = 0

    def count(self):
        self.number += 1

    def odd(self, x):
        self.parents[0].number += 1
        self.weak().number += 1
        self.act(), self.bound()


class Solid(nn.Sequential):
    """A module that gives itself as its copy."""

    def __init__(self):
        super().__init__(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
        self.register_buffer("calls", torch.zeros(()))

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.calls += 1
        self[0].weight.data.mul_(1.01)
        self.more = [1]
        return super().forward(x)


@hostile
class SolidPart(SmallUNet):
    def __init__(self):
        super().__init__()
        self.solid = Solid()
        self.up[1].append(self.solid)


@hostile
class Stubborn(Counters):
    """Cannot be copied, and does everything."""

    total, history, table = 0, [], torch.zeros(3)

    def __init__(self):
        super().__init__()
        self.register_buffer("old", torch.zeros(2))
        self.register_buffer("grows", torch.arange(4.0))
        self.register_buffer("sized", torch.arange(4.0))
        self.generator = torch.Generator().manual_seed(1)
        self.optimizer = [torch.optim.SGD(self.head.parameters(), 0.1, momentum=0.9)]

    def __deepcopy__(self, memo):
        raise RuntimeError("no")

    def odd(self, x):
        super().odd(x)
        Buffers.odd(self, x)
        self.head.weight.data = self.head.weight.data * 2
        self.head.bias.set_(torch.zeros(3))
        self.up[0][0].weight.detach().numpy()[:] += 1
        self.up[0][0].weight.requires_grad_(False)
        self.up[0][1].weight.grad = torch.ones(8)
        self.down[0][0] = nn.Conv2d(1, 4, 3, padding=1)
        self.sized.resize_(2, 4).fill_(5)
        torch.rand(2, generator=self.generator)
        self.down[1].eval()
        with torch.enable_grad():
            self.head.weight.square().sum().backward()
        self.optimizer[0].step()
        self.head.register_forward_hook(lambda *_: None)


@hostile
class Strict(Odd):
    """Own ways to get and set attributes."""

    def __init__(self):
        super().__init__()
        self.__dict__["inner"] = {"calls": 0}

    def __getattr__(self, name):
        return self.__dict__["inner"][name] if name in ("calls", "more") else super().__getattr__(name)

    def __setattr__(self, name, value):
        if name in ("calls", "more"):
            self.__dict__["inner"][name] = value
        else:
            super().__setattr__(name, value)

    def odd(self, x):
        self.calls += 1
        self.more = x


@hostile
class Lazy(SmallUNet):
    def __init__(self):
        super().__init__()
        self.head, self.down[0][1] = nn.LazyConv2d(3, 1), nn.LazyBatchNorm2d()


@hostile
class LazyStubborn(Lazy):
    def __deepcopy__(self, memo):
        raise RuntimeError("no")


@hostile
class Shared(Odd):
    def __init__(self):
        super().__init__()
        self.again, self.tied = self.head, nn.Conv2d(4, 3, 1)
        self.tied.weight = self.head.weight
        self.view = self.head.weight.data.view(-1)

    def odd(self, x):
        self.tied.weight.data.add_(1)
        self.view.add_(1)


@functools.lru_cache(maxsize=8)
def table(size):
    return torch.zeros(size)


@hostile
class Caches(Odd):
    """Caches of functools: one that was used before, whose tensor is written, and one whose key is the network."""

    def __init__(self):
        super().__init__()
        table(3), type(self).grid.cache_clear()

    @functools.lru_cache  # noqa: B019  as networks are written
    def grid(self, rows, columns):
        return torch.zeros(rows, columns)

    def odd(self, x):
        self.grid(*x.shape[-2:])
        table(3).add_(1)


class Noisy(torch.jit.ScriptModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.register_buffer("calls", torch.zeros(1))

    @torch.jit.script_method
    def forward(self, x):
        self.calls.add_(1)
        return self.conv(x)


@hostile
class Scripted(SmallUNet):
    def __init__(self):
        super().__init__()
        self.up[1].append(Noisy())
