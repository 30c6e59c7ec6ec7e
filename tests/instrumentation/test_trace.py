import copy
import inspect
import queue
import random

import networkx
import numpy as np
import pytest
import torch
from support.zoo import FAST, SmallUNet, small_unet_2d
from torch import nn
from torch.nn import functional as F

from lomix_search import instrument
from lomix_search.errors import TraceError
from lomix_search.instrumentation.trace import BACKENDS, on_twin, operation, trace, trace_modes
from lomix_search.instrumentation.trace.record import record
from lomix_search.instrumentation.trace.symbolic import symbolic

QUICK = {("small-2d", "record"), ("small-2d", "export"), ("small-3d", "fx"), ("dynunet-ds-2d", "record")}
"""What the fast suite reads, besides the 2D networks by fx; all others are read with --slow."""


def quick(name, backend):
    return (name, backend) in QUICK or (backend == "fx" and name.endswith("2d"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(name, backend, marks=[] if quick(name, backend) else pytest.mark.slow)
        for name in FAST
        for backend in BACKENDS
    ],
)
def test_every_back_end_reproduces_the_output_on_other_values(name, backend):
    net, example, _ = FAST[name]()
    net.eval()
    other = torch.randn_like(example)
    found = trace(net, example, (backend,))
    with torch.no_grad():
        expected = net(other)
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    assert torch.equal(found.run((other,), {})[0], expected)


def test_the_recorded_run_follows_in_place_changes_through_views():
    class Sneaky(nn.Module):
        def forward(self, x):
            y = x * 1
            y[:, 0].add_(1)
            return y * 2

    x = torch.zeros(1, 2, 3)
    found = record(Sneaky(), (x,), {})
    assert torch.equal(found.run((x,), {})[0], Sneaky()(x))
    flow = found.network()
    written = next(node for node in found.graph.nodes if "add_" in str(node.target))
    assert found.outputs[0][1] in networkx.descendants(flow, written)


def test_fx_follows_in_place_changes_whose_result_is_ignored():
    class Sneaky(nn.Module):
        def forward(self, x):
            y = x * 1
            torch.relu_(y)
            y[:, 0] = 5
            return y * 2

    x = torch.tensor([[[-1.0], [2.0]]])
    found = symbolic(Sneaky(), (x,), {})
    assert torch.equal(found.run((x,), {})[0], Sneaky()(x))
    written = next(node for node in found.graph.nodes if "setitem" in str(node.target))
    assert found.outputs[0][1] in networkx.descendants(found.network(), written)


class Side(nn.Module):
    """A layer that may return a coarser map more in train mode."""

    def __init__(self, more: bool) -> None:
        super().__init__()
        self.layer, self.more = nn.Conv2d(1, 2, 3, padding=1), more

    def forward(self, x):
        y = self.layer(x)
        return [y, y[..., ::2, ::2]] if self.training and self.more else y


def test_the_recorded_run_shows_operations_as_forward_calls_them():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.layer(x.movedim(1, -1)).contiguous()  # is so already
            return F.adaptive_avg_pool2d(self.norm(x.permute(0, 3, 1, 2)), 1)

    x = torch.rand(1, 2, 4, 6)
    found = trace(ChannelsLast().eval(), x, ("record",))
    made = [(operation(node), node.meta["shape"]) for node in found.graph.nodes if node.op == "call_function"]
    assert made == [
        ("movedim", (1, 4, 6, 2)),
        ("linear", (1, 4, 6, 3)),
        ("permute", (1, 3, 4, 6)),
        ("batch_norm", (1, 3, 4, 6)),
        ("adaptive_avg_pool2d", (1, 3, 1, 1)),
    ]


def test_a_network_that_asks_for_gradients_is_recorded():
    class Sloped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            with torch.enable_grad():
                y = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.layer(y).square().sum(), y)
            return self.layer(slope)

    net, x = Sloped().eval(), torch.rand(1, 1, 4, 4)
    found = record(net, (x,), {})
    assert torch.equal(found.run((x,), {})[0], net(x).detach())
    assert operation(found.outputs[0][1]) == "conv2d"  # after the gradients as before them
    assert net(x).grad_fn is not None


@pytest.mark.parametrize("more", [False, True])
def test_train_mode_is_recorded_only_where_it_returns_something_else(more):
    found, training = trace_modes(Side(more), torch.rand(1, 1, 8, 8))
    assert (training is found) is not more
    assert len(training.outputs) == 1 + more


def test_calls_nest_and_count():
    net = SmallUNet().eval()
    found = trace(net, torch.rand(1, 1, 16, 16), ("record",))
    assert [(c.path, c.index) for c in found.calls if c.path == "pool"] == [("pool", 0), ("pool", 1)]
    outer, inner = (next(c for c in found.calls if c.path == path) for path in ("up.0", "up.0.1"))
    assert outer.holds(inner)
    assert not inner.holds(outer)
    assert outer.outputs[0][1] is next(c for c in found.calls if c.path == "up.0.2").outputs[0][1]


