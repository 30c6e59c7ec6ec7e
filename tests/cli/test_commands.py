"""The command line, called as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import call, failing
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.recipe import load_recipe

SMALL = ["network.args.features=[4, 4, 8, 8, 8, 4]", "search.steps=2", "search.batch_size=2", "space.name=mutation"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_ls_lists_recipes_and_spaces() -> None:
    output = call("ls")
    assert "chest_ct" in output
    assert all(name in output for name in ("last_layer", "deep_supervision", "mutation", "lomix", "extended"))


def test_cp_copies_what_runs_and_never_overwrites(capfd: pytest.CaptureFixture[str]) -> None:
    assert "next: lomix run mine/chest_ct" in call("cp", "chest_ct", "mine")
    assert load_recipe("mine/chest_ct") == load_recipe("chest_ct").model_copy()
    call("cp", "lomix", "mine")
    assert SearchSpace.load("mine/lomix.toml") == SearchSpace.load("lomix")
    assert "mine/chest_ct exists already; nothing was copied." in failing(capfd, "cp", "chest_ct", "mine")
    assert 'no shipped recipe or space "lomx". Nearest: "lomix"' in failing(capfd, "cp", "lomx")


def test_demo_run_evaluate_and_show() -> None:
    output = call("demo", *SMALL)
    assert "upcat_4" in output and "test Dice, final network (step 2)" in output
    assert "one patient" in output and "the ten strongest maps" in output
    for name in ("mixture.json", "predictions.png", "weights.png", "results.json"):
        assert Path("runs/demo", name).stat().st_size > 0
    first = Path("runs/demo/mixture.json").read_bytes()
    call("demo", *SMALL)  # starts anew, and comes out the same
    assert Path("runs/demo/mixture.json").read_bytes() == first
    shown = call("evaluate", "runs/demo", "runs/demo", "--network", "best", "--overlays", "1")
    assert "strict" in shown and "Wilcoxon" in shown and "ribs" in shown
    written = {path.name for path in Path("runs/demo/evaluation/best").rglob("*") if path.is_file()}
    assert {"scores.csv", "scores.md"} < written and any(name.endswith(".nii.gz") for name in written)
    assert "add(1,2,3,4)" in call("show", "runs/demo/mixture.json", "--draw", "space.svg")
    assert "<svg" in Path("space.svg").read_text()
    assert call("show", "runs/demo/mixture.json", "--top", "3").count("add(") + 1 >= 3


def test_show_of_no_map_is_not_show_of_all() -> None:
    for top in ("0", "-1"):
        result = CliRunner().invoke(app, ["show", "lomix", "--top", top])
        assert result.exit_code == 2 and "add(1,2)" not in result.output


def test_show_a_space() -> None:
    output = call("show", "lomix", "--stages", "5", "--draw", "space.dot")
    assert "109 maps for 5 stages: P1, P2, P3, P4, P5, add(1,2)" in output
    assert Path("space.dot").read_text().startswith("digraph")


def test_inspect_a_network_of_a_file() -> None:
    Path("net.py").write_text(
        "from monai.networks.nets import BasicUNet\n\n\n"
        "def build():\n    return BasicUNet(2, 1, 3, (4, 4, 8, 8, 8, 4))\n"
    )
    output = call("inspect", "net.py:build", "--example", "1,1,32,32")
    assert output.index("upcat_4") < output.index("upcat_1")
    assert "48 maps" in output
    direct = call(
        "inspect",
        "monai.networks.nets.BasicUNet",
        "spatial_dims=2",
        "features=[4, 4, 8, 8, 8, 4]",
        "--example",
        "1,1,32,32",
    )
    assert [line.split()[:2] for line in direct.splitlines()[3:8]] == [
        line.split()[:2] for line in output.splitlines()[3:8]
    ]


def test_inspect_draws_and_doctor_measures() -> None:
    network = [
        "monai.networks.nets.BasicUNet",
        "spatial_dims=2",
        "features=[4, 4, 8, 8, 8, 4]",
        "--example",
        "2,1,32,32",
    ]
    call("inspect", *network, "--draw", "net.svg")
    call("inspect", *network, "--draw", "net.html", "--stages", "upcat_2,upcat_1")
    assert "stage 4" in Path("net.svg").read_text() and "stage 3" not in Path("net.html").read_text()
    output = call("doctor", *network)
    assert "supervised maps   48" in output and "time per step" in output and "loss engine" in output


def test_validate() -> None:
    assert "one patient validates" in call("validate", "chest_ct")


def test_tune_prints_the_best_trials() -> None:
    output = call("tune", "chest_ct", *SMALL, "--trials", "1")
    assert "best trials" in output and "val.dice.best" in output and "optimizer.lr" in output


def test_errors_print_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    error = failing(
        capfd, "run", "chest_ct", "optimizer.lrr=1", "search.steps=0", "wat=1", "loss.ce=-1", "track.wandb=maybe"
    )
    assert error.startswith("RecipeError: chest_ct has 5 faults.")
    assert 'optimizer.lrr: unknown. Nearest: "lr".' in error and "Traceback" not in error
    assert 'no recipe "chest": neither shipped nor a file. Nearest: "chest_ct"' in failing(capfd, "run", "chest")
    assert '--example "big" is no shape.' in failing(capfd, "inspect", "monai.networks.nets:VNet", "--example", "big")
    assert "MODEL.in_channels: missing." in failing(capfd, "inspect", "torch.nn:Conv2d", "--example", "1,1")
    assert '--example "" is no shape.' in failing(capfd, "inspect", "monai.networks.nets:VNet")
    assert not Path("runs").exists()


def test_python_dash_m_is_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "lomix_search", "--help"], capture_output=True, text=True, check=True
    )
    assert all(name in answer.stdout for name in ("demo", "run", "tune", "inspect"))


def test_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nrrd'] = None; sys.argv = ['lomix', 'run', 'chest_ct']\n"
        "from lomix_search.cli import main; main()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 2
    assert 'pip install "lomix-search[demo]"' in answer.stderr and "Traceback" not in answer.stderr


def test_results_are_plain_json() -> None:
    call("run", "chest_ct", *SMALL, "--folder", "here")
    assert set(json.loads(Path("here/results.json").read_text())) == {"test_dice"}
