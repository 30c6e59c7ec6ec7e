"""An instrumented network in the company it keeps: compilers, autocast, checkpoints, processes, exports."""

import copy
import os

import pytest
import torch
import torch.multiprocessing as mp
from support.forked import two_processes
from support.zoo import SmallUNet, small_unet_2d
from torch import nn
from torch.utils.checkpoint import checkpoint

from lomix_search.errors import StageError, TraceError
from lomix_search.instrumentation.instrumented import instrument


def loss_of(maps):
    return sum(m.float().logsumexp(1).mean() for m in maps)


def test_autocast_reaches_the_heads():
    model, example, _ = small_unet_2d()
    net = instrument(model, example).train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = net(example)
    assert {m.dtype for m in maps} == {torch.bfloat16}
    loss_of(maps).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_types(dtype):
    model, example, _ = small_unet_2d()
    net = instrument(model.to(dtype), example).train()
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert all(m.dtype == dtype for m in net(example.to(dtype)))


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        model = SmallUNet()
    net = instrument(model, torch.zeros(1, 1, 16, 16)).train()
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert [m.shape[2:] for m in net(torch.zeros(1, 1, 16, 16, device="meta"))] == [(8, 8), (16, 16)]


class Checkpointed(SmallUNet):
    reentrant = False

    def forward(self, x):
        x = x + 0 * self.head.bias.sum()
        skips = []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1)
            x = checkpoint(up, x, use_reentrant=self.reentrant)
        return self.head(x)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_segments_give_the_same_gradients(reentrant):
    example = torch.rand(2, 1, 16, 16)
    plain, saved = Checkpointed(), Checkpointed()
    saved.load_state_dict(plain.state_dict())
    saved.reentrant = reentrant
    nets = [instrument(m, example).train() for m in (plain, saved)]
    nets[1].heads.load_state_dict(nets[0].heads.state_dict())
    for net in nets:
        loss_of(net(example)).backward()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_stage_inside_a_reentrant_segment_is_refused():
    class Whole(SmallUNet):
        def forward(self, x):
            return checkpoint(super().forward, x.requires_grad_(), use_reentrant=True)

    example = torch.rand(2, 1, 16, 16)
    net = instrument(Whole(), example).train()
    with pytest.raises(StageError) as caught:
        net(example)
    assert str(caught.value) == (
        'stage "up.0" of Whole carries no gradient, so that its head would not train the network.\n'
        "  Seen: the output of up.0 was made without gradients, as reentrant checkpointing does\n"
        "  Try:  torch.utils.checkpoint.checkpoint(…, use_reentrant=False)"
    )


def test_wrapped_models():
    model, example, _ = small_unet_2d()
    net = instrument(nn.DataParallel(model), example).train()
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"]
    assert len(net(example)) == 2
    assert isinstance(net.strip(), nn.DataParallel)


@pytest.mark.slow
def test_compile_gives_the_same_maps():
    model, example, _ = small_unet_2d()
    model.dropout.p = 0.0
    net = instrument(model, example).train()
    twin = copy.deepcopy(net)
    expected = twin(example)
    found = torch.compile(net, backend="aot_eager")(example)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_a_compiled_model_is_looked_into():
    model, example, _ = small_unet_2d()
    compiled = torch.compile(model.eval(), backend="eager")
    before = compiled(example)
    with pytest.warns(UserWarning, match="SmallUNet is compiled; with heads it trains uncompiled"):
        net = instrument(compiled, example)
    assert torch.equal(net.eval()(example), before)
    assert len(net.train()(example)) == 2
    assert net.strip() is compiled


@pytest.mark.slow
def test_the_stripped_model_exports_as_the_bare_one():
    model, example, _ = small_unet_2d()
    bare = copy.deepcopy(model).eval()
    stripped = instrument(model, example).strip().eval()
    graphs = [torch.export.export(m, (example,)) for m in (bare, stripped)]
    assert graphs[0].graph_module.code == graphs[1].graph_module.code
    assert torch.equal(graphs[0].module()(example), graphs[1].module()(example))


