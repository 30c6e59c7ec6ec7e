"""A study as an array of SLURM jobs: a script that a shell reads, whose tasks are workers of one study."""

import os
import subprocess
from pathlib import Path

import pytest
from support.refusals import message
from support.tiny_recipe import write_tiny

from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.slurm import ArrayStudy, SlurmArray, write_slurm
from lomix_search.recipe.recipe import load_recipe


def test_a_script_says_to_slurm_and_to_the_shell_what_was_asked_for(tmp_path: Path) -> None:
    source = str(write_tiny(tmp_path / "my recipe"))
    study = ArrayStudy(source, ("about=it's",), 20, tmp_path / "a study", None, "mine")
    array = SlurmArray(16, "2-00:00:00", cpus=8, gpus=2, more=("--partition=long",))
    script = write_slurm(tmp_path / "array.sh", load_recipe(source), study, array).read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=True).stderr == ""
    asked = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    expected = ["--array=0-15", "--time=2-00:00:00", "--cpus-per-task=8", "--gres=gpu:2", "--signal=TERM@120"]
    assert set(expected) < set(asked) and asked[-1] == "--partition=long" and asked[0] == "--job-name=lomix-a-study"
    command = script.partition("exec ")[2]
    assert "torch.distributed.run --standalone --nproc-per-node 2 -m lomix_search tune" in command
    assert f"'{tmp_path}/my recipe/recipe.toml' 'about=it'\"'\"'s' \\" in command
    assert f"--folder '{tmp_path}/a study' \\" in command and command.endswith("    --resume --leave\n")
    assert "gres" not in write_slurm(tmp_path / "b.sh", load_recipe(source), study, SlurmArray(gpus=0)).read_text()


def test_what_sbatch_or_the_storage_would_refuse_later_is_refused_now(tmp_path: Path) -> None:
    recipe, study = load_recipe("chest_ct"), ArrayStudy("chest_ct", storage="postgresql://me:secret@host/db")
    said = message(tmp_path / "a.sh", recipe, study, SlurmArray(), act=write_slurm)
    assert "holds a password" in said and "secret" not in said and not (tmp_path / "a.sh").exists()
    assert message(4, "noon", act=SlurmArray) == '--time "noon" is no time limit of SLURM.\n  Try:  --time 12:00:00'
    assert "is no option of sbatch" in message(4, "60", 1, 1, ("long\n#SBATCH",), act=SlurmArray)
    assert "Seen: --workers 0" in message(0, act=SlurmArray)
    (tmp_path / "a.sh").touch()
    assert "exists already" in message(tmp_path / "a.sh", recipe, ArrayStudy("chest_ct"), SlurmArray(), act=write_slurm)


@pytest.mark.slow
def test_a_task_of_the_array_works_on_the_study(tmp_path: Path) -> None:
    source = str(write_tiny(tmp_path / "recipe"))
    study = ArrayStudy(source, ("search.steps=2",), 2, tmp_path / "study", str(tmp_path / "shared.log"), "mine")
    script = write_slurm(tmp_path / "array.sh", load_recipe(source), study, SlurmArray(2, cpus=1, gpus=0))
    task = os.environ | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(["bash", str(script)], env=task, text=True, capture_output=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("worker 1 of 2 on ")
    found, _ = open_study(tmp_path / "shared.log")
    assert found.study_name == "mine" and [trial.state.name for trial in found.trials] == ["COMPLETE"] * 2
    assert (tmp_path / "study/best.toml").is_file()
