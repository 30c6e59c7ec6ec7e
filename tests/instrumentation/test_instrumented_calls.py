"""Modes that others set, calls at once, copies, and modules that are replaced: each call has its own mode and maps."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.zoo import SmallUNet, small_unet_2d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lomix_search.errors import StageError
from lomix_search.instrumentation.instrumented import Instrumented, instrument


def build() -> tuple[Instrumented, Tensor]:
    model, example, _ = small_unet_2d()
    model.dropout.p = 0.0
    return instrument(model, example).train(), example


def set_modes(module: nn.Module, mode: bool) -> None:
    """As Lightning puts modes back after a validation: no call of train()."""
    for part in module.modules():
        part.training = mode


def by_hand(net: Instrumented, images: Tensor) -> list[Tensor]:
    """The maps of a SmallUNet in train mode, from its own modules."""
    model, skips = net.model, []
    x = images
    for i, down in enumerate(model.down):
        x = down(model.pool(x) if i else x)
        skips.append(x)
    x = skips.pop()
    maps = []
    for up in model.up:
        x = up(torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1))
        maps.append(x)
    return [net.heads["0"](maps[0]), model.head(maps[1])]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


# -- modes -------------------------------------------------------------------------------------------------------------


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> object:
        return self.net(x)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_heads_follow_modes_that_are_set_directly(begun: bool, nested: bool) -> None:
    net, example = build()
    net.train(begun)
    whole = Wrapper(net) if nested else net
    for mode in (False, True, False, True):
        set_modes(whole, mode)
        for other in (whole, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), copy.copy(whole)):
            inner = other.net if nested else other
            if mode:
                assert same(other(example), by_hand(inner, example))
            else:
                assert torch.equal(other(example), inner.model(example))
                assert not any(m._forward_hooks or m._forward_pre_hooks for m in inner.modules())


@pytest.mark.parametrize("way", ["whole", "parts"])
def test_eval_and_back_as_lightning_does_it(way: str) -> None:
    """Its validation calls eval(), and puts the modes back by setting them, after it noted those of every module."""
    net, example = build()
    whole = Wrapper(net)
    for _ in range(2):
        modes = {name: module.training for name, module in whole.named_modules()}
        whole.eval()
        assert torch.equal(whole(example), net.model(example))
        for name, module in whole.named_modules():
            module.training = modes[name]
        assert same(whole(example), by_hand(net, example))


def test_a_mode_that_is_set_past_the_network_is_followed_too() -> None:
    net, example = build()
    copy.copy(net).eval()  # takes the hooks off the modules that both share
    net.model.train()
    assert same(net(example), by_hand(net, example))
    net.eval()
    net.__dict__["training"] = True
    assert len(net(example)) == 2


def test_parts_that_stay_frozen_when_modes_are_set() -> None:
    net, example = build()
    net.model.down.eval()
    net.training = False
    net.training = True
    assert not net.model.down[0].training and len(net(example)) == 2


@pytest.mark.slow
def test_modes_set_directly_under_compile() -> None:
    net, example = build()
    compiled = torch.compile(net, backend="aot_eager")
    for mode in (True, False, True):
        net.eval()
        set_modes(net, mode)
        found = compiled(example)
        expected = by_hand(net, example) if mode else [net.model(example)]
        for a, b in zip(found if mode else [found], expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_compiled_whole_without_a_break() -> None:
    """Where the compiler cannot follow the hooks it would raise."""
    net, example = build()
    found = torch.compile(net, backend="eager", fullgraph=True)(example)
    assert same(found, by_hand(net, example))


# -- calls at once -----------------------------------------------------------------------------------------------------


def replicated(module: nn.Module) -> nn.Module:
    """As ``torch.nn.parallel.replicate`` does it, on the CPU."""
    network = list(module.modules())
    number = {m: i for i, m in enumerate(network)}
    copies = [m._replicate_for_data_parallel() for m in network]
    for m, made in zip(network, copies, strict=True):
        for key, child in m._modules.items():
            if child is not None:
                setattr(made, key, copies[number[child]])
        for key, parameter in m._parameters.items():
            if parameter is not None:
                setattr(made, key, parameter.detach())
        for key, buffer in m._buffers.items():
            if buffer is not None:
                setattr(made, key, buffer.clone())
    return copies[0]


WAYS = {
    "one network": lambda net: net,
    "replicas": replicated,
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "what"),
    [
        pytest.param(way, what, marks=[] if what == "maps" or way == "one network" else pytest.mark.slow)
        for way in WAYS
        for what in ("maps", "features", "logits")
    ],
)
def test_calls_at_once_see_their_own_maps(way: str, what: str) -> None:
    """Each thread has its own images, so that any other thread's map would show."""

    class Ending(SmallUNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    torch.manual_seed(0)
    model = Ending()
    for module in model.modules():  # no statistics of the batch, which threads share
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    model.dropout.p = 0.0
    net = instrument(model, torch.rand(2, 1, 16, 16)).train(what != "logits")

    def call(one: nn.Module, images: Tensor) -> list[Tensor]:
        if what == "features":
            return one.stage_features(images)
        return one(images) if what == "maps" else [one.logits(images)]

    batches = [torch.rand(2, 1, 16, 16) for _ in range(4)]
    expected = [call(net, images) for images in batches]
    nets = [WAYS[way](net) for _ in batches]
    begin = threading.Barrier(len(batches))

    def work(i: int) -> int:
        begin.wait()
        wrong = 0
        for _ in range(25):
            wrong += not all(torch.allclose(a, b) for a, b in zip(call(nets[i], batches[i]), expected[i], strict=True))
        return wrong

    with torch.no_grad(), ThreadPoolExecutor(len(batches)) as pool:
        assert sum(pool.map(work, range(len(batches)))) == 0


def test_an_exception_in_a_forward_leaves_nothing_behind() -> None:
    net, example = build()
    with pytest.raises(RuntimeError):
        net(torch.rand(2, 3, 32, 32))
    before = [len(m._forward_hooks) for m in net.modules()]
    with pytest.raises(RuntimeError):
        net.stage_features(torch.rand(2, 3, 32, 32))
    assert [len(m._forward_hooks) for m in net.modules()] == before
    net.model.up[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        net(example)
    net.model.up[1]._forward_hooks.popitem()
    assert same(net(example), by_hand(net, example))


def test_nothing_is_held_after_a_call() -> None:
    import gc
    import weakref

    net, example = build()
    held = weakref.ref(net(example)[0])
    features = [weakref.ref(f) for f in net.stage_features(example)]
    gc.collect()
    assert held() is None and not any(f() is not None for f in features)


def test_a_network_inside_another_that_is_instrumented_too() -> None:
    """The outer one taps modules of the inner one while that keeps its own maps."""
    inner, example = build()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = inner, []

        def forward(self, x: Tensor) -> Tensor:
            given = self.inner(x)
            self.seen.append(given)
            return given[-1] if isinstance(given, list) else given

    outer = instrument(Outer().eval(), example).train()
    outer.model.seen.clear()
    maps = outer(example)
    assert [m.shape[2:] for m in maps] == [(16, 16), (32, 32)]
    assert same(outer.model.seen[0], by_hand(inner, example))
    torch.testing.assert_close(maps[-1], outer.model.seen[0][-1])


def test_a_network_that_calls_itself_once_more() -> None:
    """Each pass has its own maps, the inner one too."""
    net, example = build()
    seen: list[object] = []

    def once_more(*_: object) -> None:
        if not seen:
            seen.append(None)
            seen.append(net(example * 0.5))

    handle = net.model.up[0].register_forward_pre_hook(once_more)
    maps = net(example)
    handle.remove()
    assert same(maps, by_hand(net, example)) and same(seen[1], by_hand(net, example * 0.5))


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_in_backward_keeps_maps_apart(reentrant: bool) -> None:
    class Checkpointed(SmallUNet):
        def forward(self, x: Tensor) -> Tensor:
            x = x + 0 * self.head.bias.sum()
            skips = []
            for i, down in enumerate(self.down):
                x = checkpoint(down, self.pool(x) if i else x, use_reentrant=reentrant)
                skips.append(x)
            x = skips.pop()
            for up in self.up:
                x = torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1)
                x = checkpoint(up, x, use_reentrant=reentrant)
            return self.head(x)

    torch.manual_seed(0)
    example = torch.rand(2, 1, 16, 16)
    net = instrument(Checkpointed(), example).train()
    one, other = net(example), net(2 * example)
    sum(m.square().mean() for m in one).backward()  # runs the modules again while `other` waits
    sum(m.square().mean() for m in other).backward()
    again = net(example)
    assert all(p.grad is not None for p in net.parameters())
    assert same(one, again) or all(torch.allclose(a, b) for a, b in zip(one, again, strict=True))


# -- replaced modules --------------------------------------------------------------------------------------------------


def test_a_module_that_was_replaced_is_named() -> None:
    net, example = build()
    net.model.up[0] = copy.deepcopy(SmallUNet().up[0])
    with pytest.raises(StageError) as caught:
        net(example)
    assert str(caught.value) == (
        'stage "up.0" of SmallUNet was tapped at a module that is no longer in it; another one stands there now.\n'
        "  Seen: up.0 was replaced after instrument()\n"
        "  Try:  net.train()  # taps what stands there now, and keeps the heads\n"
        "        net = lomix.instrument(net.strip(), example)  # with new heads, if it has other channels"
    )
    net.train()
    assert same(net(example), by_hand(net, example))


def test_a_replaced_module_of_other_channels_is_named() -> None:
    net, example = build()
    net.model.up = nn.ModuleList([SmallUNet(width=6).up[0], net.model.up[1]])
    net.model.up[0][0] = nn.Conv2d(24, 6, 3, padding=1)
    net.model.up[0][1] = nn.BatchNorm2d(6)
    net.model.up[1][0] = nn.Conv2d(10, 4, 3, padding=1)
    net.train()
    with pytest.raises(StageError) as caught:
        net(example)
    assert str(caught.value) == (
        'stage "up.0" of SmallUNet has 6 channels; its head was made for 8.\n'
        "  Seen: tapped at the output of up.0\n"
        "  Try:  net = lomix.instrument(net.strip(), example)  # makes new heads"
    )
    again = instrument(net.strip(), example).train()
    assert [stage.channels for stage in again.stages] == [6, 4] and len(again(example)) == 2


def test_a_module_that_was_removed_is_named() -> None:
    net, example = build()
    up = net.model.up
    net.model.up = nn.ModuleDict({"first": up[0], "second": up[1]})
    net.model.up.__class__ = type("Dict", (nn.ModuleDict,), {"__iter__": lambda self: iter(self.values())})
    assert same(net(example), by_hand(net, example))  # the modules that are tapped are still called
    net.train()
    with pytest.raises(StageError) as caught:
        net(example)
    assert str(caught.value) == (
        'stage "up.0" of SmallUNet was tapped at "up.0"; the network has no such module any more.\n'
        "  Try:  net = lomix.instrument(net.strip(), example)"
    )
    assert len(instrument(net.strip(), example).train()(example)) == 2
