"""An evaluation of random scores, two cases a patient, to compute intervals and tests of."""

import numpy as np

from lomix_search.evaluation.score_table import ClassScores, Evaluation


def score_table(shift: float, cases: int = 12, seed: int = 0) -> Evaluation:
    rng = np.random.default_rng(seed)
    rows = [
        ClassScores(
            f"p{i // 2}_{i % 2}", f"p{i // 2}", c, {"dice": rng.uniform(0.5, 0.9) + shift, "hd95": float("nan")}
        )
        for i in range(cases)
        for c in ("a", "b")
    ]
    return Evaluation("strict", "mm", tuple(rows))
