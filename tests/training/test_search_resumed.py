"""A search that goes on: after a signal, after kills, to more steps, and never into another run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.places import TESTS
from support.runs import run, same
from support.shapes import Interrupting, Shapes, build
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines

# -- going on ----------------------------------------------------------------------------------------------------------


def trained_steps(folder: Path) -> list[int]:
    return [line["step"] for line in read_lines(folder / "metrics.jsonl") if "train/loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_leaves_a_run_that_resumes_bit_for_bit(
    number: int,
    error: type[BaseException],
    whole_with_operators: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = signal.getsignal(number)
    with pytest.raises(error):
        run(tmp_path, Interrupting(number, after=18), built=build())  # while the fifth batch is read
    assert "Stopped at step 5; checkpoint in" in capsys.readouterr().out
    assert signal.getsignal(number) == handler
    run(tmp_path, built=build(), resume=True)
    same(tmp_path, whole_with_operators)
    assert (tmp_path / "mixture.safetensors").exists() and trained_steps(tmp_path) == list(range(1, 13))


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_steps(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, steps=8)
    assert json.loads((tmp_path / "mixture.json").read_text())["provenance"]["steps"] == 8
    run(tmp_path, steps=12, resume=True)
    same(tmp_path, whole)
    assert trained_steps(tmp_path) == list(range(1, 13))


@pytest.mark.slow
def test_a_longer_run_takes_its_learning_rate_from_the_longer_schedule(tmp_path: Path) -> None:
    run(tmp_path, steps=6, schedule="poly", power=1.0)
    run(tmp_path, steps=12, schedule="poly", power=1.0, resume=True)
    rates = {line["step"]: line["train/lr"] for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line}
    assert rates[6] == 0.0 and rates[7] == pytest.approx(1e-2 * (1 - 7 / 12))
    before, after = (read_tensors(tmp_path / f"checkpoints/step_{n:08d}.pt")["net"] for n in (9, 12))
    assert any(not torch.equal(before[key], after[key]) for key in after)


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = np.random.default_rng(0)
    monkeypatch.setattr(time, "time", lambda: float(wild.uniform(-1e9, 1e10)))
    run(tmp_path)
    same(whole, tmp_path)
    assert all(
        0 <= line["train/step_seconds"] < 60 for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line
    )


# -- never into another run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, in which nobody may start another one."""
    folder = tmp_path_factory.mktemp("started")
    run(folder, built=build(), steps=2)
    return folder


def test_a_used_folder_is_refused(started: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(started, built=build(), steps=2)
    assert str(caught.value) == (
        f"{started} holds a run already, at step 2.\n"
        "  Try:  resume=True                 to go on with it (lomix run … --resume)\n"
        '        folder="runs/another"       to start another (lomix run … --folder runs/another)'
    )


def test_resuming_with_other_settings_or_another_network_is_refused(started: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(started, built=build(), steps=1, resume=True)
    assert str(caught.value) == (
        f"{started} was started with other settings.\n"
        "  Seen: steps: 2 before, 1 now\n"
        "  Try:  use the same ones, or another folder; checkpoint_every, other_data, patience, skip_not_finite, "
        "workers may change, and steps may grow"
    )
    with pytest.raises(RunError, match="is of another network or search space"):
        run(started, built=build("mutation"), steps=2, resume=True)


# -- early ends --------------------------------------------------------------------------------------------------------


class Noise(Shapes):
    """Validation data that nothing can learn."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(1, 16, 16, generator=generator), torch.randint(0, 3, (16, 16), generator=generator)


@pytest.mark.slow
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


# -- kills -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # thirty kills
def test_thirty_kills_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(TESTS / "support" / "chaos.py"), str(tmp_path)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
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
