"""``lomix export RUN FILE``: the trained network without its heads as one file, checked against the network itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LomixError, RunError, nearest, require
from lomix_search.experiments.export.forms import EXPORT_FORMS, ExportForm, quietly
from lomix_search.experiments.trained import Trained, load_trained
from lomix_search.instrumentation.stages.stage import ReturnedLogits
from lomix_search.instrumentation.trace import pick
from lomix_search.training.checkpoint import tensors_sha256
from lomix_search.utils.files import appearing, write_text
from lomix_search.utils.random import seeded
from lomix_search.utils.shipped import VERSION

_CLOSE = 1e-3  # of the largest value that the network returns; other kernels round differently
_ENDS = {"": "logits", "softmax": "probabilities by softmax", "sigmoid": "probabilities by sigmoid"}


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        file: The network.
        description: ``FILE.json``: form of input and output, preparation, classes, and the checks.
        difference: Largest difference between the file's output and the network's own.
        largest: Largest value of the network's own output, which the difference is to be seen against.
        batches: Whether it takes any number of images; else one at a time.
        example: On what it was checked.
    """

    file: Path
    description: Path
    difference: float
    largest: float
    batches: bool
    example: str


def export_network(run: str | Path, file: str | Path, form: str | None = None, network: str = "final") -> Exported:
    """Export a finished run's network.

    The file holds the user's own network without heads. It takes a float32 batch (B, C, *spatial), prepared as its
    description says, and returns what the network returns: of several outputs, the main map alone.

    Args:
        run: The run folder.
        file: Where to; ``FILE.json`` beside it describes it. Both appear whole or not at all.
        form: ``"onnx"``, ``"torchscript"`` or ``"torch-export"``; by the file's ending when left out.
        network: ``"final"``, or ``"best"`` on validation.

    Returns:
        Where it is, and how far it is from the network.

    Raises:
        RunError: not a finished run, an ending that does not fit, a network that the exporter refuses, or a file whose
            output is not the network's.
        MissingExtraError: the packages for ONNX are not installed.
    """
    path = Path(file)
    chosen = _form_of(path, form)
    for package in chosen.needs:
        require(package, "onnx")
    trained = load_trained(Path(run), network, "cpu")
    images, example = _examples(trained)
    returned = trained.net.stages.returned
    main = _MainMap(trained.net.strip().eval(), returned)
    with torch.no_grad(), quietly():
        whole = main(images)
        with appearing(path) as temporary:
            batches = _write(chosen, main, images, temporary)
            difference = _difference(chosen, temporary, images, whole, batches)
            if len(list(temporary.parent.iterdir())) > 1:
                raise RunError(
                    f"{path}: this network needs more than one file in the form {chosen.name}.",
                    hint="another form: FILE.onnx, FILE.pt or FILE.pt2",
                )
            done = Exported(
                path, path.with_name(path.name + ".json"), difference, float(whole.abs().max()), batches, example
            )
            write_text(
                done.description, json.dumps(_description(trained, chosen, returned, whole, done), indent=1) + "\n"
            )
    return done


class _MainMap(nn.Module):
    """The user's network; of several things that it returns, the main map alone."""

    def __init__(self, model: nn.Module, returned: ReturnedLogits) -> None:
        super().__init__()
        self.model, self.place = model, returned.place

    def forward(self, image: Tensor) -> Tensor:
        """Run it."""
        found = self.model(image)
        chosen: Tensor = found if isinstance(found, Tensor) else pick(found, self.place)
        return chosen


def _form_of(path: Path, form: str | None) -> ExportForm:
    """Return the form that is asked for; the file's ending must be one of its own."""
    by_ending = next((f for f in EXPORT_FORMS.values() if path.suffix in f.suffixes), None)
    if form is not None and form not in EXPORT_FORMS:
        raise RunError(f'form "{form}": unknown. {nearest(form, EXPORT_FORMS)}')
    chosen = by_ending if form is None else EXPORT_FORMS[form]
    if chosen is None:
        endings = [f"{f.suffixes[0]} for {name}" for name, f in EXPORT_FORMS.items()]
        raise RunError(f"{path}: its ending tells no form.", hint=f"end it in {', '.join(endings)}")
    if path.suffix not in chosen.suffixes:
        raise RunError(
            f"{path}: a file of the form {chosen.name} ends in {' or '.join(chosen.suffixes)}.",
            hint=f"{path.with_suffix(chosen.suffixes[0])}",
        )
    if path.is_dir():
        raise RunError(f"{path} is a folder; nothing was written.", hint=f"{path / ('network' + chosen.suffixes[0])}")
    return chosen


