"""Published U-shaped networks with random weights, and the decoder stages an expert names in each, coarse to fine.

One `add(id, package, dims, build, inputs, stages, tags, notes, kw, alts, train)` for each network.
Stage syntax: "path" a module's output | "path#k" its k-th call | "path@[i]" an element of its output | "in:path" the
first tensor input of that module (the stage is made by a function) | "fn:text" no module sees it.
Tags: U classic ladder | FPN parallel taps or top-down | nonU one resolution, no ladder (a kind refusal is right) |
nested | DS deep supervision | multi several decoders | vit token-shaped features |
time, cond, multi-input extra inputs | valid unpadded. `alts`: other modules that are right too, for each
stage; `ladders`: whole lists of stages that are right too. `train`: whether it can be built for training.

Each file adds to one list: "published", whose networks the rules were written with, or one that was written blind:
labelled from the packages' source, before anything was tried on its networks.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import types

import torch

from published import tv_shim  # noqa: F401  two operators that a CPU torch lacks; before torchvision

LISTS = {}


def adder(source):
    """A function that adds networks to the list of this name."""
    networks = LISTS.setdefault(source, [])

    def add(id, pkg, dim, build, inputs, stages, tags="U", notes="", kw=None, alts=None, ladders=(), train=True):
        networks.append(
            dict(id=id, pkg=pkg, dim=dim, build=build, inputs=inputs, stages=stages, tags=tags.split(), alts=alts or {})
            | dict(ladders=list(ladders), notes=notes, kw=kw, train=train, source=source)
        )

    return add


add = adder("published")
ZOO = LISTS["published"]


def named(module, name):
    return getattr(importlib.import_module(module), name)


def alone(module, name):
    """As named(), without running the packages around the module, which import more than the network needs."""
    parents = module.split(".")[:-1]
    for i in range(len(parents)):
        path = ".".join(parents[: i + 1])
        if path not in sys.modules:
            places = importlib.util.find_spec(path).submodule_search_locations
            sys.modules[path] = types.ModuleType(path)
            sys.modules[path].__path__ = list(places)
    return named(module, name)


class Loose(types.ModuleType):
    """Stands for a module that a network's file imports, though the network does not use it: any name is there."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def loose(name, **names):
    """Put a stand-in for this module, with these names; parents are left alone."""
    sys.modules[name] = Loose(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)  # torch's compiler asks for it
    vars(sys.modules[name]).update(names)


def rand(*shape):
    return torch.rand(*shape)


def seq(form, *numbers):
    return [form.format(i) for i in range(*numbers)]


def x2():
    return (rand(1, 1, 64, 64),)


def x3():
    return (rand(1, 1, 32, 32, 32),)


def x_rgb():
    return (rand(1, 3, 64, 64),)
