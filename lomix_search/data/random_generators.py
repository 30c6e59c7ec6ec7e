"""Random generators that a dataset holds itself: MONAI's random transforms, numpy's, python's and torch's generators.

They are found wherever the dataset reaches them: attributes at any depth, lists and dictionaries, partial and bound
functions, closures, and module-level names that its functions use. Those that a dataset makes anew while an item is
read cannot be found; ``search`` reads an item twice and says so.
"""

import functools
import random
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lomix_search.utils.random import note_generator, seeds_from

_GLOBAL = tuple(map(id, (np.random.mtrand._rand, random._inst, torch.default_generator)))
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FEW = 64  # elements; a longer list is one of data
_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, Tensor, type, types.ModuleType)


class RandomGenerators:
    """The random generators of a dataset, found again when it gets others.

    Args:
        root: The dataset, or whatever holds generators.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self._found: list[Any] = []
        self._watched: list[dict[str, Any]] = []
        self._known: list[int] = []

    def find(self) -> list[Any]:
        """Return all of them, in an order that is the same in every process."""
        if not self._watched or self._known != self._now():
            self._found, self._watched = _search(self.root)
            self._known = self._now()
        return self._found

    @contextmanager
    def seeded(self, *key: int) -> Iterator[None]:
        """Set them from a key, and put their states back at the end.

        Args:
            *key: Non-negative integers.

        Yields:
            Nothing.
        """
        found = self.find()
        seeds = seeds_from(key, len(found)) if found else ()
        with ExitStack() as stack:
            for one in found:  # all before any is set: setting one of MONAI's sets those inside it
                stack.callback(_keep(one))
            for one, seed in zip(found, seeds, strict=True):
                _seed(one, seed)
            yield

    def _now(self) -> list[int]:
        """Return what tells whether an object met in the search has got another attribute."""
        return [id(part) for attributes in self._watched for part in attributes.values() if not _is_plain(part)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies search anew: what was found is of this process."""
        return RandomGenerators, (self.root,)


def is_generator(value: Any) -> bool:
    """Tell whether something draws random numbers from a state of its own."""
    if isinstance(value, np.random.Generator | np.random.RandomState | random.Random | torch.Generator):
        return id(value) not in _GLOBAL and not isinstance(value, random.SystemRandom)
    return _is_monai(value)


def _is_monai(value: Any) -> bool:
    """Tell MONAI's ``Randomizable``, without importing MONAI."""
    return callable(getattr(type(value), "set_random_state", None)) and hasattr(value, "R")


def _seed(one: Any, seed: int) -> None:
    if isinstance(one, np.random.Generator):
        one.bit_generator.state = type(one.bit_generator)(seed).state
    elif isinstance(one, np.random.RandomState):
        kind: Any = type(one._bit_generator)
        one.set_state(np.random.RandomState(kind(seed)).get_state(legacy=False))
    elif isinstance(one, random.Random):
        one.seed(seed)
    elif isinstance(one, torch.Generator):
        one.manual_seed(seed)
    else:
        one.set_random_state(seed=seed)


def _keep(one: Any) -> Any:
    """Return a function that puts a generator's state of now back."""
    if not _is_monai(one):
        return note_generator(one)
    if "R" in vars(one):
        return functools.partial(setattr, one, "R", one.R)
    return functools.partial(vars(one).pop, "R", None)


def _search(root: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Walk through all that an object reaches.

    Returns its generators, and the attributes of every object that may get another one later: not of MONAI's own, which
    change with every item, nor of the elements of long lists, which are data.
    """
    found, watched, seen, waiting = [], [], set[int](), [(root, True)]
    while waiting:
        value, may_change = waiting.pop()
        if _is_plain(value) or id(value) in seen:
            continue
        seen.add(id(value))
        if is_generator(value):
            found.append(value)
        if may_change and not _is_monai(value) and isinstance(own := getattr(value, "__dict__", None), dict):
            watched.append(own)
        parts = [part for part in _parts(value) if not _is_plain(part)]
        waiting += [(part, may_change and len(parts) <= _FEW) for part in reversed(parts)]
    return found, watched


def _parts(value: Any) -> Iterable[Any]:
    """Return what an object is made of, as far as the code of a dataset may use it."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, types.MethodType):
        return (value.__self__, value.__func__)
    if isinstance(value, types.FunctionType):
        return _used(value)
    if is_generator(value) and not _is_monai(value):
        return ()
    slots = (getattr(value, name, None) for kind in type(value).__mro__ for name in _slots(kind))
    return (*getattr(value, "__dict__", {}).values(), *slots, *_of_class(type(value)))


def _used(function: types.FunctionType) -> Iterator[Any]:
    """Return what a function reads that is not given to it: closure, defaults, names of its module."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if not _is_library(function.__code__.co_filename):
        values = (function.__globals__.get(name) for name in function.__code__.co_names)
        yield from (value for value in values if is_generator(value) or not _is_of_library(value))


def _of_class(kind: type) -> Iterator[Any]:
    """Return what a user's class holds: methods, which may draw from a generator of their module, and attributes."""
    for base in kind.__mro__:
        if not _is_of_library(base):
            for name, value in vars(base).items():
                plain = getattr(
                    value, "__func__", getattr(value, "fget", value)
                )  # of static and class methods, properties
                if isinstance(plain, types.FunctionType) or not name.startswith("__"):
                    yield plain


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN)


def _is_of_library(value: Any) -> bool:
    """Tell what comes from an installed package or the standard library, and so draws from no generator of a user's."""
    kind = value if isinstance(value, type | types.FunctionType) else type(value)
    if kind.__module__ == "__main__":  # a script, or a notebook, which has no file
        return False
    module = sys.modules.get(str(kind.__module__))
    return module is None or _is_library(getattr(module, "__file__", None) or "")


@functools.lru_cache(maxsize=4096)
def _is_library(file: str) -> bool:
    if not file:
        return True
    own = Path(__file__).parents[1]
    return Path(file).is_relative_to(own) or any(Path(file).is_relative_to(place) for place in _INSTALLED)


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
