"""Networks that write where they should not, and a picture of all of a network's state, to compare before and after."""

import collections
import dataclasses
import functools
import random
import types
import warnings
import weakref
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from support.zoo import SmallUNet


def state_of(*roots: Any) -> dict[str, Any]:
    """Everything that can be seen of some values, by its path: for tensors bits, version, flags, gradient."""
    found: dict[str, Any] = {}
    seen: dict[int, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(
            value, (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
        ):
            found[path] = repr(value)
            return
        if id(value) in seen:
            found[path] = f"the same as {seen[id(value)]}"
            return
        seen[id(value)] = path
        keep.append(value)
        found[path] = (type(value).__qualname__, id(value))
        if isinstance(value, Tensor):
            found[f"{path}!"] = bits_of(value)
            walk(f"{path}.grad", value.grad if value.is_leaf else None)
        elif isinstance(value, np.ndarray):
            found[f"{path}!"] = (value.shape, value.tobytes())
        elif isinstance(value, torch.Generator):
            found[f"{path}!"] = value.get_state().numpy().tobytes()
        elif isinstance(value, (random.Random, np.random.RandomState)):
            found[f"{path}!"] = repr(value.getstate() if isinstance(value, random.Random) else value.get_state())
        elif isinstance(value, np.random.Generator):
            found[f"{path}!"] = repr(value.bit_generator.state)
        elif isinstance(value, bytearray):
            found[f"{path}!"] = bytes(value)
        elif isinstance(value, dict):
            found[f"{path} keys"] = [repr(key) for key in value]
            for key, item in value.items():
                walk(f"{path}[{key!r}]", item)
        elif isinstance(value, (list, tuple, collections.deque)):
            found[f"{path} length"] = len(value)
            for i, item in enumerate(value):
                walk(f"{path}[{i}]", item)
        elif isinstance(value, (set, frozenset)):
            found[f"{path}!"] = sorted(map(repr, value))
        elif isinstance(value, types.FunctionType):
            for i, cell in enumerate(value.__closure__ or ()):
                try:
                    walk(f"{path} sees {value.__code__.co_freevars[i]}", cell.cell_contents)
                except ValueError:
                    found[f"{path} sees {value.__code__.co_freevars[i]}"] = "nothing"
            walk(f"{path} defaults", value.__defaults__)
        elif isinstance(value, types.MethodType):
            walk(f"{path} of", value.__self__)
            walk(f"{path} function", value.__func__)
        elif isinstance(value, functools.partial):
            for item in (value.func, value.args, value.keywords):
                walk(f"{path} partial {type(item)}", item)
        elif isinstance(value, weakref.ref):
            walk(f"{path}()", value())
        for name in getattr(type(value), "__slots__", ()):
            walk(f"{path}.{name}", getattr(value, name, "nothing"))
        if not isinstance(value, (type, types.ModuleType, types.MethodType)) and hasattr(value, "__dict__"):
            walk(f"{path}.__dict__", object.__getattribute__(value, "__dict__"))
            if type(value).__module__ in (__name__, "__main__"):
                for name, item in vars(type(value)).items():
                    if not name.startswith("__") and not callable(item):
                        walk(f"{path} class {name}", item)

    keep: list[Any] = []
    for i, root in enumerate(roots):
        walk(f"{i}", root)
    return found


def bits_of(value: Tensor) -> Any:
    form = (type(value), value.requires_grad, value.is_leaf)
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        return form
    form = (*form, value.dtype, value.shape, value._version)
    if value.layout != torch.strided or value.is_meta:
        return form if value.is_meta else (*form, repr(value))
    plain = value.detach().contiguous().clone().view(-1)  # numpy() forbids the user's own memory to be resized
    return (*form, value.stride(), plain.view(torch.uint8).numpy().tobytes())


class Odd(SmallUNet):
    """A small network that does something more in each pass."""

    def forward(self, x):
        self.odd(x)
        return super().forward(x)


HOSTILE: dict[str, Any] = {}


def hostile(cls):
    HOSTILE[cls.__name__] = cls
    return cls


# -- parameters and buffers ------------------------------------------------------------------------------------------


@hostile
class MaxNorm(Odd):
    def odd(self, x):
        with torch.no_grad():
            self.head.weight.renorm_(2, 0, 1e-3)


@hostile
class Renormalised(Odd):
    """In train mode alone, as weight standardisation by hand is written."""

    def odd(self, x):
        if self.training:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.data.div_(module.weight.data.norm() + 1)


@hostile
class ExponentialAverage(SmallUNet):
    def __init__(self):
        super().__init__()
        self.mean = [torch.zeros(3), {"inner": torch.zeros(3)}]
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        y = super().forward(x)
        if self.training:
            self.mean[0].mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
            self.mean[1]["inner"] += 1
            self.steps += 1
        return y


@hostile
class Codebook(SmallUNet):
    def __init__(self):
        super().__init__()
        self.codes = nn.Parameter(torch.rand(8, 4), requires_grad=False)
        self.counts = torch.zeros(8)

    def forward(self, x):
        if self.training:
            flat = torch.rand(16, 4)
            near = torch.cdist(flat, self.codes).argmin(1)
            self.counts.index_add_(0, near, torch.ones(16))
            self.codes.data.index_copy_(0, near, flat)
        return super().forward(x)


@hostile
class Replaced(Odd):
    def odd(self, x):
        self.head.weight.data = self.head.weight.data * 2
        self.head.bias.set_(torch.zeros(3))


@hostile
class NewParameter(Odd):
    def odd(self, x):
        self.head.weight = nn.Parameter(self.head.weight.detach() + 1)


@hostile
class ThroughNumpy(Odd):
    def odd(self, x):
        self.head.weight.detach().numpy()[:] += 1


@hostile
class ThroughStorage(Odd):
    def odd(self, x):
        self.head.weight.untyped_storage().fill_(0)


@hostile
class Flags(Odd):
    def odd(self, x):
        self.head.weight.requires_grad_(False)
        self.head.weight.grad = torch.ones_like(self.head.weight)
        self.head.bias.note = "seen"
        self.down[0].eval()


@hostile
class Gradients(Odd):
    def __init__(self):
        super().__init__()
        self.head.weight.grad = torch.ones_like(self.head.weight)

    def odd(self, x):
        self.head.weight.grad.zero_()


@hostile
class TestTime(Odd):
    """Takes a step of an optimiser in each pass."""

    def __init__(self):
        super().__init__()
        self.optimizer = [torch.optim.Adam(self.head.parameters(), 0.1)]

    def odd(self, x):
        with torch.enable_grad():
            self.head.weight.square().sum().backward()
        self.optimizer[0].step()


@hostile
class Buffers(Odd):
    def __init__(self):
        super().__init__()
        self.register_buffer("old", torch.zeros(2))
        self.register_buffer("grows", torch.zeros(2))

    def odd(self, x):
        self.register_buffer("new", torch.ones(2))
        self.grows = torch.cat([self.grows, torch.ones(1)])
        if "old" in self._buffers:
            del self.old


@hostile
class Resized(Odd):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(4.0))

    def odd(self, x):
        self.table.resize_(2, 4).fill_(5)


@hostile
class SpectralNorm(SmallUNet):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.head)
        nn.utils.spectral_norm(self.down[0][0])


@hostile
class WeightNorm(SmallUNet):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.head)
        self.down[0][0] = nn.utils.weight_norm(self.down[0][0])
        parametrize.register_parametrization(self.up[0][0], "weight", nn.Identity())


# -- plain Python ----------------------------------------------------------------------------------------------------


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


# -- what copies do not hold -----------------------------------------------------------------------------------------

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


# -- the input -------------------------------------------------------------------------------------------------------


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
