"""Numbers that are not finite: steps are skipped without a trace, and too many of them end the run with words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import normed, run
from support.shapes import SickAt, build
from torch import Tensor, nn

from lomix_search.errors import RunError
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.step import warn_of_batch_norms
from lomix_search.training.trackers import read_lines


@pytest.mark.slow
def test_a_sick_batch_is_skipped_and_leaves_no_trace_in_batch_norms(tmp_path: Path) -> None:
    result = run(tmp_path, SickAt(9, 30), built=normed())
    lines = {line["step"]: line for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line}
    skipped = {step: line["train/skipped"] for step, line in lines.items() if "train/skipped" in line}
    assert skipped == dict.fromkeys((3, 8), "the loss is not finite, the step is skipped (1 in a row, of 3)")
    assert lines[3]["train/loss"] is None and lines[4]["train/loss"] is not None
    assert all(tensor.isfinite().all() for tensor in read_tensors(tmp_path / "final.pt").values())
    assert result.final is not None and np.isfinite(result.final.mean)


@pytest.mark.slow
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
    start = {name: p.detach() for name, p in build("deep_supervision")[0].model.named_parameters()}
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


@pytest.mark.slow
def test_float16_stops_where_no_scale_helps(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    net.model.register_forward_hook(lambda m, i, out: Steep.apply(out))
    with pytest.raises(RunError) as caught:
        run(tmp_path, built=(net, loss), precision="fp16", steps=60, batch_size=1, validate_every=99)
    lines = str(caught.value).splitlines()
    assert lines[0] == "fp16: gradients overflow at step 31 even with a loss scale of 3.1e-05."
    assert lines[1].startswith("  Seen: gradients of ")
    assert lines[2] == "  Try:  precision=bf16, in another folder"


def test_batch_norms_are_warned_of() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.InstanceNorm2d(2), nn.SyncBatchNorm(2))
    with pytest.warns(UserWarning, match=r"1 batch norms \(1, …\) see only the items of their own process"):
        warn_of_batch_norms(net)
    warn_of_batch_norms(net[2:])
