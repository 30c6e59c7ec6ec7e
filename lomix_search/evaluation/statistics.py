"""The statistics of the package, all in one place: means, intervals, and the test of paired differences.

Every function takes plain arrays. The modules that fill them from cases, patients or seeds say which of these they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import require

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanChange:
    """The mean of paired differences and what is known of it; NaN where a single pair tells nothing.

    Args:
        mean: The mean.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Two-sided p-value of a mean of 0; below 0.05 exactly where the interval leaves 0 out.
    """

    mean: float
    low: float
    high: float
    p: float


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


def patient_parts(matrix: _Floats, patients: NDArray[Any]) -> _Floats:
    """Share the mean over classes of their means over cases out to the patients; the mean of the parts is that mean.

    Where every case has every class, and every patient one case, a part is the patient's mean over the classes.
    Elsewhere it is the linear part of what the patient does to the mean; parts of two networks can be subtracted.

    Args:
        matrix: (cases, classes); NaN where there is nothing to score.
        patients: Whose each case is.

    Returns:
        (patients,), in the order in which patients first come; NaN where nothing at all is scored.
    """
    owners = list(dict.fromkeys(patients.tolist()))
    owner = np.array([patients == p for p in owners], float).reshape(len(owners), len(matrix))
    counts, means = (~np.isnan(matrix)).sum(0), mean_of_counted(matrix, 0)
    away = owner @ np.where(np.isnan(matrix), 0.0, matrix - means)  # (patients, classes), what lies above the mean
    parts = means + len(owners) * away / np.maximum(counts, 1)
    return mean_of_counted(np.where(counts > 0, parts, np.nan), 1)


def student_change(changes: _Floats) -> MeanChange:
    """Return the mean of independent paired differences, by Student's t.

    Args:
        changes: (n,), any number.

    Returns:
        The mean; interval and p are NaN for fewer than two pairs.
    """
    if len(changes) < 2:
        return MeanChange(float(changes.mean()) if len(changes) else math.nan, math.nan, math.nan, math.nan)
    return _by_student(float(changes.mean()), float(changes.var(ddof=1)) / len(changes), len(changes) - 1)


def crossed_change(changes: _Floats) -> MeanChange:
    """Return the mean of paired differences that share seeds and patients, as a mean over other seeds and patients.

    The mixed model of two crossed random effects: a difference is a mean + something of the seed + something of the
    patient + the rest. Its variances are those of the analysis of variance (Searle, Casella and McCulloch, Variance
    Components, 1992, chapter 4), none below 0, and t has the degrees of freedom of Satterthwaite (1946).

    Args:
        changes: (seeds, patients), without NaN.

    Returns:
        The mean. With one patient only the seeds are drawn, with one seed only the patients.
    """
    seeds, patients = changes.shape
    if seeds < 2 or patients < 2:
        return student_change(changes.ravel())
    mean, by_seed, by_patient = changes.mean(), changes.mean(1), changes.mean(0)
    rest = changes - by_seed[:, None] - by_patient + mean
    free = (seeds - 1, patients - 1, (seeds - 1) * (patients - 1))
    within = float((rest**2).sum()) / free[2]
    of_seed = max(within, patients * float(((by_seed - mean) ** 2).sum()) / free[0])
    of_patient = max(within, seeds * float(((by_patient - mean) ** 2).sum()) / free[1])
    total = of_seed + of_patient - within
    spent = of_seed**2 / free[0] + of_patient**2 / free[1] + within**2 / free[2]
    degrees = max(total**2 / spent, min(free[:2])) if spent > 0 else free[2]
    return _by_student(float(mean), total / changes.size, degrees)


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for testing several things at once, by Holm (1979).

    Args:
        values: p-values by name; NaN is no test and is not counted.

    Returns:
        The corrected ones by name, at most 1, NaN where there was NaN.
    """
    tested = sorted((p, name) for name, p in values.items() if not math.isnan(p))
    corrected, highest = dict.fromkeys(values, math.nan), 0.0
    for place, (p, name) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * p))
        corrected[name] = highest
    return corrected


def _by_student(mean: float, variance: float, degrees: float) -> MeanChange:
    """Return interval and p of a mean whose variance is estimated with so many degrees of freedom."""
    error = math.sqrt(variance)
    if error == 0.0:  # every pair has the same difference
        return MeanChange(mean, mean, mean, 1.0 if mean == 0.0 else 0.0)
    t = require("scipy.stats", "data").t
    half = float(t.ppf(0.975, degrees)) * error
    return MeanChange(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, degrees)))


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
