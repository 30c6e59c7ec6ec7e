"""The forms that a network is exported to: how each is written, and how it is read back to be checked."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import require

Runner = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportForm:
    """One form of a network in a file.

    Args:
        name: As the command line has it.
        suffixes: Endings of such files.
        write: ``(network, example, file, batches)``: writes the file; with ``batches`` for any number of images, else
            for as many as the example has.
        read: File → a function that runs it.
        needs: Packages of the extra ``onnx`` without which it is not written.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path, bool], None]
    read: Callable[[Path], Runner]
    needs: tuple[str, ...] = ()


def _write_onnx(network: nn.Module, example: Tensor, file: Path, batches: bool) -> None:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["map"],
        dynamic_shapes=_shapes(batches),
    )
    assert program is not None
    program.save(str(file))


def _read_onnx(file: Path) -> Runner:
    """Return a function that runs a file by onnxruntime, or by the reference of the package ``onnx``."""
    try:
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # warnings of its optimizer are not the user's
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except ImportError:
        session = require("onnx.reference", "onnx").ReferenceEvaluator(str(file))
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _write_torchscript(network: nn.Module, example: Tensor, file: Path, batches: bool) -> None:
    jit: Any = torch.jit
    jit.save(jit.trace(network, example, check_trace=False), str(file))


def _read_torchscript(file: Path) -> Runner:
    jit: Any = torch.jit
    loaded: Runner = jit.load(str(file), map_location="cpu")
    return loaded


def _write_program(network: nn.Module, example: Tensor, file: Path, batches: bool) -> None:
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=_shapes(batches), strict=False), file)


def _read_program(file: Path) -> Runner:
    loaded: Runner = torch.export.load(file).module()
    return loaded


def _shapes(batches: bool) -> Any:
    return ({0: torch.export.Dim("batch")},) if batches else None


EXPORT_FORMS = {
    form.name: form
    for form in (
        ExportForm("onnx", (".onnx",), _write_onnx, _read_onnx, ("onnx", "onnxscript")),
        ExportForm("torchscript", (".pt", ".ts"), _write_torchscript, _read_torchscript),
        ExportForm("torch-export", (".pt2",), _write_program, _read_program),
    )
}
"""By name."""


@contextmanager
def quietly() -> Iterator[None]:
    """Keep back what exporters say of themselves: their deprecations, and of every branch that they follow."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
