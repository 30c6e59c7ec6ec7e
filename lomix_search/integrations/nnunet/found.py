"""A trainer's name becomes a class: nnU-Net's trainer with ``LoMixTrainer`` before it."""

import functools
import os
from pathlib import Path

from lomix_search.errors import require
from lomix_search.integrations.nnunet.names import TrainerNameError, is_meant, read_trainer_name
from lomix_search.integrations.nnunet.trainer import LoMixTrainer

VARIABLE = "nnUNet_extTrainer"
"""Names the folders in which nnU-Net looks for trainers that are not its own."""


def trainers_folder() -> Path:
    """Return the folder to name in ``nnUNet_extTrainer``."""
    return Path(__file__).parent / "trainers"


def folders_with_ours() -> str:
    """Return what ``nnUNet_extTrainer`` should hold: the folders it names already, and ours."""
    ours = str(trainers_folder())
    named = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder.strip()]
    return os.pathsep.join([*named, *([] if ours in named else [ours])])


def trainer_called(name: str) -> type:
    """Answer nnU-Net's search, which asks each module for a name and goes on where it has none.

    Args:
        name: That the module is asked for.

    Returns:
        The trainer.

    Raises:
        AttributeError: there is no such trainer here. Where one of ours seems to be meant, what is wrong with the name
            is printed among the lines of nnU-Net's search, whose own error ends it if no other folder has the trainer.
    """
    if not is_meant(name):
        raise AttributeError(name)
    try:
        return trainer_class(name)
    except TrainerNameError as error:
        print(f"  LoMix: {error}")
        raise AttributeError(name) from None


@functools.cache
def trainer_class(name: str) -> type:
    """Return the trainer of a name, to be run by nnU-Net or built upon.

    Args:
        name: ``nnUNetTrainerLoMix`` and so on; ``names`` has the grammar.

    Returns:
        A subclass of the trainer of nnU-Net's that the name begins with. Its attribute ``lomix`` holds the choices.

    Raises:
        TrainerNameError: the name says something unknown, or there is no trainer to build upon.
        MissingExtraError: nnU-Net is not installed.
    """
    choice = read_trainer_name(name)
    find = require("nnunetv2.utilities.find_objects", "nnunet").recursive_find_trainer_class_by_name
    try:
        base = find(choice.base)
    except RuntimeError as cause:
        raise TrainerNameError(
            f"there is no trainer {name}: nnU-Net finds no {choice.base} to build it upon.",
            seen=str(cause).partition(". ")[0],
            hint=f"-tr nnUNetTrainer{name[len(choice.base) :]}, or name the folder of {choice.base} in {VARIABLE}",
        ) from None
    if issubclass(base, LoMixTrainer):
        raise TrainerNameError(
            f"{choice.base} is a LoMix trainer already; {name} would mix its mixture.", hint=f"-tr {choice.base}"
        )
    return type(name, (LoMixTrainer, base), {"lomix": choice, "__doc__": f"{choice.base} with a mixture as its loss."})
