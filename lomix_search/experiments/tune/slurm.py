"""``lomix tune RECIPE --slurm FILE``: a study as an array of SLURM jobs, one worker a task."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lomix_search.errors import RunError
from lomix_search.experiments.tune.storage import read_storage
from lomix_search.recipe.recipe import Recipe, find_recipe, home_of
from lomix_search.utils.files import write_text
from lomix_search.utils.shipped import VERSION, shipped_files

_TIME = re.compile(r"(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})")


_ODD = re.compile(r"[^\w.-]+")  # what a job is better not called by


@dataclass(frozen=True)
class SlurmArray:
    """What the array asks of SLURM.

    Args:
        workers: Tasks, 1 or more; each is one worker of the study.
        time: Limit of each task, as ``sbatch --time`` takes it: ``12:00:00``, ``2-00:00:00``, or minutes.
        cpus: Cores of each task, 1 or more; PyTorch gets as many threads.
        gpus: GPUs of each task; 0: none. With several, a trial runs on all of them by torchrun.
        more: Further options of sbatch, such as ``--partition=long``.

    Raises:
        RunError: a number or the time is none that SLURM takes.
    """

    workers: int = 4
    time: str = "12:00:00"
    cpus: int = 4
    gpus: int = 1
    more: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what sbatch would refuse only in the queue."""
        if not _TIME.fullmatch(self.time):
            raise RunError(f'--time "{self.time}" is no time limit of SLURM.', hint="--time 12:00:00")
        if self.workers < 1 or self.cpus < 1 or self.gpus < 0:
            seen = f"--workers {self.workers} --cpus {self.cpus} --gpus {self.gpus}"
            raise RunError(
                "an array needs a worker and a core at least, and no fewer than no GPUs.",
                seen=seen,
                hint="--workers 4 --cpus 4 --gpus 1",
            )
        if strange := [one for one in self.more if not one.startswith("-") or "\n" in one]:
            raise RunError(f"--sbatch {strange[0]!r} is no option of sbatch.", hint="--sbatch --partition=long")


@dataclass(frozen=True)
class ArrayStudy:
    """The study that the tasks work on.

    Args:
        source: The recipe as it was named: shipped, or a path.
        overrides: ``key=value`` pairs that change it.
        trials: Finished trials in all; None: the recipe's number.
        folder: The study's folder, which all nodes must see to go on with one another's trials; None: by the recipe.
        storage: A database address or a journal file; None: the journal in the folder.
        name: The study's name; None: the recipe's.
    """

    source: str
    overrides: Sequence[str] = ()
    trials: int | None = None
    folder: Path | None = None
    storage: str | None = None
    name: str | None = None


def write_slurm(path: Path, recipe: Recipe, study: ArrayStudy, array: SlurmArray) -> Path:
    """Write the script that ``sbatch`` takes.

    Args:
        path: The file; nothing is overwritten.
        recipe: What is tuned, loaded.
        study: How to reach it.
        array: What to ask of SLURM.

    Returns:
        The file.

    Raises:
        RunError: the file exists, or the storage cannot be shared, or its address holds a password.
    """
    if path.exists():
        raise RunError(f"{path} exists already; nothing was written.", hint="--slurm ANOTHER.sh")
    home = (study.folder or home_of(recipe, "-tune")).absolute()
    _check_storage(study.storage, home)
    write_text(path, _script(path, recipe, home, study, array))
    return path


def _check_storage(storage: str | None, home: Path) -> None:
    place = read_storage(storage, home)
    if place.url is not None and str(place) != place.url:
        raise RunError(
            "the address of the storage holds a password, which would stand in the script for all to read.",
            seen=str(place),
            hint=["~/.pgpass     host:port:database:user:password, mode 600", f"--storage {place}"],
        )


def _script(path: Path, recipe: Recipe, home: Path, study: ArrayStudy, array: SlurmArray) -> str:
    options = [
        f"--job-name=lomix-{_ODD.sub('-', home.name)}",
        f"--array=0-{array.workers - 1}",
        f"--time={array.time}",
        f"--cpus-per-task={array.cpus}",
        *([f"--gres=gpu:{array.gpus}"] if array.gpus else []),
        "--signal=TERM@120",
        "--requeue",
        "--output=%x-%A_%a.log",
        *array.more,
    ]
    best = shlex.join(["lomix", "tune", "best", str(home), "--write", "best.toml"])
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            f"# Written by lomix-search {VERSION}. Each task is one worker of the study in",
            f"# {home};",
            "# any number of them may run at any time, and one that ends early gives its trial back.",
            f"# search.seed = {recipe.search.seed} and a trial's place in the study give its values, whoever runs it.",
            f"#   sbatch {shlex.quote(str(path))}",
            f"#   sbatch --array=0 {shlex.quote(str(path))}    # once more at the end: what was lost last",
            f"#   {best}",
            "",
            "set -eu",
            f"cd {shlex.quote(str(Path.cwd()))}",
            f'export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-{array.cpus}}}"',
            "step=()",
            'if [ -n "${SLURM_JOB_ID:-}" ] && command -v srun >/dev/null; then step=(srun); fi  # it passes signals on',
            f'echo "worker ${{SLURM_ARRAY_TASK_ID:-0}} of {array.workers} on $(hostname)"',
            'exec ${step[@]+"${step[@]}"} \\',
            f"  {_python(array.gpus)} tune \\",
            " \\\n".join(f"    {shlex.join(words)}" for words in _words(home, study)),
            "",
        ]
    )


def _python(gpus: int) -> str:
    """The Python that writes the script runs it, so that no environment needs to be switched on."""
    python = shlex.quote(sys.executable)
    several = f"-m torch.distributed.run --standalone --nproc-per-node {gpus} " if gpus > 1 else ""
    return f"{python} {several}-m lomix_search"


def _words(home: Path, study: ArrayStudy) -> list[list[str]]:
    """Return the words after ``lomix tune``, line by line; paths are absolute, as tasks begin anywhere."""
    shipped = study.source in shipped_files("recipes")
    storage = study.storage
    if storage is not None and "://" not in storage:
        storage = str(Path(storage).absolute())
    options = {"--trials": study.trials, "--storage": storage, "--study": study.name, "--folder": home}
    return [
        [study.source if shipped else str(find_recipe(study.source).absolute()), *study.overrides],
        *([key, str(value)] for key, value in options.items() if value is not None),
        ["--leave"] if storage is not None else ["--resume", "--leave"],
    ]
