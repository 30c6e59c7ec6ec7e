"""Commands that run recipes and score what they left."""

import json
from pathlib import Path

import pytest
from support.commands import call
from support.tiny_recipe import write_tiny
from support.undrawn import undrawn

from lomix_search.evaluation.score_table import read_evaluation
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import load_recipe

SMALL = ["network.args.features=[4, 4, 8, 8, 8, 4]", "search.steps=2", "search.batch_size=2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


@pytest.mark.slow
def test_demo_run_evaluate_and_show() -> None:
    with undrawn():
        output = call("demo", *SMALL)
    assert "upcat_4" in output
    assert "test Dice, final network, also the best on validation (step 2)" in " ".join(output.split())
    assert "one patient" in output and "the ten strongest maps" in output
    for name in ("mixture.json", "results.json"):
        assert Path("runs/demo", name).stat().st_size > 0
    check_found(Path("runs/demo"))
    first = Path("runs/demo/mixture.json").read_bytes()
    with undrawn():
        call("demo", *SMALL)  # starts anew, and comes out the same
    assert Path("runs/demo/mixture.json").read_bytes() == first
    shown = call("evaluate", "runs/demo", "runs/demo", "--network", "best", "--overlays", "1")
    assert "strict" in shown and "Wilcoxon" in shown and "ribs" in shown
    written = {path.name for path in Path("runs/demo/evaluation/best").rglob("*") if path.is_file()}
    assert {"scores.csv", "scores.md"} < written and any(name.endswith(".nii.gz") for name in written)
    assert "tables and predictions: runs/demo/evaluation/final" in call("evaluate", "runs/demo")
    results = json.loads(Path("runs/demo/results.json").read_text())["test_dice"]
    for network in ("final", "best"):  # in other batches, which round otherwise: a pixel may fall over
        again = read_evaluation(Path("runs/demo/evaluation", network)).mean("dice")
        assert again == pytest.approx(results[network]["mean"], abs=1e-3)
    assert "add(1,2,3,4)" in call("show", "runs/demo/mixture.json", "--draw", "space.dot")
    assert 'label="add(1,2,3,4) ' in Path("space.dot").read_text()
    assert call("show", "runs/demo/mixture.json", "--top", "3").count("add(") + 1 >= 3


def check_found(run: Path) -> None:
    mixture = Mixture.load(run / "mixture.json")
    assert [stage.name for stage in mixture.stages] == ["upcat_4", "upcat_3", "upcat_2", "upcat_1"]
    assert mixture.provenance.recipe == "chest_ct" and mixture.provenance.network == "BasicUNet"
    assert len(mixture.maps) == 48
    results = json.loads((run / "results.json").read_text())["test_dice"]
    assert set(results) == {"final", "best"} and 0 <= results["final"]["mean"] <= 1
    assert load_recipe(run / "recipe.toml").search.steps == 2


@pytest.mark.slow
def test_results_are_plain_json() -> None:
    with undrawn():
        call("run", str(write_tiny(Path("recipe"))), "search.steps=2", "--folder", "here")
    assert set(json.loads(Path("here/results.json").read_text())) == {"test_dice"}
