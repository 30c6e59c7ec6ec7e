"""Two evaluations of the same cases: paired by patient, or refused."""

import io

import pytest
from support.score_tables import score_table

from lomix_search.errors import DataError
from lomix_search.evaluation.paired_evaluations import paired_test
from lomix_search.utils.terminal import Terminal


def test_differences_are_paired_by_patient() -> None:
    found = paired_test(score_table(0), score_table(0.05), names=("plain", "mixture"))
    mean = found.rows[0]
    assert mean.patients == 6 and mean.difference == pytest.approx(0.05)
    assert (mean.low, mean.high) == pytest.approx((0.05, 0.05)) and mean.p == pytest.approx(2 / 2**6)
    assert [row.label for row in found.rows] == ["mean", "a", "b"] and "| mixture |" in found.to_markdown()
    same = paired_test(score_table(0), score_table(0)).rows[0]
    assert same.p == 1 and same.difference == 0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(DataError) as error:
        paired_test(score_table(0), score_table(0, cases=10))
    assert str(error.value) == (
        "the two evaluations have different cases and cannot be paired.\n"
        "  Seen: only in A: p5_0, p5_1\n        only in B: –\n"
        "  Try:  score both on the same cases: lomix evaluate RUN RUN"
    )
    with pytest.raises(DataError, match=r'no measure "dic" in protocol strict\. Nearest: "dice"'):
        paired_test(score_table(0), score_table(0), "dic")


def test_one_patient_has_neither_an_interval_nor_a_p() -> None:
    text = paired_test(score_table(0, cases=2), score_table(0.05, cases=2)).to_markdown()
    assert "| +0.0500 | – | – | 1 |" in text and "nan" not in text


def test_long_names_stand_below_the_table() -> None:
    names = ("runs/a-very-long-name-of-a-run/fold0", "runs/another")
    narrow = Terminal(width=80, record=True, file=io.StringIO())
    narrow.print(paired_test(score_table(0), score_table(0.05), names=names))
    text = narrow.export_text()
    assert all(name in text for name in names) and max(map(len, text.splitlines())) <= 80
    assert "+0.0500 … +0.0500 │" in text and text.count("…") == 3, "one for each row, and no name is cut off"
