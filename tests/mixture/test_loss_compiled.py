"""``torch.compile`` of a loss: one graph, however many maps and steps; counted, not timed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lomix_search.mixture.loss.module import MixtureLoss

STEPS = 8


@pytest.fixture(autouse=True)
def no_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(loss: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], list[int]]:
    """A compiled function, and a list that gets an entry for each graph that is compiled."""
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    return torch.compile(loss, backend=count, fullgraph=True), graphs


def maps(batch: int = 2) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(3)
    return [torch.randn(batch, 3, n, n, requires_grad=True) for n in (2, 4, 8, 16)], torch.randint(3, (batch, 16, 16))


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["softplus", "normalized", "uncertainty", "uniform"])
def test_all_steps_take_one_graph(weighting: str) -> None:
    loss = MixtureLoss("lomix", 4, 3, weighting=weighting)
    run, graphs = compiled(loss)
    for at in range(4):
        loss.weighting.advance(at / 4)
        run(*maps()).backward()
    assert len(graphs) == 1
    assert graphs[0] < 300  # 48 maps are one operator, not written out


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_schedule_takes_one_graph_while_it_mixes_and_one_after(shape: str) -> None:
    """It is told another number each step, which must not be part of the code."""
    eager, loss = (MixtureLoss("lomix", 4, 3, weighting="anneal") for _ in range(2))
    for one in (eager, loss):
        one.weighting.shape = shape
    loss.load_state_dict(eager.state_dict())
    run, graphs = compiled(loss)
    for at in range(STEPS):
        eager.weighting.advance(at / STEPS)
        loss.weighting.advance(at / STEPS)
        torch.testing.assert_close(run(*maps()), eager(*maps()))
        torch.testing.assert_close(loss.per_map.losses, eager.per_map.losses, equal_nan=True)
        torch.testing.assert_close(loss.per_map.weights, eager.per_map.weights)
    assert len(graphs) == 2


@pytest.mark.slow
def test_maps_that_are_skipped_take_one_graph() -> None:
    eager = MixtureLoss("lomix", 4, 3, weighting="anneal")
    eager.weighting.keep([name for k, name in enumerate(eager.map_ids) if k % 3 != 1 or k == 3])
    run, graphs = compiled(eager)
    found = [run(*maps()) for _ in range(3)]
    told = eager.per_map.losses
    torch.testing.assert_close(found[-1], eager(*maps()))
    torch.testing.assert_close(told, eager.per_map.losses, equal_nan=True)
    assert len(graphs) == 1


@pytest.mark.slow
def test_a_last_batch_of_another_size_takes_one_graph_more() -> None:
    run, graphs = compiled(MixtureLoss("lomix", 4, 3))
    for batch in (4, 4, 3, 4, 2, 3):
        run(*maps(batch)).backward()
    assert len(graphs) == 2
