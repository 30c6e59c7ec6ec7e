"""Networks that change plain Python objects, random generators, or the settings of the process."""

import collections
import dataclasses
import random
import types
import warnings
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from support.hostile.base import Odd, hostile


@dataclasses.dataclass
class Memory:
    scale: Tensor
    calls: int = 0


class Slotted:
    __slots__ = ("calls", "seen", "unset")

    def __init__(self):
        self.calls, self.seen = 0, []


class Itself:
    """Gives itself as its copy."""

    def __init__(self):
        self.calls, self.table = 0, torch.zeros(2)

    def __deepcopy__(self, memo):
        return self


@hostile
class Counters(Odd):
    total = 0
    history: ClassVar[list] = []
    table = torch.zeros(3)

    def __init__(self):
        super().__init__()
        self.step, self.seen, self.names, self.recent = 0, [], set(), collections.deque(maxlen=2)
        self.array, self.raw, self.counts = np.zeros(3), bytearray(3), collections.Counter()
        self.order = collections.OrderedDict(a=1, b=2)
        self.memory, self.slotted, self.itself = Memory(torch.ones(2)), Slotted(), Itself()
        self.space = types.SimpleNamespace(calls=0, rows=[[0]])
        self.note, self.running = self.seen.append, torch.zeros(())

    def odd(self, x):
        self.step += 1
        type(self).total += 1
        self.history.append(x.shape)
        self.table.add_(1)
        self.seen.append(x), self.names.add(self.step), self.recent.append(x)
        self.array += 1
        self.raw[0] += 1
        self.counts["calls"] += 1
        self.order.move_to_end("a")
        self.memory.calls += 1
        self.memory.scale *= 2
        self.slotted.calls += 1
        self.slotted.seen.append(1)
        self.slotted.unset = 3
        self.itself.calls += 1
        self.itself.table += 1
        self.space.calls += 1
        self.space.rows[0][0] += 1
        self.note(1)
        self.running += 1


@hostile
class Cache(Odd):
    """Keeps the last features, with their graph, from the user's own pass."""

    def __init__(self):
        super().__init__()
        self.cache = self.head(torch.rand(1, 4, 2, 2))
        self.caches = {"last": [self.cache * 2]}

    def odd(self, x):
        self.cache.zero_()
        self.caches["last"].append(x)
        self.caches["last"][0] = x


@hostile
class Draws(Odd):
    def __init__(self):
        super().__init__()
        self.torch, self.python = torch.Generator().manual_seed(1), random.Random(1)
        self.numpy, self.old = np.random.default_rng(1), np.random.RandomState(1)

    def odd(self, x):
        torch.rand(2, generator=self.torch), self.python.random(), self.numpy.random(), self.old.rand()
        torch.rand(2), random.random(), np.random.rand()


@hostile
class Settings(Odd):
    """Changes what belongs to the whole process."""

    def odd(self, x):
        torch.manual_seed(7), random.seed(7), np.random.seed(7)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
        torch.set_float32_matmul_precision("high")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_anomaly_enabled(True)
        np.seterr(all="ignore")
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        warnings.simplefilter("ignore")


class Grad(Odd):
    def odd(self, x):
        torch.set_grad_enabled(True)


hostile(Grad)
