"""What a trained network is for: export."""

from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import app, console
from lomix_search.errors import RunError
from lomix_search.experiments.export.export_network import export_network


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help="a finished run's folder")],
    file: Annotated[Path, typer.Argument(help="where to: FILE.onnx, FILE.pt (TorchScript) or FILE.pt2 (torch.export)")],
    onnx: Annotated[bool, typer.Option("--onnx", help="as ONNX")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="as TorchScript")] = False,
    torch_export: Annotated[bool, typer.Option("--torch-export", help="as a program of torch.export")] = False,
    network: Annotated[str, typer.Option(help='"final" or "best" (on validation)')] = "final",
) -> None:
    """Write a run's network, without heads, as one file for other programs, checked against the network itself."""
    asked = {"onnx": onnx, "torchscript": torchscript, "torch-export": torch_export}
    forms = [name for name, wanted in asked.items() if wanted]
    if len(forms) > 1:
        raise RunError(
            f"--{' and --'.join(forms)}: a file has one form.", hint=f"lomix export {run} {file} --{forms[0]}"
        )
    done = export_network(run, file, forms[0] if forms else None, network)
    console.print(
        f"largest difference from the network itself: {done.difference:.3g}, of values up to {done.largest:.3g}"
    )
    console.print(f"checked on {done.example}")
    console.print(f"takes {'any number of images' if done.batches else 'one image'} at a time")
    console.print(f"written: {done.file}, described by {done.description.name}", soft_wrap=True)
