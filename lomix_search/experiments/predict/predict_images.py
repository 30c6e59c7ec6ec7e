"""``lomix predict RUN IMAGES OUT``: every image of a folder, one at a time, whole or not at all."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.progress import track

from lomix_search.data.case import Case
from lomix_search.data.folders.new_images import find_new_images, left_out, read_new_image
from lomix_search.errors import DataError, LomixError, MissingExtraError, RunError
from lomix_search.evaluation.inference import Prediction, predict_case
from lomix_search.experiments.predict.ensemble import Ensemble, load_ensemble
from lomix_search.experiments.predict.record import claim_predictions
from lomix_search.instrumentation.outputs import Reader
from lomix_search.training.run_folder import hold
from lomix_search.utils.files import UNFINISHED
from lomix_search.utils.terminal import Terminal


@dataclass(frozen=True)
class Predicted:
    """What became of the images.

    Args:
        done: Names of those that were predicted.
        skipped: Names of those that had been before.
        faults: Why others were not, by name.
        note: What to know of the grid that predictions are on, where it is not that of the images as they came; and
            which files of the folder are of a kind that is not read.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    faults: Mapping[str, str]
    note: str = ""


def predict_images(
    runs: str | Path | Sequence[str | Path],
    images: str | Path,
    out: str | Path,
    *,
    network: str = "final",
    probabilities: bool = False,
    flips: bool | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Predicted:
    """Segment new images, as their run segments its test cases.

    One image is in memory at a time. A prediction appears whole or not at all. Called again, it goes on: what is there
    is skipped, unless its image is newer. An image that cannot be read or predicted does not stop the others.

    Args:
        runs: A run folder, or several whose probabilities are averaged; the folder of a cross-validation stands for all
            of its folds.
        images: A folder, whose subfolders are looked into, or a single file: any format that training reads.
        out: Where predictions go: named like their images, on the image's own grid, with the label values of the files
            that the run was trained on. Volumes become ``.nii.gz``, pictures ``.png``. ``predictions.json`` says by
            what they were made.
        network: ``"final"``, or ``"best"`` on validation.
        probabilities: Also write the probability of each class: ``NAME_probabilities.nii.gz`` (4D float32, classes on
            the last axis) for volumes, ``NAME_probabilities.npz`` (float32, (classes, rows, columns)) for pictures.
        flips: Average over flips of rows and columns; as the recipe's ``[evaluate]`` says when left out.
        overlap: Share that neighbouring windows have in common, in [0, 1).
        batch_size: Slices or windows at a time.
        device: ``cpu``, ``cuda``, …; the GPU, where there is one, when left out.
        progress: Show a progress bar.

    Returns:
        What became of each image.

    Raises:
        RunError: no finished run, runs that do not fit together, or a folder with predictions by something else.
        DataError: there are no images, or two of one name.
    """
    named = [runs] if isinstance(runs, str | Path) else list(runs)
    source, target = Path(images), Path(out)
    found = find_new_images(source)
    _check_places(source, target)
    _check_numbers(overlap, batch_size)
    ensemble = load_ensemble(
        [Path(run) for run in named], network, flips=flips, overlap=overlap, batch_size=batch_size, device=device
    )
    if (known := ensemble.form.preparation.preprocessed) is not None:
        found = find_new_images(source, known.folder)
    with hold(target):
        _remove_leftovers(target)
        targets = _targets(ensemble, found, target, probabilities)
        every = (path for paths in targets.values() for path in paths)
        claim_predictions(target, ensemble.settings() | {"probabilities": probabilities}, every)
        made = _predict_all(ensemble, found, targets, target, probabilities, progress)
    notes = (ensemble.form.note, left_out(source))
    return replace(made, note="\n".join(note for note in notes if note))


def _check_places(source: Path, target: Path) -> None:
    """Refuse to write among the images: next time predictions would be taken for images."""
    inside = source.resolve() if source.is_dir() else source.resolve().parent
    if source.is_dir() and target.resolve().is_relative_to(inside):
        raise RunError(
            f"{target} lies in {source}; its predictions would be taken for images the next time.",
            hint=f"lomix predict RUN {source} {source.resolve().parent / 'predictions'}",
        )
    if target.resolve() == inside:
        raise RunError(f"{target} is where the image lies; a prediction could take its place.", hint="another folder")


def _check_numbers(overlap: float | None, batch_size: int | None) -> None:
    if overlap is not None and not 0 <= overlap < 1:
        raise RunError(f"--overlap {overlap:g}: lies outside [0, 1).", hint="--overlap 0.5")
    if batch_size is not None and batch_size < 1:
        raise RunError(f"--batch-size {batch_size}: at least 1 is needed.", hint="--batch-size 4")


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed process had begun; nobody else writes here now."""
    for path in out.rglob(f"{UNFINISHED}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _predict_all(
    ensemble: Ensemble,
    found: Mapping[str, tuple[Path, ...]],
    targets: Mapping[str, list[Path]],
    out: Path,
    probabilities: bool,
    progress: bool,
) -> Predicted:
    done, skipped, faults, readers = [], [], dict[str, str](), ensemble.readers()
    for name, files in track(found.items(), "predict", console=Terminal(stderr=True), disable=not progress):
        if _made(targets[name], files):
            skipped.append(name)
            continue
        try:
            made = _predict_one(ensemble, readers, name, files, probabilities)
        except MissingExtraError:
            raise  # it would be the same for every image
        except torch.OutOfMemoryError as cause:
            fault = RunError(f"{files[0]} needs more memory than the GPU has.", seen=str(cause), hint="--batch-size 1")
            faults[name] = str(fault)
        except MemoryError as cause:
            faults[name] = str(DataError(f"{files[0]} does not fit into memory.", seen=str(cause)))
        except LomixError as fault:
            faults[name] = str(fault)
        else:
            _save(ensemble, out, *made)
            done.append(name)
    return Predicted(tuple(done), tuple(skipped), faults)


def _targets(
    ensemble: Ensemble, found: Mapping[str, tuple[Path, ...]], out: Path, probabilities: bool
) -> dict[str, list[Path]]:
    """Return the files of each prediction; no two images may have one."""
    targets = {name: ensemble.paths(out, name, probabilities) for name in found}
    owner: dict[Path, str] = {}
    for name, paths in targets.items():
        for path in paths:
            if (other := owner.setdefault(path, name)) != name:
                raise DataError(
                    f"the predictions of {found[other][0]} and {found[name][0]} would both be {path}.",
                    hint="rename one of the images, or predict without --probabilities",
                )
    return targets


def _made(targets: Sequence[Path], files: Sequence[Path]) -> bool:
    """Say whether an image was predicted after it was last changed."""
    if not all(path.is_file() for path in targets):
        return False
    changed = max(path.stat().st_mtime for path in files)
    return all(path.stat().st_mtime >= changed for path in targets)


def _predict_one(
    ensemble: Ensemble, readers: Sequence[Reader], name: str, files: Sequence[Path], probabilities: bool
) -> tuple[Case, Prediction]:
    case = ensemble.form.prepare(read_new_image(files), name, files)
    networks = [member.predictor for member in ensemble.members]
    return case, predict_case(networks, case, ensemble.how, read=readers, all_classes=probabilities)


def _save(ensemble: Ensemble, out: Path, case: Case, prediction: Prediction) -> None:
    """Write a prediction; where the disk is full or read-only, no other could be written either, and all ends."""
    try:
        ensemble.save(out, case, prediction)
    except OSError as cause:
        raise RunError(
            f"{cause.filename or out} cannot be written: {cause.strerror or cause}.",
            hint="free some space, then the same command again; what was written before is whole",
        ) from None
