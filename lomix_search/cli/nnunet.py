"""nnU-Net: where the trainers lie, and what the name of one says."""

from typing import Annotated

import typer

from lomix_search.cli.common import app, console

nnunet_app = typer.Typer(no_args_is_help=True, help="Train inside nnU-Net: where the trainers lie, and their names.")
app.add_typer(nnunet_app, name="nnunet")


@nnunet_app.command("path")
def path_command() -> None:
    """Print the value for nnU-Net's variable nnUNet_extTrainer: folders named there already, and the trainers'."""
    from lomix_search.integrations.nnunet.found import VARIABLE, folders_with_ours

    typer.echo(folders_with_ours())
    # On the other stream, so that $(lomix nnunet path) is the value alone.
    typer.echo(f'export {VARIABLE}="{folders_with_ours()}"', err=True)
    typer.echo("nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerLoMix", err=True)


@nnunet_app.command("trainer")
def trainer_command(
    name: Annotated[str, typer.Argument(help="such as nnUNetTrainerLoMix_anneal_250epochs")] = "nnUNetTrainerLoMix",
) -> None:
    """Say what the name of a trainer stands for, and which words a name may hold."""
    from lomix_search.integrations.nnunet.names import read_trainer_name, words
    from lomix_search.mixture.space import SearchSpace

    choice = read_trainer_name(name)
    maps = SearchSpace.load(choice.space).count(choice.stages)
    length = "as long" if choice.epochs is None else f"for {choice.epochs} epochs"
    console.print(
        f"{name}: {choice.base}, {length}, with {maps} maps of the finest {choice.stages} outputs, "
        f'space "{choice.space}", weights "{choice.weighting}"'
    )
    console.print("names: <nnU-Net's trainer>LoMix[_<weighting>][_<space>][_<n>stages][_<n>epochs]")
    for kind in ("weighting", "space"):
        console.print(f"  {kind}: {', '.join(word for word, field in words().items() if field == kind)}")
