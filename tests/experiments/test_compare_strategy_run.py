"""The finished runs of a comparison: scores by case and patient, of today's folders and those of before."""

import json
from pathlib import Path

import numpy as np
import pytest

from lomix_search.errors import RunError
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.experiments.compare.strategy_run import case_dice, read_runs, read_strategy_run, seconds_a_step
from lomix_search.experiments.results import read_patients, read_results, write_results

DICE = np.array([[0.9, 0.5, np.nan], [0.9, 0.25, 0.75]])


def test_results_keep_whose_a_case_is(tmp_path: Path) -> None:
    scored = DiceResult(("background", "large", "small"), ("p1_ED", "p1_ES"), DICE)
    both = {"final": scored, "best": scored}
    write_results(tmp_path, both, 3, {"p1_ED": "p1", "p1_ES": "p1", "p2_ED": "p2"})
    assert read_patients(tmp_path) == {"p1_ED": "p1", "p1_ES": "p1"}  # p2 was not tested
    found = case_dice(read_results(tmp_path)["final"], read_patients(tmp_path))
    assert found is not None and (found.cases, found.patients) == (("p1_ED", "p1_ES"), ("p1", "p1"))
    assert found.classes == ("large", "small")
    np.testing.assert_array_equal(found.dice, DICE[:, 1:])
    write_results(tmp_path, both, 3)  # as earlier versions did
    assert "patients" not in json.loads((tmp_path / "results.json").read_text()) and read_patients(tmp_path) == {}
    assert read_patients(tmp_path / "none") == {} and read_results(tmp_path / "none") == {}


def test_a_folder_without_scores_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no test scores"):
        read_strategy_run(tmp_path, "last_layer", 1.0, 1)
    (tmp_path / "last_layer/labels_1/seed_1/run").mkdir(parents=True)  # begun and not finished
    assert read_runs(tmp_path, ["last_layer"]) == []


def test_runs_are_found_in_the_order_asked_for(tmp_path: Path, home: Path) -> None:
    for slug, part, seed in (("uniform", "0.1", 2), ("uniform", "0.1", 1), ("anneal-until=1", "1", 1), ("x", "1", 1)):
        place = tmp_path / slug / f"labels_{part}" / f"seed_{seed}"
        place.mkdir(parents=True)
        (place / "run").symlink_to(home / "one")
    found = read_runs(tmp_path, ["anneal(until=1)", "uniform"])
    assert [(r.strategy, r.labels, r.seed) for r in found] == [
        ("anneal(until=1)", 1.0, 1), ("uniform", 0.1, 1), ("uniform", 0.1, 2), ("x", 1.0, 1),
    ]  # fmt: skip
    assert list(found[0].curve) == [2, 4] and found[0].seconds > 0
    assert found[0].tested is not None and found[0].tested.dice.shape == (2, 2)


def test_looks_are_spread_over_the_steps() -> None:
    lines = [
        {"train/step_seconds": 1.0},
        {"train/step_seconds": 1.0},
        {"train/step_seconds": 4.0, "lookahead/slopes": []},
    ]
    assert seconds_a_step(lines) == pytest.approx(2.0) and np.isnan(seconds_a_step([{"step": 1}]))
