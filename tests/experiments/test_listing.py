"""Folders of runs as a list: states, steps and scores; a damaged run hides no other."""

import dataclasses
import io
import json
import math
import shutil
from pathlib import Path

import pytest
from support.refusals import message
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.cli.common import console
from lomix_search.experiments.listing import (
    find_run,
    last_step,
    list_runs,
    locate_run,
    name_in_runs,
    number_text,
    runs_table,
)
from lomix_search.training.trackers import read_lines
from lomix_search.utils.terminal import Terminal

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_runs_are_listed_with_state_step_scores_and_recipe(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {str(run.folder.relative_to(home)): run for run in list_runs(home)}
    assert set(runs) == {"one", "deep/two", "three"}
    assert (runs["one"].state, runs["one"].step, runs["one"].steps, runs["one"].recipe) == ("finished", 4, 4, "recipe")
    results = json.loads((home / "one/results.json").read_text())["test_dice"]
    assert runs["one"].metrics["test.dice.final"] == results["final"]["mean"]
    assert (runs["three"].state, runs["three"].step) == ("failed", 2)
    assert runs["three"].reason == "RunError: the disk is on fire."
    assert runs["three"].metrics["val.dice.best"] == read_lines(home / "three/metrics.jsonl")[2]["val/dice"]
    assert next(run.folder.name for run in list_runs(home)) == "three", "the latest first"
    monkeypatch.setattr(console, "_width", 160)  # whatever COLUMNS was when the console was made
    output = CliRunner().invoke(app, ["runs", str(home)]).output
    assert "deep/two" in output and "the disk is on fire" in output and "4/4" in output


def test_a_damaged_folder_hides_no_other(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "one", tmp_path / "fine")
    shutil.copytree(home / "one", tmp_path / "torn")
    (tmp_path / "torn/status.json").write_text("{")
    states = {run.folder.name: run.state for run in list_runs(tmp_path)}
    assert states == {"fine": "finished", "torn": "damaged"}


def test_runs_of_earlier_versions_are_listed(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "one", tmp_path / "old")
    for name in ("status.json", "environment.json", "seen.npz"):
        (tmp_path / "old" / name).unlink()
    (run,) = list_runs(tmp_path)
    assert run.state == "finished" and run.step == 4


def test_the_last_step_is_read_from_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    filler = "x" * 1000
    log.write_text(
        "".join(json.dumps({"step": i, "note": filler}) + "\n" for i in range(1, 1001)) + '{"step": 1001, "no'
    )
    assert last_step(log) == 1000 and last_step(tmp_path / "none") == 0


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    no = tmp_path / "no"
    assert message(no, act=list_runs) == f'"{no}" is neither a folder nor a name in runs.\n  Try:  lomix runs FOLDER'
    assert message(tmp_path, act=list_runs) == (
        f"{tmp_path} holds no runs.\n  Try:  lomix run chest_ct --folder {tmp_path / 'chest_ct'}"
    )


def test_a_name_in_runs_goes_before_a_folder_that_holds_no_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(home / "one")
    assert locate_run(Path("mine")) == Path("runs/mine") and find_run(Path("mine")) == Path("runs/mine")
    Path("mine").mkdir()  # of the recipe
    assert locate_run(Path("mine")) == Path("runs/mine") and locate_run(Path("runs")) == Path("runs")
    Path("mine/mixture.json").touch()
    assert locate_run(Path("mine")) == Path("mine")
    assert message(Path("min"), act=find_run) == 'no run "min": neither a path nor a name in runs.\n  Try:  mine'
    assert name_in_runs(Path("/a/runs/b-tune/trial_0001")) == "b-tune/trial_0001" and name_in_runs(Path("/a/b")) == "b"


def test_a_list_of_runs_fits_80_columns_and_cuts_no_name(home: Path) -> None:
    runs = [dataclasses.replace(run, folder=home / ("long/" * 12) / run.folder.name) for run in list_runs(home)]
    narrow = Terminal(width=80, record=True, file=io.StringIO())
    narrow.print(runs_table(runs, home))
    lines = narrow.export_text().splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    names = "".join(line.partition("  ")[0].strip() for line in lines[2:])
    assert "long/" * 12 + "one" in names


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("val.dice.best_step", 1.0, "1"), ("val.dice.best_step", 2.0, "2"), ("steps", 1.0, "1"),
        ("steps", 12000.0, "12000"),
        ("val.dice.best", 1.0, "1.0000"), ("test.dice.final, large", 0.5, "0.5000"), ("val.dice.best", math.nan, "–"),
        ("seconds a step", 0.012345, "0.01235"), ("seconds a step", 1.0, "1"), ("peak memory, MiB", 1234.56, "1235"),
        ("effective maps", 38.2571, "38.26"), ("effective maps", 0.0, "0"), ("seconds", math.inf, "+inf"),
        ("seconds", -2.5, "-2.5"), ("parameters", 1234567.0, "1234567"), ("seconds", 1e-9, "0"),
    ],
)  # fmt: skip
def test_one_rule_for_the_numbers_of_a_run(name: str, value: float, text: str) -> None:
    assert number_text(name, value) == text
