"""Means, intervals and tests against plain loops, SciPy, and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from lomix_search.evaluation.statistics import (
    bootstrap_interval,
    mean_of_counted,
    patient_bootstrap,
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
