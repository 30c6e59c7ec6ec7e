"""Runs as things of their own: complete folders, lists, comparisons, repetitions."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support.tiny_recipe import tiny, write_tiny
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.cli.common import console
from lomix_search.errors import RunError
from lomix_search.experiments.environment import environment_of, read_environments
from lomix_search.experiments.listing import last_step, list_runs, summarize_run
from lomix_search.experiments.reproduce import check_reproduction, reproduce
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.run_differences import tell_apart
from lomix_search.experiments.status import Status, read_status
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.checkpoint import read_tensors, write_tensors
from lomix_search.training.surroundings import git_state
from lomix_search.training.trackers import read_lines

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


SMALL = ["space.name=deep_supervision", "search.steps=4", "search.validate_every=2", "network.args.width=8"]
SMALL += ["optimizer.lr=0.03", "loss.ce=0.5"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, another of other settings, and one that failed."""
    home = tmp_path_factory.mktemp("runs")
    run_recipe(tiny(home / "recipe", SMALL), home / "one")
    run_recipe(tiny(home / "recipe", [*SMALL, "optimizer.lr=0.01", "loss.ce=0.7"]), home / "deep/two")

    def broken(step: int, dice: float) -> None:
        raise RunError("the disk is on fire.", hint="water")

    with pytest.raises(RunError, match="on fire"):
        run_recipe(tiny(home / "recipe", SMALL), home / "three", on_validate=broken)
    return home


