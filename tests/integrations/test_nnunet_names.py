"""What the name of a trainer says, and what is said of one that says nothing."""

from pathlib import Path

import pytest
from support.commands import call
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.integrations.nnunet.found import trainers_folder
from lomix_search.integrations.nnunet.names import (
    TrainerChoice,
    TrainerNameError,
    is_meant,
    nearest_trainer_name,
    read_trainer_name,
)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("nnUNetTrainerLoMix", TrainerChoice()),
        ("nnUNetTrainerLoMix_anneal_250epochs", TrainerChoice(weighting="anneal", epochs=250)),
        ("nnUNetTrainerLoMix_250epochs_anneal", TrainerChoice(weighting="anneal", epochs=250)),
        ("nnUNetTrainerLoMix_1epoch_anneal", TrainerChoice(weighting="anneal", epochs=1)),
        ("nnUNetTrainerLoMix_1epochs", TrainerChoice(epochs=1)),
        ("nnUNetTrainerLoMix_deep_supervision_3stages", TrainerChoice(space="deep_supervision", stages=3)),
        ("nnUNetTrainerLoMix_auto", TrainerChoice(weighting="auto")),
        ("nnUNetTrainerLoMix_halving_deep_supervision", TrainerChoice(weighting="halving", space="deep_supervision")),
        ("nnUNetTrainerDA5LoMix_uniform_mutation", TrainerChoice("nnUNetTrainerDA5", "uniform", "mutation")),
        ("nnUNetTrainer_warmupLoMix", TrainerChoice("nnUNetTrainer_warmup")),
    ],
)
def test_a_name_says_what_is_trained(name: str, choice: TrainerChoice) -> None:
    assert read_trainer_name(name) == choice


@pytest.mark.parametrize(
    ("name", "why", "nearest"),
    [
        ("nnUNetTrainerLoMix_aneal_250epochs", '"aneal_250epochs" is not known', "LoMix_anneal_250epochs"),
        ("nnUNetTrainerLoMix_250epoch", '"250epoch" is not known', "LoMix_250epochs"),
        ("nnUNetTrainerLoMix_1epoch_2epochs", '"2epochs" is the second that says the epochs', "LoMix_1epochs"),
        ("nnUNetTrainerLoMix_deepsupervision", '"deepsupervision" is not known', "LoMix_deep_supervision"),
        ("nnUNetTrainerLoMix_lookahead", '"lookahead" is not known', "LoMix"),
        ("nnUNetTrainerLoMix_1stages", '"1stages": stages are 2 to 64', "LoMix_2stages"),
        ("nnUNetTrainerLoMix_0epochs", '"0epochs": epochs are 1 to 1000000', "LoMix_1epochs"),
        ("nnUNetTrainerLoMix_uniform_anneal", '"anneal" is the second that says the weighting', "LoMix_uniform"),
        ("nnUNetTrainerLoMix_2epochs_3epochs", '"3epochs" is the second that says the epochs', "LoMix_2epochs"),
        ("nnUNetTrainerLoMixLoMix", '"LoMix" is not known', "LoMix_lomix"),
        ("nnUNetTrainerLoMixanneal", '"anneal" is not known', "LoMix_anneal"),
        ("nnUNetTrainerlomix_anneal", 'it lacks "LoMix"', "LoMix_anneal"),
        ("nnUNetTrainer_Lo_Mix", 'it lacks "LoMix"', "LoMix"),
    ],
)
def test_a_name_that_does_not_exist_names_the_nearest(name: str, why: str, nearest: str) -> None:
    with pytest.raises(TrainerNameError) as caught:
        read_trainer_name(name)
    assert str(caught.value) == (
        f"there is no trainer {name}: {why}.\n"
        "  Seen: <nnU-Net's trainer>LoMix[_<weighting>][_<search space>][_<n>stages][_<n>epochs]\n"
        "        weighting: softplus, normalized, uncertainty, anneal, uniform, halving, random, auto\n"
        "        space: bounded, deep_supervision, extended, last_layer, lomix, mutation\n"
        f"  Try:  -tr nnUNetTrainer{nearest}"
    )
    read_trainer_name(nearest_trainer_name(name))


def test_other_names_are_none_of_ours() -> None:
    assert not any(map(is_meant, ("__path__", "nnUNetTrainer", "nnUNetTrainerDA5", "LoMix")))
    assert all(map(is_meant, ("nnUNetTrainerLoMix", "nnUNetTrainerlomix_x", "nnUNetTrainer_Lo_Mix")))


def test_the_folder_holds_one_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    said = CliRunner().invoke(app, ["nnunet", "path"])
    assert said.stdout == f"{tmp_path}:{trainers_folder()}\n"  # so that the documented line keeps a user's own folder
    assert f'export nnUNet_extTrainer="{tmp_path}:{trainers_folder()}"\n' in said.stderr
    assert [path.name for path in trainers_folder().glob("*.py")] == ["lomix_trainers.py"]


def test_a_name_is_explained() -> None:
    said = call("nnunet", "trainer", "nnUNetTrainerLoMix_anneal_3stages_9epochs")
    assert "nnUNetTrainer, for 9 epochs, with 19 maps of the finest 3" in said.replace("\n", " ").replace("  ", " ")
