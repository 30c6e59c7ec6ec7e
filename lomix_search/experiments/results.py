"""``results.json`` of a run folder: what the trained networks scored on the test data."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, Field

from lomix_search.errors import RunError
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.training.run_folder import writing
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.schema import Frozen, build_typed


class DiceScores(Frozen):
    """Test Dice of one network.

    Args:
        mean: Mean over the foreground classes; NaN or None where there was nothing to score, here and below.
        per_class: By class name, the background first; or by region.
        cases: One row a case: its name under ``case``, the Dice of each foreground class, and their mean.
        step: The step the network is of, where that is not the last one.
        multilabel: The classes are regions that may overlap, without a background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    mean: float | None
    per_class: dict[str, float | None]
    cases: tuple[dict[str, float | str | None], ...]
    step: int | None = None
    multilabel: bool = False

    @property
    def foreground(self) -> dict[str, float | None]:
        """Means of the foreground classes, or the regions."""
        return dict([*self.per_class.items()][0 if self.multilabel else 1 :])


class _Results(Frozen):
    test_dice: dict[str, DiceScores]
    patients: dict[str, str] = Field(default_factory=dict)


def write_results(
    folder: Path, scores: Mapping[str, DiceResult], best_step: int, patients: Mapping[str, str] | None = None
) -> None:
    """Write the test scores of a run.

    Args:
        folder: The run folder.
        scores: Scores by network (``final``, ``best``).
        best_step: The step that the network ``best`` is of.
        patients: Whose a case is, where that is another name than the case's.

    Raises:
        RunError: the file cannot be written.
    """
    table = {name: {"mean": s.mean, "per_class": s.per_class, "cases": s.rows()} for name, s in scores.items()}
    for name, scored in scores.items():
        table[name] |= {"multilabel": True} if scored.multilabel else {}
    table["best"]["step"] = best_step
    tested = {case for scored in scores.values() for case in scored.cases}
    owners = {case: patient for case, patient in (patients or {}).items() if case in tested}
    content = {"test_dice": table, **({"patients": owners} if owners else {})}
    with writing(folder / "results.json"):
        write_text(folder / "results.json", json.dumps(content, indent=2) + "\n")


def read_results(folder: Path) -> Mapping[str, DiceScores]:
    """Read the test scores of a run.

    Args:
        folder: The run folder.

    Returns:
        Scores by network (``final``, ``best``); empty where nothing was scored.

    Raises:
        RunError: the file is damaged.
    """
    return _read(folder).test_dice


def read_patients(folder: Path) -> Mapping[str, str]:
    """Read whose the test cases of a run are.

    Args:
        folder: The run folder.

    Returns:
        Patient by case; a case that is not named is a patient of its own.

    Raises:
        RunError: the file is damaged.
    """
    return _read(folder).patients


def _read(folder: Path) -> _Results:
    path = folder / "results.json"
    if not path.exists():
        return _Results(test_dice={})
    return build_typed(_Results, read_json(path, RunError), str(path), RunError)
