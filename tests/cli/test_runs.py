"""Commands that run recipes and score what they left."""

import json
from pathlib import Path

import pytest
from support.commands import call
from support.tiny_recipe import write_tiny
from support.undrawn import undrawn

SMALL = ["network.args.features=[4, 4, 8, 8, 8, 4]", "search.steps=2", "search.batch_size=2", "space.name=mutation"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_demo_run_evaluate_and_show() -> None:
    output = call("demo", *SMALL)
    assert "upcat_4" in output and "test Dice, final network (step 2)" in output
    assert "one patient" in output and "the ten strongest maps" in output
    for name in ("mixture.json", "predictions.png", "weights.png", "results.json"):
        assert Path("runs/demo", name).stat().st_size > 0
    first = Path("runs/demo/mixture.json").read_bytes()
    with undrawn():
        call("demo", *SMALL)  # starts anew, and comes out the same
    assert Path("runs/demo/mixture.json").read_bytes() == first
    shown = call("evaluate", "runs/demo", "runs/demo", "--network", "best", "--overlays", "1")
    assert "strict" in shown and "Wilcoxon" in shown and "ribs" in shown
    written = {path.name for path in Path("runs/demo/evaluation/best").rglob("*") if path.is_file()}
    assert {"scores.csv", "scores.md"} < written and any(name.endswith(".nii.gz") for name in written)
    assert "add(1,2,3,4)" in call("show", "runs/demo/mixture.json", "--draw", "space.svg")
    assert "<svg" in Path("space.svg").read_text()
    assert call("show", "runs/demo/mixture.json", "--top", "3").count("add(") + 1 >= 3


def test_results_are_plain_json() -> None:
    with undrawn():
        call("run", str(write_tiny(Path("recipe"))), "search.steps=2", "--folder", "here")
    assert set(json.loads(Path("here/results.json").read_text())) == {"test_dice"}
