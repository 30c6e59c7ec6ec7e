"""Options of the loss in a distributed run: that of the whole batch, whose images lie with several processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.forked import two_processes
from support.loss_terms import STRUCTURE, built, given

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "per image": ("classes", {"per_image": True}),
    "weights per image": ("classes", {"class_weights": (0.2, 1.0, 3.0), "per_image": True}),
    "tversky": ("regions", {"region": "tversky"}),
    "generalized per image": ("regions", {"region": "generalized_dice", "per_image": True}),
    "structure": ("binary", STRUCTURE),
    "structure of the batch": ("regions", STRUCTURE | {"per_image": False}),
}


def one_step(name: str, part: slice, engine: str, together: bool) -> list[torch.Tensor]:
    """Return the total and the gradients of operators and weights, of a part of three images."""
    kind, options = CASES[name]
    loss, (maps, labels) = built(kind, options, engine=engine, together=together), given(kind, batch=3)
    total = loss([one[part] for one in maps], labels[part])
    return [total.detach(), *torch.autograd.grad(total, list(loss.parameters()))]


def _process(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    part = slice(0, 1) if rank == 0 else slice(1, 3)
    found = {name: {e: one_step(name, part, e, True) for e in ("auto", "reference")} for name in CASES}
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_totals_and_mean_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    two_processes(_process, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in CASES:
        whole = one_step(name, slice(0, 3), "reference", False)
        for engine in ("auto", "reference"):
            means = [(a + b) / 2 for a, b in zip(first[name][engine], second[name][engine], strict=True)]
            torch.testing.assert_close(first[name][engine][0], second[name][engine][0], rtol=1e-12, atol=0)
            torch.testing.assert_close(means, whole, rtol=1e-9, atol=1e-12)
