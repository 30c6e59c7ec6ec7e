"""``torch.compile`` of an instrumented network: as few graphs as the bare network has, counted, not timed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.zoo import small_unet_2d
from torch import Tensor, nn

from lomix_search.instrumentation.instrumented import Instrumented, instrument


@pytest.fixture(autouse=True)
def no_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(module: nn.Module) -> tuple[Callable[..., Any], list[int]]:
    """A compiled module, and a list that gets an entry for each graph that is compiled."""
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    return torch.compile(module, backend=count), graphs


def build() -> tuple[Instrumented, Tensor]:
    model, example, _ = small_unet_2d()
    return instrument(model, example).train(), example


def step(net: Callable[..., Any], example: Tensor) -> None:
    sum(logits.mean() for logits in net(example)).backward()


@pytest.mark.slow
def test_training_steps_take_one_graph() -> None:
    """The first step must leave nothing behind that a guard of the second one sees."""
    net, example = build()
    run, graphs = compiled(net)
    for _ in range(3):
        step(run, example)
    assert len(graphs) == 1


@pytest.mark.slow
def test_hooks_that_come_and_go_take_no_new_graph() -> None:
    """Each epoch puts them on again: one graph of training, one of validation, however many epochs."""
    net, example = build()
    run, graphs = compiled(net)
    for _ in range(3):
        net.train()
        step(run, example)
        net.eval()
        with torch.no_grad():
            run(example)
    assert len(graphs) == 2


class Broken(nn.Module):
    """A decoder level that the compiler cannot read in one piece, as ``torch.jit.isinstance`` in MONAI's BasicUNet."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        found: Tensor = self.inner(x)
        return found


def broken() -> tuple[nn.Module, Tensor]:
    model, example, _ = small_unet_2d()
    model.up = nn.ModuleList(Broken(up) for up in model.up)
    return model.train(), example


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, of a tensor between two graphs
def test_a_network_of_several_graphs_gets_one_more_for_the_heads() -> None:
    model, example = broken()
    run, own = compiled(model)
    run(example).mean().backward()
    torch._dynamo.reset()

    net = instrument(broken()[0], example).train()
    expected = net(example)
    run, graphs = compiled(net)
    for _ in range(3):
        step(run, example)
    assert 1 < len(own) < len(graphs) <= len(own) + 1
    assert [one.shape for one in run(example)] == [one.shape for one in expected]
