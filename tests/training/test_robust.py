"""What may go wrong in a long run: numbers that are not finite, clocks, kills; runs that get longer or end early."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.places import TESTS
from support.runs import normed, run, same
from support.shapes import Shapes, build
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines

# -- numbers that are not finite ---------------------------------------------------------------------------------------


class SickAt(Shapes):
    """Items whose image is NaN in some of the reads."""

    def __init__(self, *reads: int) -> None:
        super().__init__()
        self.reads, self.read = reads, 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        self.read += 1
        return (torch.full_like(image, torch.nan) if self.read in self.reads else image), label


def test_a_sick_batch_is_skipped_and_leaves_no_trace_in_batch_norms(tmp_path: Path) -> None:
    result = run(tmp_path, SickAt(9, 30), built=normed())
    lines = {line["step"]: line for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line}
    skipped = {step: line["train/skipped"] for step, line in lines.items() if "train/skipped" in line}
    assert skipped == dict.fromkeys((3, 8), "the loss is not finite, the step is skipped (1 in a row, of 3)")
    assert lines[3]["train/loss"] is None and lines[4]["train/loss"] is not None
    assert all(tensor.isfinite().all() for tensor in read_tensors(tmp_path / "final.pt").values())
    assert result.final is not None and np.isfinite(result.final.mean)


def test_too_many_sick_batches_end_the_run_and_say_where(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(tmp_path, SickAt(*range(9, 99)), skip_not_finite=2)
    assert str(caught.value) == (
        "the loss is not finite at step 5, after 2 such steps were skipped.\n"
        "  Seen: maps: P1, P2\n"
        "        the images: 1024 values are NaN or infinite\n"
        "  Try:  a lower lr, clip_grad=1.0 or precision=32, in another folder; or resume with skip_not_finite=10"
    )
    run(tmp_path, resume=True, skip_not_finite=10)  # the data are well again


def test_the_count_of_skipped_steps_survives_a_restart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at step 5, after 2"):
        run(tmp_path, SickAt(*range(9, 99)), skip_not_finite=2, checkpoint_every=1)
    with pytest.raises(RunError, match="at step 5, after 2"):
        run(tmp_path, SickAt(*range(1, 99)), skip_not_finite=2, checkpoint_every=1, resume=True)


class Steep(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * torch.inf


def test_a_gradient_that_is_not_finite_is_caught_before_it_moves_anything(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    handle = net.model.register_forward_hook(lambda m, i, out: Steep.apply(out))
    with pytest.raises(RunError) as caught:
        run(tmp_path, built=(net, loss), skip_not_finite=1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the gradient is not finite at step 2, after 1 such steps were skipped."
    assert lines[1].startswith("  Seen: gradients of ")
    assert lines[2] == "        the images are finite"
    handle.remove()
    assert all(p.isfinite().all() for p in net.parameters())


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    free, clipped = (tmp_path / name for name in ("free", "clipped"))
    run(free, steps=2, optimizer="SGD", momentum=0.0, weight_decay=0.0)
    run(clipped, steps=2, optimizer="SGD", momentum=0.0, weight_decay=0.0, clip_grad=1e-3)
    assert read_lines(free / "metrics.jsonl")[0]["train/grad_norm"] > 1e-2
    start = {name: p.detach() for name, p in build("deep_supervision")[0].named_parameters()}
    moved = []
    for folder in (free, clipped):
        found = read_tensors(folder / "checkpoints/step_00000002.pt")["net"]
        moved.append(sum(float((found[name] - p).square().sum()) for name, p in start.items()) ** 0.5)
    assert moved[1] <= 2 * 1e-3 * 1e-2 * 1.01 and moved[0] > 10 * moved[1]


def test_float16_scales_its_loss(tmp_path: Path) -> None:
    result = run(tmp_path, precision="fp16", steps=12)
    scales = [line["train/loss_scale"] for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line]
    assert scales[-1] >= 1 and all(np.isfinite(w) for w in result.mixture.weights.values())
    assert result.final is not None and result.final.mean > 0.2


def test_float16_stops_where_no_scale_helps(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    net.model.register_forward_hook(lambda m, i, out: Steep.apply(out))
    with pytest.raises(RunError) as caught:
        run(tmp_path, built=(net, loss), precision="fp16", steps=60)
    lines = str(caught.value).splitlines()
    assert lines[0] == "fp16: gradients overflow at step 31 even with a loss scale of 3.1e-05."
    assert lines[1].startswith("  Seen: gradients of ")
    assert lines[2] == "  Try:  precision=bf16, in another folder"


# -- longer and shorter runs -------------------------------------------------------------------------------------------


def test_a_finished_run_goes_on_to_more_steps(tmp_path: Path) -> None:
    run(tmp_path / "grown", steps=8)
    assert json.loads((tmp_path / "grown/mixture.json").read_text())["provenance"]["steps"] == 8
    run(tmp_path / "grown", steps=12, resume=True)
    run(tmp_path / "whole", steps=12)
    same(tmp_path / "grown", tmp_path / "whole")
    steps = [line["step"] for line in read_lines(tmp_path / "grown/metrics.jsonl") if "train/loss" in line]
    assert steps == list(range(1, 13))


def test_a_longer_run_takes_its_learning_rate_from_the_longer_schedule(tmp_path: Path) -> None:
    run(tmp_path, steps=6, schedule="poly", power=1.0)
    run(tmp_path, steps=12, schedule="poly", power=1.0, resume=True)
    rates = {line["step"]: line["train/lr"] for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line}
    assert rates[6] == 0.0 and rates[7] == pytest.approx(1e-2 * (1 - 7 / 12))
    before, after = (read_tensors(tmp_path / f"checkpoints/step_{n:08d}.pt")["net"] for n in (9, 12))
    assert any(not torch.equal(before[key], after[key]) for key in after)


class Noise(Shapes):
    """Validation data that nothing can learn."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(1, 16, 16, generator=generator), torch.randint(0, 3, (16, 16), generator=generator)


