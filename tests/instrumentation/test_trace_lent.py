"""A network is read with its parameters in the user's memory, unless something would write there."""

import contextlib
import threading

import pytest
import torch
from support.untouched import built, picture, same
from support.zoo import SmallUNet
from torch import nn

from lomix_search.instrumentation.trace import on_twin, trace, twin
from lomix_search.instrumentation.trace.reachable import memory_of
from lomix_search.instrumentation.trace.snapshot import Snapshot

X = torch.rand(1, 1, 16, 16)


def places(tensors):
    return {memory_of(tensor)._cdata for tensor in tensors}


def twins(model, use=lambda _: None):
    """The twins that the same work is given in turn, each with whether it has the user's parameters, and buffers."""
    seen = []

    def work(twin):
        given = [places(twin.parameters()) & places(model.parameters()), places(twin.buffers())]
        seen.append((bool(given[0]), bool(given[1] & places(model.buffers()))))
        use(twin)

    on_twin(model, ((), {}), work)
    return seen


def test_a_twin_reads_the_parameters_in_the_users_memory_and_has_buffers_of_its_own():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = picture(model, X)
    assert twins(model, lambda twin: twin(X)) == [(True, False)]
    same(before, picture(model, X))


def writes(model):
    with torch.no_grad():
        model.head.weight.mul_(2)


def writes_a_view(model):
    model.head.weight.detach().view(-1)[0] = 1


def writes_to_many(model):
    with torch.no_grad():
        torch._foreach_add_([p.data for p in model.parameters()], 1)


def writes_out(model):
    torch.add(torch.ones(3), 1, out=model.head.bias.data)


def takes_numpy(model):
    model.head.weight.detach().numpy()[:] += 1


def takes_memory(model):
    model.head.weight.untyped_storage().fill_(0)


def takes_an_address(model):
    assert model.head.weight.data_ptr()


def starts_a_thread(model):
    thread = threading.Thread(target=writes, args=(model,))
    thread.start()
    thread.join()


def steps(model):
    loss = model(X).square().mean()
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()


def keeps_statistics(model):
    torch.nn.functional.batch_norm(torch.rand(4, 3, 2, 2), model.head.bias.data, torch.ones(3), training=True)


def catches_all(model):
    with contextlib.suppress(BaseException):
        writes(model)


def raises_another(model):
    try:
        writes(model)
    except BaseException as error:
        raise RuntimeError("no pass without a write") from error


@pytest.mark.parametrize(
    "use",
    [
        writes, writes_a_view, writes_to_many, writes_out, takes_numpy, takes_memory, takes_an_address,
        starts_a_thread, steps, keeps_statistics, catches_all, raises_another,
    ],
)  # fmt: skip
def test_before_anything_writes_to_a_parameter_the_twin_is_made_anew_with_a_copy(use):
    model = SmallUNet()
    before = picture(model, X)
    assert twins(model, use) == [(True, False), (False, False)]
    same(before, picture(model, X))


def assigns(model):
    model.head.weight = nn.Parameter(model.head.weight.detach() + 1)


def assigns_data(model):
    model.head.weight.data = model.head.weight.data * 2


def halves(model):
    model.half()


def sets_flags(model):
    model.head.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model.head.weight.note = "seen"


@pytest.mark.parametrize("use", [assigns, assigns_data, halves, sets_flags])
def test_what_changes_a_parameter_and_not_its_memory_needs_no_copy(use):
    model = SmallUNet()
    before = picture(model, X)
    assert twins(model, use) == [(True, False)]
    same(before, picture(model, X))


@pytest.mark.parametrize("name", ["HoldsAnArray", "HoldsABuffer"])
def test_memory_that_something_else_may_write_to_is_not_lent(name):
    model = built(name).train()
    with_bias = places([model.head.bias])
    lent = []

    def work(twin):
        lent.append(with_bias & places(twin.parameters()))
        twin(X)

    on_twin(model, ((), {}), work)
    assert lent == [set()]


def test_what_is_lent_is_not_copied_for_a_snapshot_either(monkeypatch):
    model, kept = SmallUNet(), []
    monkeypatch.setattr(twin, "Snapshot", lambda objects: kept.extend(objects) or Snapshot([]))
    on_twin(model, ((), {}), lambda _: None)
    assert not [value for value in kept if isinstance(value, torch.UntypedStorage)]


def test_other_threads_go_on_while_memory_is_lent():
    model, failed = SmallUNet(), []

    def train(done):
        try:
            while not done.is_set():
                writes(model)
                model.head.weight.detach().numpy()
        except BaseException as error:  # what is raised in a thread would be lost
            failed.append(error)

    def beside(_twin):
        done.wait(0.2)

    done = threading.Event()
    thread = threading.Thread(target=train, args=(done,))
    thread.start()
    seen = twins(model, beside)
    done.set()
    thread.join()
    assert seen == [(True, False)]
    assert not failed


def test_a_trace_that_goes_on_to_run_has_parameters_of_its_own():
    model = SmallUNet().eval()
    found, expected = trace(model, X), model(X)
    with torch.no_grad():
        model.head.bias.add_(1)
    assert torch.allclose(found.run((X,), {})[0], expected)


def test_gradients_are_lent_like_parameters():
    model = SmallUNet()
    model(X).sum().backward()
    before = picture(model, X)
    with_gradients = places(p.grad for p in model.parameters())
    seen = []

    def work(twin):
        seen.append(bool(with_gradients & places(p.grad for p in twin.parameters())))
        twin.head.weight.grad.zero_()

    on_twin(model, ((), {}), work)
    assert seen == [True, False]
    same(before, picture(model, X))
