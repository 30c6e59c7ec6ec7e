"""Two processes of the Trainer, as torchrun starts them: what lies outside of DDP stays the same on both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from support.trainer_pieces import items, quarter, trainer_of

from lomix_search.integrations.huggingface import supervise

pytestmark = [pytest.mark.huggingface, pytest.mark.filterwarnings("ignore")]

PROGRAM = """
import sys, torch
from pathlib import Path
from support.trainer_pieces import items, quarter, trainer_of
from lomix_search.integrations.huggingface import supervise
folder = Path(sys.argv[1])
trainer = trainer_of(quarter(), folder, max_steps=3, save_strategy="no", max_grad_norm=0.0, ddp_backend="gloo")
trainer.train_dataset = items(4)  # a step is all of them, two on each process
lomix = supervise(trainer, weighting="normalized")
trainer.train()
trained = [p.detach() for p in (*lomix.net.parameters(), *lomix.loss.parameters())]
torch.save(trained, folder / f"rank{trainer.args.process_index}.pt")
trainer.evaluate()
"""


def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    both = [subprocess.Popen(command, env=common | {"RANK": r, "LOCAL_RANK": r}) for r in ("0", "1")]
    assert [process.wait() for process in both] == [0, 0]
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
