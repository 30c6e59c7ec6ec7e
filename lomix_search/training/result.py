"""What a search leaves: the trained network, the mixture that was found, and the scores of validation."""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import Provenance
from lomix_search.training.run_folder import writing
from lomix_search.training.state import TrainingState
from lomix_search.utils.distributed import on_main
from lomix_search.utils.shipped import VERSION


@dataclass(frozen=True)
class Result:
    """What a search leaves.

    Args:
        mixture: Maps and found weights; also in ``folder/mixture.json``.
        final: Validation scores of the last network; None without validation data.
        best_dice: Highest mean validation Dice seen, NaN without validation data.
        best_step: The step it was seen at.
        folder: The run folder. ``final.pt`` and ``best.pt`` hold the state_dict of the user's own network.
    """

    mixture: Mixture
    final: DiceResult | None
    best_dice: float
    best_step: int
    folder: Path


def leave_result(state: TrainingState, final: DiceResult | None, provenance: Provenance) -> Result:
    """Write ``final.pt`` and ``mixture.json``.

    Args:
        state: A search that has taken its last step.
        final: Validation scores of the network as it is.
        provenance: What to note in the mixture file besides seed, steps, versions and metrics.

    Returns:
        What the search leaves.

    Raises:
        RunError: a file cannot be written.
    """
    known = provenance.model_copy(update=_noted(state) | {"metrics": provenance.metrics | _metrics(state, final)})
    mixture = state.loss.mixture(stages=getattr(state.net, "stages", ()), provenance=known)
    on_main(partial(_write, state, mixture))
    return Result(mixture, final, state.best_dice, state.best_step, state.folder)


def _write(state: TrainingState, mixture: Mixture) -> None:
    state.write_network("final.pt")
    path = state.folder / "mixture.json"
    with writing(path):
        mixture.save(path)


def _noted(state: TrainingState) -> dict[str, object]:
    versions = {"lomix_search": VERSION, "torch": torch.__version__, "python": sys.version.split()[0]}
    warnings = tuple(filter(None, (state.monitor.warning, state.silent.last_words)))
    return {"seed": state.plan.search.seed, "steps": state.step, "versions": versions, "warnings": warnings}


def _metrics(state: TrainingState, final: DiceResult | None) -> dict[str, float]:
    metrics = {"val.dice.final": final.mean, "val.dice.best": state.best_dice} if final else {}
    if not math.isnan(state.best_dice):
        metrics["val.dice.best_step"] = float(state.best_step)
    return metrics
