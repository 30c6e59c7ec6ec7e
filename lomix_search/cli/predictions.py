"""What a trained network is for: new images, and other programs."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import RUN, AsJson, app, console, print_json
from lomix_search.errors import RunError
from lomix_search.utils.terminal import plain


@app.command("predict")
def predict_command(
    places: Annotated[
        list[Path],
        typer.Argument(
            help="finished runs, by folder or name (several are averaged; a cross-validation stands for its folds), "
            "then a folder of images or one image, then where predictions go",
            metavar="RUN… IMAGES OUT",
        ),
    ],
    network: Annotated[str, typer.Option(help='"final" or "best" (on validation)')] = "final",
    probabilities: Annotated[bool, typer.Option("--probabilities", help="also write that of each class")] = False,
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="average over flips (default: the recipe's)")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="share in [0, 1) that neighbouring windows have in common (default: 0.5 of volumes, 0.25 of slices)"
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="slices or windows at a time (default: the recipe's)")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, … (default: the GPU, if any)")] = None,
    as_json: AsJson = False,
) -> None:
    """Segment new images, without labels; the same command again goes on where it was stopped."""
    from lomix_search.experiments.listing import find_run
    from lomix_search.experiments.predict.predict_images import predict_images

    if len(places) < 3:
        raise RunError("a run, images and a folder for predictions are needed.", hint="lomix predict RUN IMAGES OUT")
    *runs, images, out = places
    done = predict_images(
        [find_run(run) for run in runs],
        images,
        out,
        network=network,
        probabilities=probabilities,
        flips=flips,
        overlap=overlap,
        batch_size=batch_size,
        device=device,
        progress=True,
    )
    if as_json:
        print_json({"folder": out, **dataclasses.asdict(done)})
        raise typer.Exit(1 if done.faults else 0)
    before = f", {len(done.skipped)} were there before" if done.skipped else ""
    console.print(f"{len(done.done)} predicted{before}: {out}", soft_wrap=True)
    if done.note:
        console.print(done.note, soft_wrap=True)
    for name, fault in done.faults.items():
        console.print(plain((f"{name}: ", "red"), fault), soft_wrap=True)
    if done.faults:
        console.print(f"{len(done.faults)} of {len(done.done) + len(done.skipped) + len(done.faults)} images failed")
        raise typer.Exit(1)


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help=f"finished, {RUN}", metavar="RUN")],
    file: Annotated[
        Path,
        typer.Argument(help="where to: FILE.onnx, FILE.pt (TorchScript) or FILE.pt2 (torch.export)", metavar="FILE"),
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="as ONNX")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="as TorchScript")] = False,
    torch_export: Annotated[bool, typer.Option("--torch-export", help="as a program of torch.export")] = False,
    network: Annotated[str, typer.Option(help='"final" or "best" (on validation)')] = "final",
    as_json: AsJson = False,
) -> None:
    """Write a run's network, without heads, as one file for other programs, checked against the network itself."""
    from lomix_search.experiments.export.export_network import export_network
    from lomix_search.experiments.listing import find_run

    asked = {"onnx": onnx, "torchscript": torchscript, "torch-export": torch_export}
    forms = [name for name, wanted in asked.items() if wanted]
    if len(forms) > 1:
        raise RunError(
            f"--{' and --'.join(forms)}: a file has one form.", hint=f"lomix export {run} {file} --{forms[0]}"
        )
    done = export_network(find_run(run), file, forms[0] if forms else None, network)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    console.print(
        f"largest difference from the network itself: {done.difference:.3g}, of values up to {done.largest:.3g}"
    )
    console.print(f"checked on {done.example}")
    console.print(f"takes {'any number of images' if done.batches else 'one image'} at a time")
    console.print(f"written: {done.file}, described by {done.description.name}", soft_wrap=True)