def _examples(trained: Trained) -> tuple[Tensor, str]:
    """Return two images to check with: real ones where the run's data can be opened, else noise."""
    try:
        items = trained.recipe.build_data().val
        images = torch.stack([items[index][0] for index in (0, len(items) - 1)])
        if images.shape[1:] == trained.data.item:
            return images, f"two validation items of the run's data: {items.names[0]}; {items.names[len(items) - 1]}"
        block = items.example()[0]
        return torch.stack([block, block.flip(-1)]), f"a block of the run's data and its mirror image: {items.names[0]}"
    except (LomixError, OSError, RuntimeError):  # the data are gone, or pictures differ in size
        with seeded(0):
            return torch.rand(2, *trained.data.item), "noise in 0 … 1, for the run's data could not be opened"


def _write(form: ExportForm, main: nn.Module, images: Tensor, file: Path) -> bool:
    """Write the file; return whether it takes any number of images."""
    try:
        form.write(main, images, file, True)
        run = form.read(file)
        return all(len(run(images[:count])) == count for count in (1, 2))
    except Exception:  # exporters refuse in errors of many classes; what is fixed to one image may still pass
        file.unlink(missing_ok=True)
    try:
        form.write(main, images[:1], file, False)
    except Exception as cause:
        raise RunError(
            f"{type(main.get_submodule('model')).__name__} cannot be exported in the form {form.name}; nothing was "
            "written.",
            seen=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else ''}",
            hint=f"another form: {', '.join(name for name in EXPORT_FORMS if name != form.name)}",
        ) from cause
    return False


def _difference(form: ExportForm, file: Path, images: Tensor, whole: Tensor, batches: bool) -> float:
    """Return how far the file's output is from the network's own, or refuse it."""
    run = form.read(file)
    found = run(images) if batches else torch.cat([run(image[None]) for image in images])
    if found.shape != whole.shape or not torch.isfinite(whole).all():
        raise RunError(
            "the exported file returns another shape than the network, or the network values that are not finite.",
            seen=f"{tuple(found.shape)} and {tuple(whole.shape)}",
            hint="another form: FILE.onnx, FILE.pt or FILE.pt2",
        )
    difference, largest = float((found - whole).abs().max()), float(whole.abs().max())
    if not difference <= _CLOSE * max(largest, 1e-6):
        raise RunError(
            f"the file of the form {form.name} does not compute what the network does; nothing was written.",
            seen=f"largest difference {difference:.3g}, largest value {largest:.3g}",
            hint="a branch on the input's shape or values may be frozen in it; try another form",
        )
    return difference


def _description(
    trained: Trained, form: ExportForm, returned: ReturnedLogits, whole: Tensor, done: Exported
) -> dict[str, Any]:
    """Return what a program must know that runs the file."""
    data = trained.data
    return {
        "format": form.name,
        "input": {
            "name": "image",
            "type": "float32",
            "shape": ["batch" if done.batches else 1, *data.item],
            "axes": ["batch", "channel", *["slice", "row", "column"][-len(data.item) + 1 :]],
            "channels": data.item[0],
            "prepared": None if data.form is None else data.form.model_dump(mode="json"),
        },
        "output": {
            "name": "map",
            "shape": ["batch" if done.batches else 1, *whole.shape[1:]],
            "holds": _ENDS.get(returned.ends, returned.ends),
            "classes": list(data.classes),
        },
        "check": {"on": done.example, "largest_difference": done.difference, "largest_value": done.largest},
        "run": {
            "name": trained.folder.resolve().name,
            "network": trained.network,
            "weights": tensors_sha256(trained.folder / f"{trained.network}.pt"),
            "recipe": trained.recipe.name,
        },
        "versions": {"lomix_search": VERSION, "torch": torch.__version__},
    }