def test_patience_stops_early_and_a_resumed_run_stays_stopped(tmp_path: Path) -> None:
    settings = {"steps": 100, "validate_every": 2, "patience": 3, "val": Noise(4)}
    result = run(tmp_path, **settings)
    last = max(line["step"] for line in read_lines(tmp_path / "metrics.jsonl"))
    assert last == result.best_step + 6 < 100
    assert json.loads((tmp_path / "mixture.json").read_text())["provenance"]["steps"] == last
    before = (tmp_path / "mixture.json").read_bytes()
    run(tmp_path, resume=True, **settings)
    assert (tmp_path / "mixture.json").read_bytes() == before
    assert max(line["step"] for line in read_lines(tmp_path / "metrics.jsonl")) == last
    run(tmp_path, resume=True, **(settings | {"patience": 4}))  # more patience goes on
    assert max(line["step"] for line in read_lines(tmp_path / "metrics.jsonl")) >= last + 2


def test_patience_needs_something_to_wait_for(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(RunError) as caught:
        lomix.search(net, loss, Shapes(), folder=tmp_path, patience=3, progress=False)
    assert str(caught.value) == (
        "patience = 3 waits for a better validation Dice; there are no validation data.\n"
        "  Try:  search(net, loss, train, val, …), or no patience"
    )


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "calm")
    wild = np.random.default_rng(0)
    monkeypatch.setattr(time, "time", lambda: float(wild.uniform(-1e9, 1e10)))
    run(tmp_path / "wild")
    same(tmp_path / "calm", tmp_path / "wild")
    assert all(
        0 <= line["train/step_seconds"] < 60
        for line in read_lines(tmp_path / "wild/metrics.jsonl")
        if "train/loss" in line
    )


# -- kills -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # thirty kills
def test_thirty_kills_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(TESTS / "support" / "chaos.py"), str(tmp_path)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["kills"] == 30 and said["in_writing"] >= 10, said

    def without_time(folder: Path) -> list[dict[str, Any]]:
        timed = ("train/seconds", "train/step_seconds")
        return [{k: v for k, v in line.items() if k not in timed} for line in read_lines(folder / "metrics.jsonl")]

    whole, killed = tmp_path / "whole", sorted(tmp_path.glob("killed_*"))
    assert killed
    for folder in killed:
        same(folder, whole)
        assert without_time(folder) == without_time(whole)
        assert {path.name for path in folder.rglob("*")} == {path.name for path in whole.rglob("*")}
