"""``torchrun -m lomix_search run --folds``: the folds one after another, each on all processes."""

import json
from pathlib import Path

import pytest
from support.prepared_recipe import prepared_recipe
from support.torchrun import torchrun

from lomix_search.experiments.status import read_status


@pytest.mark.slow  # starts torchrun
def test_two_processes_run_the_folds_together(tmp_path: Path) -> None:
    recipe, folder = prepared_recipe(tmp_path), tmp_path / "cv"
    out, err = torchrun(str(recipe), "--folds", "2", "--folder", str(folder)).communicate(timeout=300)
    found = json.loads((folder / "folds.json").read_text())
    assert found["folds"] == 2 and len(found["validation"]["dice"]["classes"]["one"]["folds"]) == 2, err
    states = [read_status(folder / f"fold{k}") for k in (0, 1)]
    assert [state and state.state for state in states] == ["finished", "finished"]
    assert out.count("maps supervised") == 2, "one process speaks, once a fold"
    assert "Traceback" not in err
