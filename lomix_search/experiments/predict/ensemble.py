"""Finished runs that predict together: their networks, and what all of them must have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lomix_search.data.case import Case
from lomix_search.data.image_form import ImageForm
from lomix_search.errors import RunError
from lomix_search.evaluation.inference import InferenceOptions, Prediction
from lomix_search.evaluation.prediction_files import prediction_paths, save_prediction, save_probabilities
from lomix_search.evaluation.region_files import region_paths, save_regions
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.trained import Trained, load_trained
from lomix_search.instrumentation.outputs import Reader, reader_of
from lomix_search.training.checkpoint import tensors_sha256


@dataclass(frozen=True)
class Ensemble:
    """Networks whose probabilities are averaged.

    Args:
        members: The runs, at least one.
        form: How images are prepared for all of them.
        how: How cases are predicted.
    """

    members: tuple[Trained, ...]
    form: ImageForm
    how: InferenceOptions

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, the background first; of multi-label runs those of the regions."""
        return self.members[0].data.classes

    def readers(self) -> list[Reader]:
        """Return what reads the logits of each network."""
        return [reader_of(member.predictor, len(self.classes), self.how.multilabel) for member in self.members]

    def paths(self, out: Path, name: str, probabilities: bool) -> list[Path]:
        """Return the files of an image's prediction, in the order in which they are written."""
        picture, values, data = self.form.pictures, self.form.values, self.members[0].data
        if not data.multilabel:
            return prediction_paths(out, name, picture, probabilities=probabilities, values=values)
        masks = self.members[0].recipe.evaluate.masks
        of_scores = prediction_paths(out, name, picture, probabilities=True)[:-1] if probabilities else []
        return [*of_scores, *region_paths(out, name, picture, data.classes, data.regions, masks, values, data.written)]

    def save(self, out: Path, case: Case, prediction: Prediction) -> None:
        """Write an image's prediction, as evaluation writes it."""
        data = self.members[0].data
        if prediction.probabilities is not None:
            save_probabilities(out, case, prediction.probabilities)
        if data.multilabel:
            masks = self.members[0].recipe.evaluate.masks
            save_regions(out, case, prediction, data.classes, data.regions, masks, data.written)
        else:
            save_prediction(out, case, prediction, len(data.classes))

    def settings(self) -> dict[str, Any]:
        """Return what a prediction depends on, as plain values."""
        return {
            "runs": [member.folder.resolve().name for member in self.members],
            "weights": [tensors_sha256(m.folder / f"{m.network}.pt") for m in self.members],
            "network": self.members[0].network,
            "classes": list(self.classes),
            "masks": self.members[0].recipe.evaluate.masks,
            **({"written": list(written)} if (written := self.members[0].data.written) else {}),
            **({"sum_stages": True} if self.members[0].recipe.evaluate.sum_stages else {}),
            "flips": self.how.flips,
            "window": None if self.how.window is None else list(self.how.window),
            "overlap": None if self.how.window is None else self.how.overlap,
        }


def load_ensemble(
    runs: Sequence[Path],
    network: str = "final",
    *,
    flips: bool | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    device: str | None = None,
) -> Ensemble:
    """Load the runs that predict together.

    Args:
        runs: Run folders; the folder of a cross-validation stands for all of its folds.
        network: ``"final"`` or ``"best"`` of each.
        flips: Average over flips; as the recipe's ``[evaluate]`` says when left out, like the others.
        overlap: Share that neighbouring windows have in common, in [0, 1).
        batch_size: Slices or windows at a time.
        device: Where the networks run.

    Returns:
        The networks, ready.

    Raises:
        RunError: not a finished run, runs of other classes or another preparation, or data of one's own function, which
            alone knows how images are made.
    """
    folders = [one for run in runs for one in (fold_runs(run) or [run])]
    members = tuple(load_trained(folder, network, device) for folder in folders)
    if not members:
        raise RunError("no run is named.", hint="lomix predict RUN IMAGES OUT")
    _check_alike(members)
    first = members[0]
    if first.data.form is None:
        raise RunError(
            f"{first.folder}: its images come from a function of your own, data.kind = {first.data.kind!r}; only that "
            "function knows how a raw image is made into what the network takes.",
            hint=["lomix new FOLDER --images IMAGES --masks MASKS   # or lomix prepare: runs on prepared data know it",
                  f"lomix export {first.folder} network.onnx   # or use the network in your own program"],
        )  # fmt: skip
    how = first.recipe.inference_of(first.data.item, first.data.window, multilabel=first.data.multilabel)
    if overlap is not None and how.window is None:
        raise RunError(
            f"--overlap {overlap:g}: {first.folder} predicts whole slices, without windows.",
            hint="leave --overlap out",
        )
    changes = {"flips": flips, "overlap": overlap, "batch_size": batch_size}
    given = {key: value for key, value in changes.items() if value is not None}
    return Ensemble(members, first.data.form, replace(how, **given))  # type: ignore[arg-type]


def _check_alike(members: Sequence[Trained]) -> None:
    """Refuse runs that do not answer the same question."""
    first = members[0]
    for other in members[1:]:
        for what, one, two in (
            ("classes", first.data.classes, other.data.classes),
            ("regions", first.data.regions, other.data.regions),
            ("values of regions", first.data.written, other.data.written),
            ("size of an item", first.data.item, other.data.item),
            ("preparation of images", first.data.form, other.data.form),
            ("[evaluate]", first.recipe.evaluate, other.recipe.evaluate),
        ):
            if one != two:
                raise RunError(
                    f"{first.folder} and {other.folder} cannot predict together: they differ in {what}.",
                    seen=[f"{first.folder}: {one}", f"{other.folder}: {two}"],
                    hint="name runs of one data set and recipe, such as the folds of a cross-validation",
                )
