"""Recipes run to the end, train again with what they found, and survive kill -9."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_recipe import tiny, write_tiny
from support.workers import Worker

from lomix_search.errors import MixtureError, RunError
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.results import read_results
from lomix_search.experiments.run import run_recipe
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.mark.usefixtures("pictures")
def test_a_run_folder_is_complete(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_recipe(tiny(tmp_path / "recipe", ["search.steps=2", "space.name=lomix"]), run)
    assert {path.name for path in run.iterdir()} == {
        "best.heads.pt", "best.pt", "checkpoints", "data.json", "environment.json", "final.heads.pt",
        "final.pt", "metrics.jsonl", "mixture.json",
        "mixture.safetensors", "predictions.png", "recipe.toml", "results.json", "seen.npz", "status.json",
        "weights.png",
    }  # fmt: skip
    assert all((run / name).stat().st_size > 5000 for name in ("predictions.png", "weights.png"))


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("lr", [1e-30, 1e-2])  # the first changes no bit, so that best and final are one network
def test_test_data_are_read_once_where_best_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lr: float
) -> None:
    read: list[int] = []

    def counted(*given: Any, **named: Any) -> Any:
        read.append(len(given[1]))
        return score_items(*given, **named)

    monkeypatch.setattr("lomix_search.experiments.run.score_items", counted)
    quick = [f"optimizer.lr={lr}", "search.steps=2", "search.validate_every=1", "space.name=lomix"]
    run_recipe(tiny(tmp_path / "recipe", quick), tmp_path / "run")
    best, final = (read_tensors(tmp_path / "run" / f"{name}.pt") for name in ("best", "final"))
    same = all(torch.equal(best[key], final[key]) for key in final)
    assert len(read) == (1 if same else 2) and (same or lr > 1e-3)
    written = read_results(tmp_path / "run")
    if same:
        assert written["best"].mean == written["final"].mean


def test_only_networks_that_a_run_left_are_evaluated(finished_run: Path) -> None:
    with pytest.raises(RunError, match='network "last": unknown'):
        evaluate_run(finished_run, "last")


def test_a_found_mixture_trains_again_as_fixed_weights(finished_run: Path, tmp_path: Path) -> None:
    pruned = Mixture.load(finished_run / "mixture.json").prune(top=5)
    pruned.save(tmp_path / "top5.json")
    fixed = ["search.steps=2", "weighting.name=fixed", f"weighting.mixture={tmp_path / 'top5.json'}"]
    outcome = run_recipe(tiny(tmp_path / "recipe", fixed), tmp_path / "again", score_test=False)
    again = outcome.result.mixture
    assert again.weighting == "fixed" and again.weights == pytest.approx(pruned.weights)


def test_a_mixture_of_another_network_is_refused(finished_run: Path, tmp_path: Path) -> None:
    recipe, given = write_tiny(tmp_path / "recipe"), f"weighting.mixture={finished_run / 'mixture.json'}"
    parts = recipe / "parts.py"  # with a stage more
    deeper = parts.read_text().replace("[conv(1, width),", "[conv(1, width), conv(width, width),")
    parts.write_text(deeper.replace("conv(3 * width, width)]", "conv(3 * width, width), conv(2 * width, width)]"))
    with pytest.raises(MixtureError, match="this mixture was found on another network"):
        run_recipe(load_recipe(recipe, ["weighting.name=fixed", given]), tmp_path / "other")


def test_one_folder_holds_one_run(finished_run: Path) -> None:
    recipe = load_recipe(finished_run / "recipe.toml")
    with pytest.raises(RunError, match="holds a run already; nothing was changed"):
        run_recipe(recipe, finished_run)
    with pytest.raises(RunError, match="was started with another recipe") as caught:
        run_recipe(recipe.override({"loss.ce": 0.3, "search.seed": 9}), finished_run, resume=True)
    told = str(caught.value)  # each setting by its key, those of [search] too, and the line that gives all of them back
    assert "loss.ce: 0.5 before, 0.3 now" in told and "search.seed: 0 before, 9 now" in told and "{" not in told
    again = told.splitlines()[-1].split()
    assert set(again) == {"loss.ce=0.5", "search.seed=0"}


@pytest.mark.slow  # wandb starts a process of its own
def test_wandb_is_offline_and_gets_no_paths(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    quick = ["search.steps=2", "space.name=last_layer", "track.wandb=true"]
    run_recipe(tiny(tmp_path / "recipe", quick), tmp_path / "tracked", score_test=False)
    (file,) = (tmp_path / "tracked").rglob("run-*.wandb")
    deadline = time.monotonic() + 60  # wandb's own process may write a little later
    while not all(word in (content := file.read_bytes()) for word in (b"train/loss", b"AdamW", b"mixture")):
        assert time.monotonic() < deadline, content
        time.sleep(0.2)
    assert str(tmp_path).encode() not in content


@pytest.mark.slow  # three processes
def test_kill_9_and_resume_gives_the_same_mixture(tmp_path: Path) -> None:
    settings = ["search.steps=14", "search.checkpoint_every=4", "search.validate_every=5", "data.wait=0.02"]
    recipe = write_tiny(tmp_path / "recipe")
    command = ["run", str(recipe), *settings, "--folder", str(tmp_path / "killed")]
    for step in (2, 7):  # before the first checkpoint after the start, and between two others
        process = Worker(*command)
        wait_for(tmp_path / "killed/metrics.jsonl", step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not (tmp_path / "killed/mixture.json").exists()
        command = [*command, "--resume"] if step == 2 else command
    last = Worker(*command)
    said = last.communicate()
    assert last.returncode == 0, said
    run_recipe(tiny(tmp_path / "recipe", settings), tmp_path / "whole")
    for name in ("mixture.json", "mixture.safetensors", "results.json"):
        one, other = (tmp_path / run / name for run in ("killed", "whole"))
        assert one.exists() == other.exists(), name
        assert not one.exists() or one.read_bytes() == other.read_bytes(), name


def wait_for(path: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(line["step"] >= step for line in read_lines(path)):
        assert time.monotonic() < deadline, f"no step {step} in {path}"
        time.sleep(0.02)
