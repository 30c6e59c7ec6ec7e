"""Two processes of the Trainer, as torchrun starts them: what lies outside of DDP stays the same on both."""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from support.forked import two_processes
from support.trainer_pieces import items, quarter, trainer_of

from lomix_search.integrations.huggingface import supervise

pytestmark = [pytest.mark.huggingface, pytest.mark.filterwarnings("ignore")]


def _process(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    trainer = trainer_of(quarter(), folder, max_steps=3, save_strategy="no", max_grad_norm=0.0, ddp_backend="gloo")
    trainer.train_dataset = items(4)  # a step is all of them, two on each process
    lomix = supervise(trainer, weighting="normalized")
    trainer.train()
    assert trainer.args.world_size == 2 and trainer.args.process_index == rank
    trained = [p.detach() for p in (*lomix.net.parameters(), *lomix.loss.parameters())]
    torch.save(trained, folder / f"rank{rank}.pt")
    trainer.evaluate()


def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    two_processes(_process, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{r}.pt") for r in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    trainer = trainer_of(
        quarter(), tmp_path, max_steps=3, save_strategy="no", max_grad_norm=0.0, per_device_train_batch_size=4
    )
    trainer.train_dataset = items(4)
    lomix = supervise(trainer, weighting="normalized")
    trainer.train()
    for a, b in zip(first, [*lomix.net.parameters(), *lomix.loss.parameters()], strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-3, atol=1e-5)
