"""Means, intervals and tests against plain loops, SciPy, and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from lomix_search.evaluation.statistics import (
    bootstrap_interval,
    crossed_change,
    holm,
    mean_of_counted,
    patient_bootstrap,
    patient_parts,
    student_change,
    student_margin,
    wilcoxon_p,
)


def test_a_mean_leaves_out_what_is_not_counted() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(mean_of_counted(values, 0), [2, np.nan])
    np.testing.assert_array_equal(mean_of_counted(values, 1), [1, 3])


def test_the_margin_and_the_test_are_scipys() -> None:
    changes = np.random.default_rng(0).normal(0.1, 1, 9)
    low, high = stats.ttest_1samp(changes, 0).confidence_interval()
    mean, half = changes.mean(), student_margin(changes)
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    assert wilcoxon_p(changes) == stats.wilcoxon(changes).pvalue
    assert wilcoxon_p(np.zeros(4)) == 1 and math.isnan(wilcoxon_p(np.ones(1))) and wilcoxon_p(np.ones(4)) == 2 / 2**4


def test_bootstraps_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    changes = rng.normal(0, 1, 20)
    means = [rng.choice(changes, 20).mean() for _ in range(4000)]
    assert bootstrap_interval(changes) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.05)
    assert bootstrap_interval(changes) == bootstrap_interval(changes)
    matrix, patients = rng.random((20, 2)), np.arange(20) // 2
    people = [matrix[patients == p].mean(0) for p in range(10)]
    means = [np.mean([people[i] for i in rng.integers(0, 10, 10)]) for _ in range(4000)]
    found = patient_bootstrap(matrix, patients, 0.95, 2000)
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)
    assert patient_bootstrap(matrix[:2], patients[:2], 0.95, 50) == pytest.approx((matrix[:2].mean(),) * 2)


def test_parts_of_patients_have_the_mean_of_the_whole() -> None:
    matrix = np.random.default_rng(2).random((6, 3))
    single = np.arange(6).astype(str)
    np.testing.assert_allclose(patient_parts(matrix, single), matrix.mean(1))
    matrix[0, 0] = matrix[3, 2] = np.nan
    for patients in (single, np.array(["a", "b", "a", "c", "c", "c"])):
        parts = patient_parts(matrix, patients)
        assert parts.shape == (len(set(patients)),) and parts.mean() == pytest.approx(np.nanmean(matrix, 0).mean())
    matrix[:, 1] = np.nan  # a class that no case has is not counted
    assert patient_parts(matrix, single).mean() == pytest.approx(np.nanmean(matrix[:, [0, 2]], 0).mean())
    assert np.isnan(patient_parts(matrix * np.nan, single)).all()


def test_a_mean_over_one_seed_or_one_patient_is_students() -> None:
    changes = np.random.default_rng(0).normal(0.1, 1, 9)
    known = stats.ttest_1samp(changes, 0)
    for found in (student_change(changes), crossed_change(changes[None]), crossed_change(changes[:, None])):
        assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval()), rel=1e-12)
        assert found.p == pytest.approx(known.pvalue) and found.mean == changes.mean()
    assert student_change(np.zeros(4)).p == 1 and student_change(np.full(4, 0.5)).p == 0
    assert math.isnan(student_change(np.ones(1)).low) and math.isnan(student_change(np.ones(0)).mean)


@pytest.mark.parametrize(("of_seed", "of_patient"), [(0.0, 3.0), (0.3, 1.0)])
def test_crossed_intervals_hold_the_truth_as_often_as_they_say(of_seed: float, of_patient: float) -> None:
    """Five seeds and forty patients, drawn 200 times: an interval over one of the two alone holds it less often."""
    rng, held, agree = np.random.default_rng(7), 0, 0
    for _ in range(200):
        effects = of_seed * rng.normal(size=(5, 1)) + of_patient * rng.normal(size=40)
        found = crossed_change(1 + effects + rng.normal(size=(5, 40)))
        held += found.low <= 1 <= found.high
        agree += (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert held / 200 > 0.925 and agree == 200


def test_crossed_variances_are_those_of_a_plain_analysis() -> None:
    changes = np.random.default_rng(3).normal(size=(4, 7)) + np.arange(4)[:, None] + np.arange(7)
    found, grand = crossed_change(changes), changes.mean()
    seeds = sum(7 * (row.mean() - grand) ** 2 for row in changes) / 3
    patients = sum(4 * (column.mean() - grand) ** 2 for column in changes.T) / 6
    rest = sum(
        (changes[i, j] - changes[i].mean() - changes[:, j].mean() + grand) ** 2 for i in range(4) for j in range(7)
    )
    rest /= 18
    total = seeds + patients - rest
    degrees = total**2 / (seeds**2 / 3 + patients**2 / 6 + rest**2 / 18)
    half = stats.t.ppf(0.975, max(degrees, 3)) * math.sqrt(total / 28)
    assert (found.mean, found.high - found.mean) == (pytest.approx(grand), pytest.approx(half))


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan, "e": 0.5})
    assert found["a"] == pytest.approx(0.04) and found["c"] == found["b"] == pytest.approx(0.09)
    assert found["e"] == 0.5 and math.isnan(found["d"]) and holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
