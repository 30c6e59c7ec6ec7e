"""In a terminal of 80 columns no line of any command is longer, but for paths and commands to be pasted."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.prepared_recipe import prepared_recipe
from support.twins import save_nifti
from support.undrawn import undrawn
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.cli.common import console
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe

PASTED = ("written: ", "next: ", "      lomix ", "drawn: ", "all in ", "tables and predictions: ", "  run ", "  again ")
"""What lines begin with that hold a path or a command: these stay whole."""

UNET = [
    "monai.networks.nets:DynUNet",
    "spatial_dims=2",
    "in_channels=1",
    "out_channels=3",
    "kernel_size=[3,3,3,3,3,3,3]",
]
UNET += ["strides=[1,2,2,2,2,2,2]", "upsample_kernel_size=[2,2,2,2,2,2]", "filters=[4,4,4,4,4,4,4]"]
UNET += ["--example", "1,1,128,128"]

COMMANDS = {
    "ls": ["ls"],
    "show a space": ["show", "extended", "--stages", "6", "--top", "40"],
    "show": ["show", "one", "--draw", "space.svg"],
    "runs": ["runs"],
    "diff": ["diff", "one", "a_run_of_another_learning_rate_and_of_a_longer_name"],
    "validate": ["validate", "one"],
    "run": ["run", "one", "search.steps=2", "--folder", "runs/again"],
    "train": ["train", "one", "search.steps=2", "--mixture", "one", "--top", "3"],
    "evaluate": ["evaluate", "one", "a_run_of_another_learning_rate_and_of_a_longer_name"],
    "rank": ["rank", "one", "--top", "3"],
    "reproduce": ["reproduce", "one"],
    "report": ["report", "one"],
    "audit": ["audit", "one", "a_run_of_another_learning_rate_and_of_a_longer_name"],
    "export": ["export", "one", "network.pt2"],
    "predict": ["predict", "one", "images", "out"],
    "cp": ["cp", "chest_ct", "a_copy"],
    "inspect": ["inspect", *UNET, "--draw", "net.svg"],
    "doctor": ["doctor", *UNET],
    "nnunet trainer": ["nnunet", "trainer", "nnUNetTrainerLoMix_anneal_250epochs"],
}
AS_JSON = ("ls", "show", "runs", "diff", "validate", "evaluate", "rank", "audit", "inspect", "doctor")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in ``runs`` that looked at held-out data, and one image to predict."""
    home = tmp_path_factory.mktemp("home")
    looking = ["search.steps=4", "weighting.name=lookahead", "weighting.interval=2"]
    with undrawn():
        recipe = load_recipe(prepared_recipe(home), looking)
        run_recipe(recipe, home / "runs/one")
        other = home / "runs/a_run_of_another_learning_rate_and_of_a_longer_name"
        run_recipe(recipe.override({"optimizer.lr": 0.0123456}), other)
    values = np.random.default_rng(0).normal(50, 20, (32, 32, 3)).astype(np.float32)
    save_nifti(home / "images/patient_7.nii.gz", values, np.diag([-1.0, -1, 3, 1]))
    return home


@pytest.fixture(autouse=True)
def _narrow(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(console, "_width", 80)  # COLUMNS is read when the console is made
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    yield


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_fits(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with undrawn():
        result = CliRunner().invoke(app, COMMANDS[name], catch_exceptions=False)
    said = result.output + capfd.readouterr().out
    assert said and result.exit_code in (0, 1), said
    long = [line for line in said.splitlines() if len(line.rstrip()) > 80 and not line.startswith(PASTED)]
    assert long == [], "\n".join(long)
    assert not re.search(r"\b(nan|inf)\b", said), "what is not known is –"


@pytest.mark.slow
@pytest.mark.parametrize("name", AS_JSON)
def test_json_is_all_that_is_printed(name: str) -> None:
    json.loads(CliRunner().invoke(app, [*COMMANDS[name], "--json"], catch_exceptions=False).stdout)
