"""The same network written otherwise: changes after which an expert would name the same stages.

:func:`variation` makes one of a network of the lists. It is an entry of such a list too, with the stages that an expert
names in the network as it was.
"""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator

import torch
from published.judge import expert_tensors, ladders_of, leaves_of
from torch import Tensor, nn

from lomix_search.instrumentation.trace import tensors

_LISTS = (nn.ModuleList, nn.ModuleDict)


def renamed(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Give every attribute that is a module another name; forward() still finds it by the old one."""
    for module in list(model.modules()):
        old = [name for name in module._modules if not name.isdigit()]
        if type(module) in (nn.Sequential, nn.ModuleDict) or not old:
            continue
        new = {name: f"m{number}" for name, number in zip(old, dice.sample(range(1000), len(old)), strict=True)}
        if dice.random() < 0.5:
            new = {name: "".join(chr(ord("a") + int(digit)) for digit in made[1:]) + "_" for name, made in new.items()}
        children = {new.get(name, name): child for name, child in module._modules.items()}
        module._modules.clear()
        module._modules.update(children)
        _subclass(module, {name: property(lambda self, made=made: self._modules[made]) for name, made in new.items()})
    yield _nothing


def with_identities(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Put nn.Identity into sequences, at any place, one after another."""
    for sequence in [m for m in model.modules() if type(m) is nn.Sequential and len(m) and "0" in m._modules]:
        plain, layers = list(sequence), list(sequence)
        layers.insert(dice.randint(0, len(layers)), nn.Identity())
        _fill(sequence, layers)
        yield lambda sequence=sequence, plain=plain: _fill(sequence, plain)


def wrapped(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Put modules that have others inside into a Sequential of their own."""
    places = [(m, name, child) for m in model.modules() for name, child in m._modules.items() if _is_block(child)]
    for parent, name, child in dice.sample(places, min(len(places), 6)):
        parent._modules[name] = nn.Sequential(child)
        yield lambda parent=parent, name=name, child=child: parent._modules.update({name: child})


def inlined(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Run all blocks of one class as if their forward() stood in that of the module around them.

    No Sequentials: of a head that is one, nobody could tell what is the head and what the last block.
    """
    blocks = [m for m in model.modules() if m is not model and _is_block(m) and type(m) is not nn.Sequential]
    classes = sorted({type(m).__qualname__ for m in blocks})
    for chosen in dice.sample(classes, min(len(classes), 2)):
        alike = [(m, type(m)) for m in blocks if type(m).__qualname__ == chosen]
        for block, _ in alike:
            _subclass(block, {"__call__": lambda self, *args, **kwargs: self.forward(*args, **kwargs)})
        yield lambda alike=alike: [setattr(block, "__class__", plain) for block, plain in alike]


def with_own_forwards(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Give some modules their forward() as an attribute of their own, layers among them, as some libraries do."""
    modules = [module for module in model.modules() if type(module) not in _LISTS and module is not model]
    for module in dice.sample(modules, (len(modules) + 1) // 2):
        module.forward = module.forward
    yield _nothing


def activated_otherwise(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Swap each nn.ReLU for a GELU."""
    found = [(m, name) for m in model.modules() for name, child in m._modules.items() if type(child) is nn.ReLU]
    for parent, name in found:
        parent._modules[name] = nn.GELU()
    if found:
        yield _nothing


def in_double(model: nn.Module, dice: random.Random) -> Iterator[Callable[[], None]]:
    """Compute in float64."""
    model.double()
    yield _nothing


VARIATIONS = {
    change.__name__: change
    for change in (renamed, with_identities, wrapped, inlined, with_own_forwards, activated_otherwise, in_double)
}
"""By name; each changes a network in place and yields, after each change, how it is undone if the network broke."""

OTHER_NUMBERS = {"activated_otherwise", "in_double"}


def variation(entry: dict, name: str, seed: int) -> dict | None:
    """Return an entry with its network written otherwise; None where nothing of it can be changed so.

    Args:
        entry: As on the lists.
        name: One of ``VARIATIONS``, "enclosed" (in another module), "wider" (twice the channels) or "larger" (twice
            the size).
        seed: Of the choices.
    """
    torch.manual_seed(0)
    if name in ("wider", "larger"):
        return _enlarged(entry, name)
    model, inputs, dice = entry["build"]().eval(), entry["inputs"](), random.Random(seed)
    expected, changes = leaves_of(model, inputs), 0
    ladders = [expert_tensors(model, inputs, stages, entry["alts"]) for stages in ladders_of(entry)]
    if name == "enclosed":
        return entry | dict(build=lambda: Enclosed(model), inputs=lambda: inputs, tensors=ladders)
    for undo in VARIATIONS[name](model, dice):
        given = tuple(x.double() for x in inputs) if name == "in_double" else inputs
        if _does_the_same(model, given, expected, name in OTHER_NUMBERS):
            changes, inputs = changes + 1, given
        else:
            undo()
    if name == "inlined" and not _all_seen(model, inputs, ladders):
        return None
    changed = entry | dict(build=lambda: model, inputs=lambda: inputs)
    return (changed if name in OTHER_NUMBERS else changed | dict(tensors=ladders)) if changes else None


class Enclosed(nn.Module):
    """A network in a module of its own."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        return self.network(*inputs)


def _all_seen(model, inputs, ladders) -> bool:
    """Whether a module still sees each stage of one of the lists: others cannot be tapped."""
    seen = [[False] * len(stages) for stages in ladders]

    def look(_module, given, made):
        for _, value in tensors((given, made)):
            for ladder, stages in zip(seen, ladders, strict=True):
                for i, choices in enumerate(stages):
                    ladder[i] = ladder[i] or any(value.shape == t.shape and torch.equal(value, t) for t in choices)

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    leaves_of(model, inputs)
    for hook in hooks:
        hook.remove()
    return any(map(all, seen))


def _does_the_same(model, inputs, expected, other_numbers: bool) -> bool:
    with contextlib.suppress(Exception):  # forward() may ask for attributes, or give more than a Sequential takes
        made = leaves_of(model, inputs)
        pairs = list(zip(made, expected, strict=True))
        return all(a.shape == b.shape and (other_numbers or torch.equal(a, b)) for a, b in pairs)
    return False


def _enlarged(entry: dict, name: str) -> dict | None:
    torch.manual_seed(0)
    inputs = tuple(_repeated(x, name) for x in entry["inputs"]())
    with contextlib.suppress(Exception):  # channels or sizes may be fixed
        with Wider() if name == "wider" else contextlib.nullcontext():
            model = entry["build"]().eval()
        leaves_of(model, inputs)
        return entry | dict(build=lambda: model, inputs=lambda: inputs)
    return None


def _repeated(x: Tensor, name: str) -> Tensor:
    """Return an input with twice the channels, if there are several, or with twice the size."""
    if x.ndim < 3 or (name == "wider" and x.shape[1] == 1):
        return x
    return x.repeat(1, 2, *(x.ndim - 2) * [1]) if name == "wider" else x.repeat(1, 1, *(x.ndim - 2) * [2])


class Wider(contextlib.ContextDecorator):
    """While this lasts, layers are made with twice the channels; those of one channel keep it."""

    def __enter__(self):
        self.plain = {kind: kind.__init__ for kind in _SIZES}
        for kind, plain in self.plain.items():
            kind.__init__ = _widened(plain, _SIZES[kind])

    def __exit__(self, *_):
        for kind, plain in self.plain.items():
            kind.__init__ = plain


_SIZES = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), ("in_channels", "out_channels", "groups")),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), ("in_channels", "out_channels")),
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d), ("num_features",)),
    nn.LayerNorm: ("normalized_shape",), nn.Linear: ("in_features", "out_features"), nn.GroupNorm: ("num_channels",),
    nn.PReLU: ("num_parameters",),
}  # fmt: skip


def _widened(plain, names):
    signature = inspect.signature(plain)

    def made(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        for name in names:
            value = given.arguments.get(name)
            if isinstance(value, int) and value > 1:
                given.arguments[name] = 2 * value
        plain(*given.args, **given.kwargs)

    return made


def _subclass(module: nn.Module, members: dict) -> None:
    kind = type(module)
    named = {"__qualname__": kind.__qualname__, "__module__": kind.__module__}
    module.__class__ = type(kind.__name__, (kind,), members | named)


def _is_block(module: nn.Module | None) -> bool:
    return module is not None and any(True for _ in module.children()) and type(module) not in _LISTS


def _fill(sequence: nn.Sequential, layers: list[nn.Module]) -> None:
    sequence._modules.clear()
    sequence._modules.update({str(i): layer for i, layer in enumerate(layers)})


def _nothing() -> None:
    pass
