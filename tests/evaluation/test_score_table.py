"""The table of all scores: intervals by patient, and files that hold none."""

from pathlib import Path

import numpy as np
import pytest
from support.score_tables import score_table

from lomix_search.errors import DataError
from lomix_search.evaluation.score_table import ClassScores, Evaluation, read_evaluation


def test_intervals_are_drawn_by_patient() -> None:
    """Doubling every case of a patient adds no evidence."""
    once = score_table(0)
    doubled = Evaluation(
        "strict", "mm", (*once.rows, *(ClassScores(r.case + "x", r.patient, r.label, r.scores) for r in once.rows))
    )
    assert once.interval("dice") == pytest.approx(doubled.interval("dice"))
    low, high = once.interval("dice")
    assert low < once.mean("dice") < high
    assert (
        np.isnan(once.interval("hd95")).all()
        and np.isnan(once.mean("hd95"))
        and once.per_class("dice").keys() == {"a", "b"}
    )


def test_scores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no scores"):
        read_evaluation(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_evaluation(tmp_path / "nothing.csv")


def test_one_patient_has_no_interval() -> None:
    one, several = score_table(0, cases=2), score_table(0, cases=4)
    assert one.to_dict()["interval"] == {"dice": None, "hd95": None} and "95 % interval" not in one.to_markdown()
    assert several.to_dict()["interval"]["dice"][0] < several.mean("dice") and "95 % interval" in several.to_markdown()
    assert "one patient says nothing about others" in one.to_markdown()