def shown(what: object) -> str:
    console = Console(width=160, record=True, quiet=False, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_a_run_folder_holds_what_the_run_depended_on(home: Path) -> None:
    (environment,) = read_environments(home / "one")
    assert environment.packages["torch"] == torch.__version__ and environment.threads == torch.get_num_threads()
    assert environment.python == sys.version.split()[0]
    assert environment.data is not None and environment.data.of == "all items and the split"
    status = read_status(home / "one")
    assert status is not None and status.state == "finished" and status.pid == os.getpid()
    assert set(status.weights) == {"final", "best"} and status.peak_memory_mib and status.ended


def test_the_data_hash_follows_the_data(home: Path) -> None:
    recipe = tiny(home / "recipe")
    before = environment_of(recipe, splits := recipe.build_data()).data
    splits.train.images[0][0, 0, 0] += 1  # type: ignore[index]
    assert environment_of(recipe, splits).data != before


def test_git_state_tells_commit_and_changes_apart(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    assert git_state(tmp_path) is None, "before the first commit"
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None and len(clean.commit) == 40 and not clean.dirty and clean.changes is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/new").touch()
    assert git_state(tmp_path) == clean, "untracked files change nothing"
    (tmp_path / "code.py").write_text("2")
    two = git_state(tmp_path)
    (tmp_path / "code.py").write_text("3")
    three = git_state(tmp_path)
    assert two is not None and three is not None and two.dirty and two.changes != three.changes


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


@pytest.mark.slow
def test_a_run_is_running_while_its_process_lives_and_stopped_when_it_was_killed(tmp_path: Path) -> None:
    write_tiny(tmp_path / "recipe")
    command = [sys.executable, "-m", "lomix_search", "run", str(tmp_path / "recipe"), "--folder", str(tmp_path / "run")]
    process = subprocess.Popen([*command, "search.steps=100000", "data.wait=0.01"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while last_step(tmp_path / "run/metrics.jsonl") < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    assert summarize_run(tmp_path / "run").state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert summarize_run(tmp_path / "run").state == "stopped"
    status = read_status(tmp_path / "run")
    assert status is not None and status.state == "running", "it had no time to say so"
    reused = status.model_copy(update={"pid": os.getpid()})
    assert reused.now == "stopped", "another process of the same number"
    elsewhere = status.model_copy(update={"host": "another machine"})
    assert elsewhere.now == "running", "of another machine's processes nothing is known here"


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


def test_comparing_runs(home: Path) -> None:
    found = tell_apart([home / "one", home / "deep/two"])
    assert found.names == ("one", "two")
    assert dict(found.settings) == {"optimizer.lr": (0.03, 0.01), "loss.ce": (0.5, 0.7)}
    assert found.metrics["steps"] == (4.0, 4.0) and "test.dice.final, large" in found.metrics
    ((tau, shared),) = found.agreement.values()
    assert -1 <= tau <= 1 or tau != tau
    assert shared == 1.0 or shared != shared
    assert not found.environment
    text = shown(found)
    assert "optimizer.lr" in text and "Kendall τ" in text
    same = tell_apart([home / "one", home / "one/../one/../../" / home.name / "deep/two", home / "three"])
    assert same.names == ("one", "two", "three")
    assert "all settings are equal" in shown(tell_apart([home / "one", home / "three"]))
    output = CliRunner().invoke(app, ["runs", "compare", str(home / "one"), str(home / "three")]).output
    assert "all settings are equal" in output


def test_a_run_is_reproduced_bit_for_bit(home: Path) -> None:
    found = reproduce(home / "one", home / "one-again")
    assert found.matched and found.differences == ()
    assert all(line.startswith(("library", "project")) for line in found.environment), "a checkout may be worked on"
    assert str(found).startswith(f"reproduced bit for bit: {home / 'one-again'} equals {home / 'one'} in every weight")
    assert found.hashes["final"][:12] in str(found)
    assert (home / "one-again/mixture.json").read_bytes() == (home / "one/mixture.json").read_bytes()
    shutil.rmtree(home / "one-again")


def test_what_is_not_reproduced_is_measured(home: Path, tmp_path: Path) -> None:
    for name in ("one", "again"):
        shutil.copytree(home / "one", tmp_path / name)
    weights = read_tensors(tmp_path / "again/final.pt")
    weights["head.bias"][0] += 0.25
    write_tensors(tmp_path / "again/final.pt", weights)
    lines = read_lines(tmp_path / "again/metrics.jsonl")
    lines[2]["val/dice"] = 0.123
    (tmp_path / "again/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = json.loads((tmp_path / "again/environment.json").read_text())
    content["starts"][0]["packages"]["torch"] = "2.6.0"
    content["starts"][0]["threads"] += 1
    (tmp_path / "again/environment.json").write_text(json.dumps(content))
    found = check_reproduction(tmp_path / "one", tmp_path / "again")
    threads = torch.get_num_threads()
    assert not found.matched
    assert found.differences[0].startswith("final network: 1 of ") and "differ, by up to 0.25;" in found.differences[0]
    assert found.differences[1] == "log: equal before step 2; from there on other val/dice"
    assert found.environment == (
        f"threads: {threads}, then {threads + 1}", f"torch: {torch.__version__}, then 2.6.0",
    )  # fmt: skip
    lines = str(found).splitlines()
    assert lines[0] == f"not reproduced bit for bit: {tmp_path / 'again'} and {tmp_path / 'one'} differ."
    assert lines[-1] == f"  environment: torch: {torch.__version__}, then 2.6.0"
    broken = check_reproduction(tmp_path / "again", tmp_path / "again")
    assert broken.differences[0].startswith("final.pt is not what the run left: its hash was ")


@pytest.mark.slow
def test_reproduce_from_the_command_line(home: Path) -> None:
    result = CliRunner().invoke(app, ["reproduce", str(home / "one"), "--folder", str(home / "cli")])
    assert result.exit_code == 0 and "reproduced bit for bit" in result.output
    recipe = (home / "one/recipe.toml").read_text()
    try:
        (home / "one/recipe.toml").write_text(recipe.replace("lr = 0.03", "lr = 0.02"))
        other = CliRunner().invoke(app, ["reproduce", str(home / "one"), "--folder", str(home / "other")])
    finally:
        (home / "one/recipe.toml").write_text(recipe)
    assert other.exit_code == 1 and "not reproduced bit for bit" in other.output
    for name in ("cli", "other"):
        shutil.rmtree(home / name)


def message(*arguments: object, act: object) -> str:
    with pytest.raises(RunError) as caught:
        act(*arguments)  # type: ignore[operator]
    return str(caught.value)


def test_errors(home: Path, tmp_path: Path) -> None:
    assert message(tmp_path / "no", act=list_runs) == f"{tmp_path / 'no'} is no folder.\n  Try:  lomix runs FOLDER"
    assert message(tmp_path, act=list_runs) == (
        f"{tmp_path} holds no runs.\n  Try:  lomix run chest_ct --folder {tmp_path / 'chest_ct'}"
    )
    one = home / "one"
    assert message([one], act=tell_apart) == (
        "1 run given; a comparison needs two.\n  Try:  lomix runs compare RUN RUN"
    )
    assert message([one, tmp_path], act=tell_apart) == (
        f"{tmp_path}: no run folder.\n  Try:  lomix runs   # lists them"
    )
    assert message([one, one], act=tell_apart) == (f"{one} is given twice.\n  Try:  lomix runs compare RUN ANOTHER")
    assert message(tmp_path, act=reproduce) == f"{tmp_path}: no run folder.\n  Try:  lomix runs   # lists them"
    assert message(home / "three", act=reproduce) == (
        f"{home / 'three'} holds no finished run.\n  Try:  lomix run RECIPE --folder FOLDER --resume"
    )
    assert message(one, home / "three", act=reproduce) == (
        f"{home / 'three'} is there already; nothing was changed.\n"
        "  Try:  --resume         to go on with a repetition that was stopped\n"
        "        --folder OTHER   to start another"
    )
    shutil.copytree(one, tmp_path / "torn")
    (tmp_path / "torn/environment.json").write_text('{"starts": [{"python": 3}]}')
    assert "environment.json has" in message(tmp_path / "torn", act=read_environments)
    assert load_recipe(one / "recipe.toml").search.steps == 4


def test_a_status_reads_back(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    status = Status(state="failed", pid=1, started="2026-01-01T00:00:00+00:00", reason="why")
    (tmp_path / "status.json").write_text(status.model_dump_json())
    assert read_status(tmp_path) == status and status.now == "failed"
