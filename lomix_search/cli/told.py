"""What commands tell scripts of runs and mixtures with ``--json``: the same keys wherever one is told of."""

import dataclasses
from pathlib import Path
from typing import Any

from lomix_search.experiments.listing import summarize_run
from lomix_search.experiments.results import read_results
from lomix_search.mixture.mixture import Mixture


def run_to_dict(run: Path) -> dict[str, Any]:
    """Return what is known of a finished run.

    Args:
        run: Its folder.

    Returns:
        The keys of ``lomix runs --json``; ``test``, by network the keys of ``lomix evaluate --json`` that slices alone
        can fill; ``mixture``, as ``lomix show --json``.
    """
    told = dataclasses.asdict(summarize_run(run))
    test = {
        name: {
            "step": told["step"] if scores.step is None else scores.step,
            "cases": len(scores.cases),
            "mean": {"dice": scores.mean},
            "classes": {"dice": scores.foreground},
        }
        for name, scores in read_results(run).items()
    }
    return {**told, "test": test, "mixture": mixture_to_dict(Mixture.load(run / "mixture.json"))}


def mixture_to_dict(mixture: Mixture, top: int | None = None) -> dict[str, Any]:
    """Return what the table of a mixture shows.

    Args:
        mixture: The mixture.
        top: Only so many of the strongest maps; shares stay those of all.

    Returns:
        Its space, weighting and maps by rank.
    """
    spread = mixture.concentration()
    maps = [
        {"rank": rank, "id": m.id, "weight": m.weight, "share": m.weight / spread.total if spread.total > 0 else 0.0}
        for rank, m in enumerate(mixture.ranked()[:top], 1)
    ]
    told = {"space": mixture.space.name, "weighting": mixture.weighting, "stages": mixture.num_maps}
    return {**told, "sum": spread.total, "effective_maps": spread.effective_maps, "maps": maps}
