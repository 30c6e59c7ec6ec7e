"""The statistics of the package, all in one place: means, intervals, and the test of paired differences.

Every function takes plain arrays. The modules that fill them from cases, patients or seeds say which of these they are.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import require

_Floats = NDArray[np.float64]


def mean_of_counted(values: _Floats, axis: int) -> _Floats:
    """Return the mean of all values that are not NaN; NaN, without a warning, where there are none.

    Args:
        values: Any shape.
        axis: Which axis to average over.

    Returns:
        The means.
    """
    counted = ~np.isnan(values)
    total, count = np.where(counted, values, 0.0).sum(axis), counted.sum(axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def deviation(values: _Floats) -> float:
    """Return the standard deviation (n − 1); NaN for a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def patient_bootstrap(matrix: _Floats, patients: NDArray[Any], level: float, draws: int) -> tuple[float, float]:
    """Return a bootstrap interval of the mean over classes, drawing whole patients with replacement.

    Args:
        matrix: (cases, classes); NaN where there is nothing to score.
        patients: Whose each case is.
        level: Share of the draws inside.
        draws: Number of draws; the same every time.

    Returns:
        Its lower and its upper end. They are equal for one patient, who says nothing about others.
    """
    known = ~np.isnan(matrix)
    owner = np.array([patients == p for p in dict.fromkeys(patients.tolist())], float)  # (patients, cases)
    sums, counts = owner @ np.where(known, matrix, 0), owner @ known
    drawn = np.random.default_rng(0).multinomial(len(owner), np.full(len(owner), 1 / len(owner)), draws)
    total = drawn @ counts
    means = np.where(total > 0, drawn @ sums / np.maximum(total, 1), np.nan)
    found = mean_of_counted(means, 1)
    found = found[~np.isnan(found)] if not np.isnan(found).all() else found
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def means_by_patient(matrix: _Floats, patients: NDArray[Any]) -> _Floats:
    """Return the mean over the cases of each patient.

    Args:
        matrix: (cases, classes); NaN where there is nothing to score.
        patients: Whose each case is.

    Returns:
        (patients, classes), in the order in which patients first come; NaN where a patient has nothing to score.
    """
    found = dict.fromkeys(patients.tolist())
    return np.array([mean_of_counted(matrix[patients == patient], 0) for patient in found])


def bootstrap_interval(changes: _Floats, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of paired differences.

    Args:
        changes: One for each pair; at least one.
        draws: Number of draws; the same every time.

    Returns:
        Its lower and its upper end.
    """
    chosen = np.random.default_rng(0).integers(0, len(changes), (draws, len(changes)))
    low, high = np.quantile(changes[chosen].mean(1), [0.025, 0.975])
    return float(low), float(high)


def student_margin(changes: _Floats) -> float:
    """Return half the width of the 95 % interval of Student's t around the mean.

    Args:
        changes: At least two values.

    Returns:
        The margin.
    """
    quantile = require("scipy.stats", "data").t.ppf(0.975, len(changes) - 1)
    return float(quantile * changes.std(ddof=1) / math.sqrt(len(changes)))


def wilcoxon_p(changes: _Floats) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test of paired differences.

    Args:
        changes: One for each pair; of n pairs, p cannot fall below 2/2ⁿ.

    Returns:
        The p-value; 1 where nothing differs, NaN for a single pair.
    """
    if len(changes) < 2:
        return math.nan
    if not changes.any():
        return 1.0
    return float(require("scipy.stats", "data").wilcoxon(changes).pvalue)


def mean_and_margin(values: _Floats) -> tuple[float, float]:
    """Return the mean of a series and half the width of its 95 % interval.

    Args:
        values: At least one; neighbours may be correlated.

    Returns:
        Mean and margin; the margin of a single value is infinite.
    """
    mean, number = float(values.mean()), len(values)
    if number < 3:
        return mean, math.inf
    centred = values - mean
    variance = float(centred @ centred)
    near = float(centred[1:] @ centred[:-1]) / variance if variance > 0 else 0.0
    near = min(max(near, 0.0), 0.95)
    return mean, 1.96 * math.sqrt(variance / (number - 1) / number * (1 + near) / (1 - near))
