"""``instrument`` changes neither the model nor the example nor the process, whatever the network does in forward."""

import contextlib
import gc
import itertools
import linecache
import os
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from support.families import FAMILIES
from support.hostile import HOSTILE, Batch, Boxed, Pair
from support.untouched import built, picture, process, same, state_of
from support.zoo import SmallUNet
from torch import nn
from torch.fx.experimental import symbolic_shapes  # noqa: F401  imports sympy, which adds a filter of warnings
from torch.utils._python_dispatch import TorchDispatchMode

import lomix_search as lomix
from lomix_search.errors import LomixError
from lomix_search.instrumentation import heads, hooks, instrumented
from lomix_search.instrumentation.hooks import TapHook
from lomix_search.instrumentation.trace import twin
from lomix_search.instrumentation.trace.process import ProcessState

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated", "ignore:.*leaf Tensor", "ignore:.*Lazy")


@pytest.fixture(autouse=True)
def _process():
    """Whatever a test finds changed, the next one does not."""
    before = ProcessState()
    yield
    before.put_back()


QUICK = {
    "Renormalised", "OtherModules", "Codebook", "Buffers", "SpectralNorm", "Counters", "Draws", "Settings",
    "Globals", "Hooked", "Stubborn", "LazyStubborn", "Scripted", "AddsToInput", "Caches",
}  # fmt: skip
"""The hostile networks of the fast suite: each writes in a way of its own. The others are close to one of them."""


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[] if name in QUICK and mode == "train" else pytest.mark.slow)
        for name in HOSTILE
        for mode in ("train", "eval", "frozen")
    ],
)
def test_a_network_that_writes_in_forward_is_left_as_it_was(name, mode):
    model, example = built(name), torch.rand(2, 1, 16, 16)
    if mode == "frozen":
        model.up[0].eval(), model.down[0][1].eval()
    else:
        model.train(mode == "train")
    before, around = picture(model, example), process()
    net = lomix.instrument(model, example)
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"]
    assert net.strip() is model
    same(before, picture(model, example))
    same(around, process())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in HOSTILE]
)
def test_the_picture_sees_what_each_of_them_writes(name):
    """Else nothing would be tested: a plain pass in train mode changes the picture of each, or of the process."""
    around = process()
    model, example = built(name), torch.rand(2, 1, 16, 16)
    before = picture(model, example)
    with torch.no_grad():
        model(example)
    assert before != picture(model, example) or around != process()


@pytest.mark.slow
def test_an_example_of_several_values_keeps_them_all():
    example = (torch.rand(1, 1, 16, 16), {"pair": (torch.rand(1, 1, 16, 16), torch.ones(1)), "list": [], "gone": 1})
    for model, given in (
        (Pair(), example),
        (Pair(), {"x": example[0], "extra": example[1]}),
        (Boxed(), (Batch(torch.rand(1, 1, 16, 16), {"n": 0}),)),
    ):
        before = state_of(model, given)
        assert len(lomix.instrument(model.eval(), given).stages) == 2
        same(before, state_of(model.train(), given))


class Stops(TorchDispatchMode):
    """Raises at one of the operations that run under it."""

    def __init__(self, number, kind):
        super().__init__()
        self.left, self.kind = number, kind

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.left -= 1
        if self.left == 0:
            raise self.kind("here")
        return func(*args, **(kwargs or {}))


