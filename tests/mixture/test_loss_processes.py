"""A user's own loop on two processes: the network inside DistributedDataParallel, the loss of the whole batch."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support.forked import two_processes
from support.zoo import small_unet_2d
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.utils.distributed import average_gradients

STEPS = 6


def network() -> nn.Module:
    torch.manual_seed(0)
    model, _, _ = small_unet_2d()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.BatchNorm2d):
            part.eval()  # statistics are of a process's own items
    return model.double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, *small_unet_2d()[1].shape[1:], generator=generator, dtype=torch.float64)
    return images, torch.randint(2, (4, *images.shape[2:]), generator=generator)


WAYS: dict[str, dict[str, Any]] = {
    "softplus": {"weighting": "softplus"},
    "anneal": {"weighting": "anneal"},  # leaves all maps but one out in the second half
    "a loss of the user's own": {"weighting": "anneal", "loss": nn.functional.cross_entropy},  # by autograd alone
    "reference": {"weighting": "softplus", "engine": "reference"},
    "reference, annealed": {"weighting": "anneal", "engine": "reference"},
    "tiled, annealed": {"weighting": "anneal", "engine": "tiled"},
}


def train(way: str, part: slice = slice(None), several: bool = False) -> list[Tensor]:
    """The loop that docs/how-to/own-network.md shows; returns all that was trained for inference or the mixture."""
    images, labels = batch()
    instrumented = lomix.instrument(network(), images[:1])
    instrumented.training = True
    net = nn.parallel.DistributedDataParallel(instrumented) if several else instrumented
    loss = lomix.MixtureLoss.for_network(net, together=several, **WAYS[way]).double()
    optimizer = torch.optim.SGD([{"params": net.parameters()}, *loss.parameter_groups()], lr=0.05)
    for at in range(STEPS):
        loss.weighting.advance(at / STEPS)
        optimizer.zero_grad()
        loss(net(images[part]), labels[part]).backward()
        average_gradients(list(loss.parameters()))
        optimizer.step()
    return [p.detach() for p in (*instrumented.model.parameters(), *loss.parameters())]


def _share(rank: int, port: int, way: str, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = train(way, slice(2 * rank, 2 * rank + 2), several=True)
    torch.save((found, [str(one.message) for one in said if "MixtureLoss" in str(one.message)]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_are_one_with_the_whole_batch(way: str, tmp_path: Path) -> None:
    two_processes(_share, way, str(tmp_path))
    (first, said), (second, _) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert said == []
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for a, b in zip(first, train(way), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def _apart(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    images, labels = batch()
    net = lomix.instrument(network(), images[:1]).train()
    said = {}
    for name in ("bare", "wrapped", "nothing learned"):
        loss = lomix.MixtureLoss.for_network(net, weighting="uniform" if name == "nothing learned" else "softplus")
        loss.operators.requires_grad_(name != "nothing learned")
        run = nn.parallel.DistributedDataParallel(loss.double()) if name == "wrapped" else loss.double()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                run(net(images), labels).backward()
        said[name] = [str(one.message) for one in caught if "processes" in str(one.message)]
    torch.save(said, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_mixture_that_each_process_has_for_itself_is_told_once(tmp_path: Path) -> None:
    two_processes(_apart, str(tmp_path))
    said = torch.load(tmp_path / "1.pt")
    assert len(said["bare"]) == 1 and "together=True" in said["bare"][0]
    assert said["wrapped"] == said["nothing learned"] == []
