"""Runs, a mixture and a study that an earlier version wrote still open, in every way that a user opens them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.commands import call
from support.places import TESTS
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.cli.common import console
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.checkpoint import read_tensors

OLD = TESTS / "support/old_run"
EXPECTED = json.loads((OLD / "expected.json").read_text())

# Other code, another processor, another folder: a run of before that goes on says so.
pytestmark = pytest.mark.filterwarnings("ignore:.* goes on from step 40 in other surroundings than before")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folder, as somebody may have it on a disk."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def weights_of(run: Path) -> dict[str, float]:
    return {entry["id"]: entry["weight"] for entry in json.loads((run / "mixture.json").read_text())["maps"]}


def test_it_is_listed_and_compared(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 160)  # whatever COLUMNS was when the console was made
    listed = call("runs", str(old))
    assert all(name in listed for name in ("one", "two", "study/trial_0000")) and "40/40" in listed
    compared = call("runs", "compare", str(old / "one"), str(old / "two"))
    assert "loss.dice" in compared and "search.seed" in compared


def test_its_mixture_is_shown_and_trains_on(old: Path, tmp_path: Path) -> None:
    assert "concat(1,2)" in call("show", str(old / "one/mixture.json"))
    alone = tmp_path / "mailed"
    alone.mkdir()
    for name in ("mixture.json", "mixture.safetensors"):
        shutil.copy(old / "one" / name, alone / name)
    mixture = Mixture.load(alone / "mixture.json")
    loss = MixtureLoss.from_mixture(mixture, weighting="fixed")
    assert dict(zip(loss.map_ids, loss.weighting.weights().tolist(), strict=True)) == pytest.approx(mixture.weights)
    trained = read_tensors(old / "one/checkpoints/step_00000040.pt")["loss"]
    assert len(mixture.operators) == 4, "two of its operators learned"
    assert all(torch.equal(value, trained[f"operators.{key}"]) for key, value in mixture.operators.items())


@pytest.mark.slow
def test_it_goes_on_to_the_result_that_the_code_of_then_found(old: Path) -> None:
    call("run", str(old / "one/recipe.toml"), "search.steps=44", "--folder", str(old / "one"), "--resume")
    assert weights_of(old / "one") == pytest.approx(EXPECTED["weights"], rel=1e-4)
    noted = json.loads((old / "one/mixture.json").read_text())["provenance"]
    assert noted["steps"] == 44 and noted["metrics"] == pytest.approx(EXPECTED["metrics"], abs=0.02)
    dice = json.loads((old / "one/results.json").read_text())["test_dice"]
    for name, scores in EXPECTED["dice"].items():
        assert dice[name]["mean"] == pytest.approx(scores["mean"], abs=0.02)
        assert dice[name]["per_class"] == pytest.approx(scores["per_class"], abs=0.02)


def test_it_is_evaluated_and_compared_case_by_case(old: Path) -> None:
    said = call("evaluate", str(old / "one"), str(old / "two"))
    assert "case" in said
    rows = [line.split(",") for line in (old / "one/evaluation/final/scores.csv").read_text().splitlines()]
    then = [line.split(",") for line in EXPECTED["evaluation"]]
    assert rows[0] == then[0] and [row[:5] for row in rows] == [row[:5] for row in then]
    for row, before in zip(rows[1:], then[1:], strict=True):
        assert [float(value) for value in row[5:]] == pytest.approx([float(value) for value in before[5:]], rel=0.02)


def test_it_is_reported(old: Path) -> None:
    for what in ("one", "study"):
        call("report", str(old / what))
        assert (old / what / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_its_study_goes_on(old: Path) -> None:
    changes = ["network.args.width=4", "search.checkpoint_every=100", "search.steps=6"]
    call("tune", str(old / "recipe.toml"), *changes, "--trials", "3", "--folder", str(old / "study"), "--resume")
    assert sorted(path.name for path in (old / "study").glob("trial_*")) == ["trial_0000", "trial_0001", "trial_0002"]


@pytest.mark.slow  # forty steps anew
def test_it_is_reproduced_but_for_rounding(old: Path) -> None:
    done = CliRunner().invoke(app, ["reproduce", str(old / "one"), "--folder", str(old / "again")])
    assert done.exit_code in (0, 1) and "reproduced bit for bit" in done.output, done.output
    assert weights_of(old / "again") == pytest.approx(weights_of(old / "one"), rel=1e-3)
