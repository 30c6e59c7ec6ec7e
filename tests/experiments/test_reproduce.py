"""Finished runs once more: the same to the last bit, or what differs and by how much."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.refusals import message
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.experiments.reproduce import check_reproduction, reproduce
from lomix_search.training.checkpoint import read_tensors, write_tensors
from lomix_search.training.trackers import read_lines

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.mark.slow
def test_a_run_is_reproduced_bit_for_bit(home: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    found = reproduce(home / "one", again)
    assert found.matched and found.differences == ()
    assert all(line.startswith(("library", "project")) for line in found.environment), "a checkout may be worked on"
    assert str(found).splitlines()[:3] == [
        "reproduced bit for bit", f"  run    {home / 'one'}", f"  again  {again}",
    ]  # fmt: skip
    assert all(len(line) <= 80 for line in str(found).splitlines()[3:])
    assert found.hashes["final"][:12] in str(found)
    assert (again / "mixture.json").read_bytes() == (home / "one/mixture.json").read_bytes()


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
    assert lines[:3] == [
        "not reproduced bit for bit", f"  run    {tmp_path / 'one'}", f"  again  {tmp_path / 'again'}",
    ]  # fmt: skip
    assert lines[-1] == f"  environment: torch: {torch.__version__}, then 2.6.0"
    broken = check_reproduction(tmp_path / "again", tmp_path / "again")
    assert broken.differences[0].startswith("final.pt is not what the run left: its hash was ")


@pytest.mark.slow
def test_reproduce_from_the_command_line(home: Path, tmp_path: Path) -> None:
    run = shutil.copytree(home / "one", tmp_path / "run")
    result = CliRunner().invoke(app, ["reproduce", str(run), "--folder", str(tmp_path / "same")])
    assert result.exit_code == 0 and "reproduced bit for bit" in result.output
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("lr = 0.03", "lr = 0.02"))
    other = CliRunner().invoke(app, ["reproduce", str(run), "--folder", str(tmp_path / "other")])
    assert other.exit_code == 1 and "not reproduced bit for bit" in other.output


def test_what_cannot_be_reproduced_is_refused(home: Path, tmp_path: Path) -> None:
    one, three = home / "one", home / "three"
    assert message(tmp_path, act=reproduce) == f"{tmp_path}: no run folder.\n  Try:  lomix runs   # lists them"
    assert message(home / "three", act=reproduce) == (
        f"{three} holds no finished run.\n  Try:  lomix run {three} --folder {three} --resume"
    )
    assert message(one, home / "three", act=reproduce) == (
        f"{home / 'three'} is there already; nothing was changed.\n"
        "  Try:  --resume         to go on with a repetition that was stopped\n"
        "        --folder OTHER   to start another"
    )