def test_a_scripted_module_is_refused():
    with pytest.raises(TraceError, match="is a ScriptModule"):
        instrument(torch.jit.script(nn.Conv2d(1, 2, 1)), torch.zeros(1, 1, 8, 8))


def worker(rank: int, port: int, results) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model, example, _ = small_unet_2d()
    model.dropout.p = 0.0
    wrapped = instrument(nn.parallel.DistributedDataParallel(model), example)
    assert [stage.name for stage in wrapped.stages] == ["up.0", "up.1"]
    net = nn.parallel.DistributedDataParallel(instrument(model, example).train())
    torch.manual_seed(rank)
    loss_of(net(torch.rand(2, 1, 16, 16))).backward()
    results[rank] = [p.grad.clone() for p in net.parameters()]
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_gradients():
    with mp.Manager() as manager:
        results = manager.dict()
        two_processes(worker, results)
        assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))


class Freeing(torch.autograd.Function):
    """Gives the memory of what it is given back, as invertible layers do, and makes it again in the backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.x, made = x.detach(), -x
        ctx.save_for_backward(made)
        x.untyped_storage().resize_(0)
        return made

    @staticmethod
    def backward(ctx, gradient):
        (made,) = ctx.saved_tensors
        ctx.x.untyped_storage().resize_(made.untyped_storage().nbytes())
        ctx.x.copy_(-made)
        return -gradient


class Turned(nn.Module):
    def forward(self, x):
        return Freeing.apply(x)


class InvertibleUNet(nn.Module):
    """Each level's map is freed by what comes next: a module, or ``forward()`` itself."""

    def __init__(self, freeing):
        super().__init__()
        self.down, self.up, self.wide = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.last, self.head, self.turned = nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(4, 2, 1), freeing

    def forward(self, x):
        y = self.wide(self.turned(self.up(self.down(x))))
        return self.head(self.turned(self.last(torch.cat([x, y], 1))))


def negated(x):
    return -x


def test_stages_whose_memory_the_network_frees_are_kept_as_copies():
    torch.manual_seed(0)
    example, nets = torch.rand(2, 1, 16, 16), []
    for freeing in (negated, Turned()):
        torch.manual_seed(1)
        net = instrument(InvertibleUNet(freeing), example, stages=["up", "last"])
        maps = net.train()(example)
        loss_of(maps).backward()
        nets.append((net, maps))
    (plain, expected), (freed, found) = nets
    assert [stage.tap.copy for stage in freed.stages] == [True, True]
    assert [stage.tap.copy for stage in plain.stages] == [False, False]
    assert all(map(torch.equal, found, expected))
    assert all(map(torch.equal, freed.stage_features(example), plain.stage_features(example)))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(freed.parameters(), plain.parameters(), strict=True))


def test_a_stage_whose_memory_is_freed_unseen_is_an_error_and_no_crash():
    net = instrument(InvertibleUNet(Freeing.apply), torch.rand(1, 1, 16, 16), stages=["up", "last"])
    for run in (net.train(), net.stage_features):
        with pytest.raises(StageError, match="has no memory any more after the pass") as caught:
            run(torch.rand(1, 1, 16, 16))
        assert "keep_input=True" in str(caught.value)


def test_maps_are_made_under_the_transforms_of_torch_func():
    model, example, _ = small_unet_2d()
    net = instrument(model, example).train()
    for module in model.modules():  # under these transforms no norm may write its statistics, and no dropout draw
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    before = {name: value.detach() for name, value in net.named_parameters()}

    def loss(parameters):
        return loss_of(torch.func.functional_call(net, parameters, (example,)))

    gradients = torch.func.grad(loss)(before)
    assert all(value.isfinite().all() for value in gradients.values())
    assert any(value.abs().sum() > 0 for name, value in gradients.items() if name.startswith("heads"))