@pytest.mark.parametrize("backend", ["fx", "record"])
def test_a_call_that_ends_in_an_exception_which_the_network_catches_is_closed(backend):
    class Part(nn.Module):
        def forward(self, x):
            if x.shape[1] == 1:
                raise NotImplementedError
            return 3 * x

    class Trying(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.last = Part(), nn.Identity()

        def forward(self, x):
            try:
                x = self.part(x)
            except NotImplementedError:
                x = torch.cat([x, 2 * x], 1)
            return self.last(self.part(x))

    x = torch.rand(1, 1, 4, 4)
    found = trace(Trying(), x, (backend,))
    assert [(c.path, c.index) for c in found.calls] == [("", 0), ("part", 0), ("last", 0)]  # as hooks on outputs count
    where = {node.meta["module"] for node in found.graph.nodes if "cat" in str(node.target)}
    assert where == {""}


def test_tracing_leaves_no_mark():
    net = SmallUNet().train()
    net.up[0][1].eval()
    net.head.weight.grad = torch.ones_like(net.head.weight)
    net.down[0][0].weight.requires_grad_(False)
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    trace(net, torch.zeros(1, 1, 16, 16))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[2], strict=True))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))
    assert torch.equal(net.head.weight.grad, torch.ones_like(net.head.weight))
    assert not net.down[0][0].weight.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_model_that_cannot_be_copied_is_put_back():
    class Stubborn(SmallUNet):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    net = Stubborn().train()
    before = copy.deepcopy(net.state_dict())

    def use(twin):
        assert twin is net
        twin(torch.rand(2, 1, 16, 16))
        twin.eval()

    on_twin(net, ((), {}), use)
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.a(x) if x.mean() > 0 else self.b(x)


def test_control_flow_on_data_is_refused():
    with pytest.raises(TraceError) as caught:
        trace(Branching(), torch.ones(1, 1, 8, 8))
    assert str(caught.value).startswith(
        "no graph of Branching gives its output again; its control flow may depend on data values.\n"
        "  Seen: fx: its graph"
    )


class Normed(SmallUNet):
    """Brings intensities to 0 … 1 by numbers that it reads, and pads with their mean."""

    def forward(self, x):
        low, high = x.min(), x.max()
        x = (x - low) / ((high - low) if high > low else 1)
        x = nn.functional.pad(x, (2, 2, 2, 2), value=float(x.mean()))
        return super().forward(x)[..., 2:-2, 2:-2] * float(high - low) + low


def test_numbers_that_are_read_from_a_tensor_are_no_control_flow():
    x = torch.rand(1, 1, 12, 12)
    found = trace(Normed().eval(), x)
    assert found.backend == "record" and [name for name, _ in found.skipped] == ["fx", "export"]
    assert [stage.name for stage in instrument(Normed(), x).stages] == ["up.0", "up.1"]


class Scaled(Branching):
    def forward(self, x):
        return self.a(x) * float(x.max()) if x.mean() > 0 else self.b(x) * float(x.max())


def test_a_branch_is_refused_though_each_way_is_recorded():
    with pytest.raises(TraceError, match="its control flow may depend on data values"):
        trace(Scaled(), torch.ones(1, 1, 8, 8))


def test_a_model_that_returns_no_tensor():
    class Nothing(nn.Module):
        def forward(self, x):
            return None

    with pytest.raises(TraceError) as caught:
        trace(Nothing(), torch.zeros(1, 1, 8, 8))
    assert str(caught.value) == (
        "Nothing returned no tensor; a segmentation network returns logits.\n"
        "  Try:  instrument the module whose forward() returns the logits"
    )


def test_scripted_modules_are_refused():
    with pytest.raises(TraceError) as caught:
        trace(torch.jit.script(nn.Conv2d(1, 1, 1)), torch.zeros(1, 1, 8, 8))
    assert str(caught.value) == (
        "Conv2d is a ScriptModule; its submodules take no hooks, and eager PyTorch is needed.\n"
        "  Try:  instrument the model first and script it afterwards: torch.jit.script(net.strip())"
    )


class Picky(SmallUNet):
    def forward(self, x):
        if x.min() < 0 or x.max() > 1:
            raise ValueError("intensities must be between 0 and 1")
        return super().forward(x)


def test_a_model_that_accepts_only_some_values_is_read_on_the_example():
    x = torch.rand(1, 1, 16, 16)
    found = trace(Picky().eval(), x)
    assert (found.backend, found.skipped) == ("fx", ())


def test_a_graph_that_forgets_something_is_not_believed_though_the_example_is_all_zeros(monkeypatch):
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    def forgetful(model, args, kwargs):
        return symbolic(nn.Identity(), args, kwargs)

    monkeypatch.setitem(BACKENDS, "forgetful", forgetful)
    found = trace(Doubled(), torch.zeros(1, 1, 4, 4), ("forgetful", "record"))
    assert found.backend == "record"
    assert found.skipped == (("forgetful", "its graph gives another output on other values of the same shape"),)


def test_a_model_that_asks_whether_it_got_a_tensor_gets_the_answer_it_knows():
    class Asking(nn.Module):
        def forward(self, x):
            return 2 * x if isinstance(x, torch.Tensor) and not isinstance(x, list | int) else x

    x = torch.rand(2)
    found = symbolic(Asking(), (x,), {})
    assert torch.equal(found.run((x,), {})[0], 2 * x)
    assert inspect.isbuiltin(isinstance)  # put back


def test_a_module_of_torch_with_a_forward_of_its_own_is_read():
    """As networks are built without classes: ``block = nn.Module(); block.forward = …``."""
    block = nn.Module()
    block.layer, block.norm = nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2)
    block.forward = lambda x: block.norm(block.layer(x))
    found = trace(nn.Sequential(block), torch.rand(1, 1, 4, 4))
    assert found.backend == "fx"
    assert [str(node.target) for node in found.graph.nodes if node.op == "call_module"] == ["0.layer", "0.norm"]


def test_networks_run_on_repeatable_kernels_and_the_users_choice_is_put_back(monkeypatch):
    cudnn, seen = torch.backends.cudnn, queue.SimpleQueue()  # a list that a hook appends to is put back
    monkeypatch.setattr(cudnn, "benchmark", True)
    model, example, _ = small_unet_2d()
    model.register_forward_hook(lambda *_: seen.put((cudnn.deterministic, cudnn.benchmark)))
    trace(model, example)
    assert seen.qsize() and {seen.get() for _ in range(seen.qsize())} == {(True, False)}
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
