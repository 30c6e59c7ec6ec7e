"""``torchrun -m lomix_search run``: what one process finds, and an end for all where one is lost."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.tiny_recipe import write_tiny
from support.torchrun import torchrun

from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.status import read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.trackers import read_lines

SETTINGS = ["space.name=lomix", "search.batch_size=3", "search.checkpoint_every=2", "optimizer.name=SGD",
            "optimizer.lr=0.05", "search.steps=6"]  # fmt: skip


def members(folder: Path) -> Iterator[tuple[int, str]]:
    """Find the processes that torchrun started for a run folder, with their RANK."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = str(folder) in (path / "cmdline").read_text()
            variables = (path / "environ").read_text().split("\0") if ours else []
        except OSError:
            continue
        yield from ((int(path.name), name[5:]) for name in variables if name.startswith("RANK="))


@pytest.mark.slow  # starts torchrun
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_torchrun_ends_when_one_of_its_processes_is_killed(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "recipe")
    folder = tmp_path / "run"
    running = torchrun(str(recipe), "search.steps=100000", "search.checkpoint_every=2", "--folder", str(folder))
    deadline = time.monotonic() + 240
    while not any(line["step"] >= 3 for line in read_lines(folder / "metrics.jsonl")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (victim,) = [pid for pid, rank in members(folder) if rank == "1"]
    os.kill(victim, signal.SIGKILL)
    out, err = running.communicate(timeout=120)
    assert running.returncode != 0 and "process 0 of 2 lost another one" in err.replace("\n", " "), err
    assert not list(members(folder)), "processes were left behind"
    assert not [path for path in folder.rglob(".*")]
    assert out.count("maps supervised") == 1, "one process speaks"
    assert read_status(folder).state == "failed"  # type: ignore[union-attr]


@pytest.mark.slow  # starts torchrun
@pytest.mark.usefixtures("pictures")
def test_torchrun_finds_what_one_process_finds(tmp_path: Path) -> None:
    recipe, one, two = write_tiny(tmp_path / "recipe"), tmp_path / "one", tmp_path / "two"
    running = torchrun(str(recipe), *SETTINGS, "--folder", str(two))
    run_recipe(load_recipe(recipe, SETTINGS), one)
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    assert out.count("test Dice, final network") == 1
    mixtures = [Mixture.load(folder / "mixture.json") for folder in (one, two)]
    # float32 sums of parts of a batch: 4e-6 seen on one processor, less on others; sums left apart give 1e-3
    assert mixtures[0].weights == pytest.approx(mixtures[1].weights, abs=2e-5)
    for key, value in mixtures[0].operators.items():
        torch.testing.assert_close(value, mixtures[1].operators[key], rtol=1e-4, atol=1e-5)
    scores = [json.loads((folder / "results.json").read_text())["test_dice"]["final"]["mean"] for folder in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
