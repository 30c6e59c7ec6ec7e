"""A search waits for the device only when it tells: counted where torch brings a number to the CPU."""

import traceback
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import normed
from support.shapes import CLASSES, Shapes, SickAt
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.training import loop, step
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines

PACKAGE = str(Path(lomix.__file__).parent)
FUSED = {"optimizer": partial(torch.optim.AdamW, lr=1e-2, fused=True)}
"""Leaves out what is not finite by itself, on a CPU as on a GPU."""


def searched(folder: Path, train: Any = None, **changes: Any) -> None:
    net, loss = normed()
    settings = {"steps": 12, "batch_size": 4, "validate_every": 6, "checkpoint_every": 5, "seed": 5} | FUSED | changes
    lomix.search(net, loss, train or Shapes(), Shapes(4), folder=folder, classes=CLASSES, progress=False, **settings)


class Waits(TorchDispatchMode):
    """Notes who would wait for a device; values of labels are looked at at once on the CPU alone."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            places = [f"{Path(f.filename).name}: {f.line}" for f in traceback.extract_stack() if PACKAGE in f.filename]
            self.found += [place for place in places[-1:] if not place.startswith("label_checks.py")]
        return func(*args, **(kwargs or {}))


def test_steps_between_two_tellings_wait_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms, clipping, and a weighting that learns."""
    counted: list[list[str]] = []
    take = step.Stepper._take

    def watched(self: step.Stepper, *batch: Tensor) -> Any:
        with Waits() as waits:
            taken = take(self, *batch)
        counted.append(waits.found)
        return taken

    monkeypatch.setattr(step.Stepper, "_take", watched)
    searched(tmp_path, clip_grad=1.0)
    assert counted[1:] == [[]] * 11
    counted.clear()
    searched(tmp_path / "other", clip_grad=1.0, optimizer="AdamW", steps=3)
    assert all(counted), "an optimizer that cannot leave a step out has to be asked"


def test_what_is_told_late_is_what_would_have_been_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipped steps leave no trace in network, batch norms or optimizer, however late they are seen."""
    told = []
    for every in (1, 20):
        monkeypatch.setattr(loop, "TELL_EVERY", every)
        torch.manual_seed(0)
        searched(tmp_path / str(every), SickAt(9, 30))
        lines = read_lines(tmp_path / str(every) / "metrics.jsonl")
        told.append([{k: v for k, v in line.items() if "seconds" not in k} for line in lines])
        assert all(one.isfinite().all() for one in read_tensors(tmp_path / str(every) / "final.pt").values())
    assert told[0] == told[1]
    assert [line["step"] for line in told[1] if "train/skipped" in line] == [3, 8]
    assert all(torch.isfinite(torch.tensor(line["train/loss"])) for line in told[1][-3:] if "train/loss" in line)


def test_too_many_of_them_end_the_run_and_name_maps_and_images(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        searched(tmp_path, SickAt(*range(9, 99)), skip_not_finite=2)
    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        "the loss is not finite at step 5, after 2 such steps were skipped.",
        "  Seen: maps: P1, P2, add(1,2), mul(1,2), attention(1,2), concat(1,2)",
        "        the images: 1024 values are NaN or infinite",
    ]