def interrupted(name, number, kind):
    """Instrument with an exception at one of the operations; returns whether there were as many."""
    model, example = built(name), torch.rand(2, 1, 16, 16)
    before, around = picture(model, example), process()
    with contextlib.suppress(kind, LomixError), Stops(number, kind) as stops:
        lomix.instrument(model, example).strip()
    same(before, picture(model, example))
    same(around, process())
    return stops.left <= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Renormalised", KeyboardInterrupt),
        pytest.param("Renormalised", RuntimeError, marks=pytest.mark.slow),
        ("SolidPart", KeyboardInterrupt),
        pytest.param("SolidPart", RuntimeError, marks=pytest.mark.slow),  # tries all back ends each time
    ],
)
def test_an_interruption_at_an_operation_leaves_nothing_behind(name, kind):
    for number in (1, 2, 5, 20, 50, 90, 140, 200, 300):
        interrupted(name, number, kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Renormalised", "Globals", "SolidPart", "LazyStubborn"])
def test_an_interruption_at_many_operations_leaves_nothing_behind(name):
    number = 1
    while interrupted(name, number, KeyboardInterrupt):
        number += 1 if number < 10 else max(7, number // 5)  # every one takes many minutes
    assert number > 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", [KeyboardInterrupt, pytest.param(RuntimeError, marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["instrument", "train", "stage_features", "forward"])
def test_an_interruption_at_any_registration_of_a_hook_leaves_no_hook(monkeypatch, what, when, kind):
    model, example = built("MaxNorm"), torch.rand(2, 1, 16, 16)
    before = picture(model, example)
    net = None if what == "instrument" else lomix.instrument(model, example).eval()
    model.train()
    number, plain = 0, (nn.Module.register_forward_hook, nn.Module.register_forward_pre_hook)

    def stopping(register):
        def registered(module, hook, **options):
            nonlocal left
            if isinstance(hook, TapHook):
                left -= 1
                if left == 0 and when == "before":
                    raise kind("here")
                handle = register(module, hook, **options)
                if left == 0:
                    raise kind("here")
                return handle
            return register(module, hook, **options)

        return registered

    left = 0
    while left <= 0:
        number += 1
        left = number
        monkeypatch.setattr(nn.Module, "register_forward_hook", stopping(plain[0]))
        monkeypatch.setattr(nn.Module, "register_forward_pre_hook", stopping(plain[1]))
        with contextlib.suppress(kind):
            if net is None:
                lomix.instrument(model, example).strip()
            elif what == "forward":  # as where the mode was set past the object
                vars(net)["training"] = True
                net(example), net.eval()
            elif what == "train":
                net.train().eval()
            else:
                net.stage_features(example)
        monkeypatch.undo()
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 0
        if net is not None:
            net.eval()
    assert number > 1
    model.train()
    if net is None:
        same(before, picture(model, example))


@pytest.mark.slow
def test_an_interruption_at_any_line_where_heads_and_hooks_are_made_leaves_nothing_behind(monkeypatch):
    model, example = built("MaxNorm"), torch.rand(2, 1, 16, 16)
    found, lines = instrumented.find_stages(model, example), 0
    monkeypatch.setattr(instrumented, "find_stages", lambda *_: found)  # else each of many traced lines would take long

    def stopped(number):
        """Instrument with an interruption at one of the lines of these modules after the stages were found."""
        nonlocal lines
        lines = 0

        def line(frame, event, _arg):
            nonlocal lines
            source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if event == "line" and not source.startswith("with "):  # Python looks for signals only inside a with
                lines += 1
                if lines == number:
                    raise KeyboardInterrupt
            return line

        def called(frame, _event, _arg):
            inside = frame.f_code.co_filename in (heads.__file__, hooks.__file__, instrumented.__file__)
            return line if inside and frame.f_code.co_name not in ("instrument", "detach_hooks") else None

        before, around, traced = picture(model, example), process(), sys.gettrace()
        try:
            sys.settrace(called)
            lomix.instrument(model, example)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(traced)
            if lines >= number:
                same(before, picture(model, example))
            same(around, process())
        return False

    number = 1
    while stopped(number):
        number += 1
    assert number > 30


@pytest.mark.slow
@pytest.mark.parametrize("alike", [True, False], ids=["one model", "several models"])
def test_threads_that_instrument_at_once_find_what_one_finds(alike):
    models = [SmallUNet()] * 8 if alike else [HOSTILE["MaxNorm"]() for _ in range(8)]
    example, found, around = torch.rand(1, 1, 16, 16), [], process()

    def work(model):
        net = lomix.instrument(model, example)
        found.append(([s.name for s in net.stages], [s.size for s in net.stages], net.stages.backend))

    threads = [threading.Thread(target=work, args=(model.eval(),)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(["up.0", "up.1"], [(8, 8), (16, 16)], "fx")] * 8
    same(around, process())


@pytest.mark.parametrize(
    "ending",
    [
        lambda x: x.softmax(1),
        pytest.param(lambda x: x.sigmoid() / 2 + 0.25, marks=pytest.mark.slow),
        pytest.param(lambda x: x, marks=pytest.mark.slow),
    ],
    ids=["probabilities", "neither logits nor probabilities", "logits"],
)
def test_one_copy_of_the_network_is_held_at_a_time(ending, monkeypatch):
    class Ends(SmallUNet):
        def forward(self, x):
            return ending(super().forward(x) + super().forward(x.flip(-1)).flip(-1))

    copies, plain = [], twin.duplicate

    def duplicated(value):
        assert not [one for one in copies if one() is not None]
        made = plain(value)
        copies.extend([weakref.ref(made)] if isinstance(made, nn.Module) else [])
        return made

    monkeypatch.setattr(twin, "_twin_of", lambda model, *_: (duplicated(model), []))
    gc.collect()
    with contextlib.suppress(LomixError):
        lomix.instrument(Ends(), torch.rand(1, 1, 16, 16))
    gc.collect()
    assert copies
    assert not [one for one in copies if one() is not None]


@pytest.mark.slow
def test_a_network_that_goes_on_from_its_last_pass_says_so():
    ticks = itertools.count()  # as a clock, which nobody can put back, but never the same twice

    class Restless(SmallUNet):
        def forward(self, x):
            return super().forward(x) + next(ticks)

    with pytest.raises(LomixError) as caught:
        lomix.instrument(Restless(), torch.rand(1, 1, 16, 16))
    assert "it returns something else each time it is called with the same values" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "mode"),
    [pytest.param(entry, i % 2 == 0, id=entry["id"]) for i, entry in enumerate(FAMILIES[::3])],  # one mode is enough
)
def test_families_are_left_as_they_were(entry, mode):
    model, inputs = entry["build"]().train(mode), entry["inputs"]()
    before, around = state_of(model, inputs), process()
    with contextlib.suppress(LomixError):
        lomix.instrument(model, inputs).strip()
    same(before, state_of(model, inputs))
    same(around, process())


CTRL_C = """
import _thread, signal, sys, threading, torch, lomix_search as lomix
import torch._dynamo  # a module of torch imports it when it first runs; Triton under it aborts at an interrupt, in C++
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
from support import untouched as t
model, example = t.built(sys.argv[1]), torch.rand(2, 1, 64, 64)
lomix.instrument(t.built("MaxNorm"), example)
before, around = t.picture(model, example), t.process()
hit = 0
for wait in (0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
    timer = threading.Timer(wait, _thread.interrupt_main)
    try:
        timer.start()
        lomix.instrument(model, example).strip()
        timer.join()
    except KeyboardInterrupt:
        hit += 1
    t.same(before, t.picture(model, example))
    t.same(around, t.process())
print("hit", hit)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Renormalised", "SolidPart"])
def test_ctrl_c_leaves_nothing_behind(name):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", CTRL_C, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0
