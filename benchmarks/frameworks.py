"""The same task in each training framework: what LoMix costs there, and the Dice after equally many steps.

    python benchmarks/frameworks.py                        # all scripts of docs/frameworks, three seeds
    python benchmarks/frameworks.py monai --steps 50 --seeds 5

Each run is a process of its own, in the environment that ``.ci/frameworks NAME`` makes; the scripts of a framework take
turns, seed after seed, so that whatever else the machine does hits all of them. Dice is that of six slices of the one
patient that the others are from: it tells the scripts apart, and says nothing of other patients.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lomix_search.evaluation.statistics import student_margin  # noqa: E402 — the checkout's, whatever is installed

SCRIPTS = ROOT / "docs" / "frameworks"
KINDS = ("before", "deep_supervision", "lomix")


def scripts(name: str) -> list[Path]:
    """Return a framework's scripts that exist, the plain one first."""
    return [path for kind in KINDS if (path := SCRIPTS / f"{name}_{kind}.py").exists()]


def measure(script: Path, steps: int, seed: int) -> dict[str, float]:
    """Run one script; return Dice, seconds a step and MiB."""
    name = script.stem.partition("_")[0]
    python = ROOT / f".venv-{name}" / "bin" / "python"
    if not python.exists():
        sys.exit(f"{python} is missing: .ci/frameworks {name} makes it")
    with tempfile.TemporaryDirectory() as home:
        own = {"STEPS": str(steps), "SEED": str(seed), "REPORT": f"{home}/report.json", "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [python, script], cwd=home, env=os.environ | own | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{script.name} failed:\n{done.stderr[-3000:]}")
        found: dict[str, float] = json.loads(Path(home, "report.json").read_text())
    return found


def row(script: Path, runs: list[dict[str, float]], first: list[dict[str, float]]) -> str:
    """Return one line of the table; ``first`` are the runs of the framework's plain script."""
    dice = [run["dice"] for run in runs]
    mean, margin = statistics.mean(dice), student_margin(np.array(dice)) if len(dice) > 1 else float("nan")
    seconds = [run["seconds_per_step"] for run in runs]
    ratio = statistics.median(a / b["seconds_per_step"] for a, b in zip(seconds, first, strict=True))
    mib = statistics.median(run["peak_mib"] for run in runs)
    spread = f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"
    return f"| {script.stem} | {mean:.3f} ± {margin:.3f} | {spread} | {ratio:.2f} | {mib:.0f} |"


def main() -> None:
    """Print the table."""
    every = sorted({path.stem.partition("_")[0] for path in SCRIPTS.glob("*_before.py")})
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("frameworks", nargs="*", metavar="|".join(every))
    asked.add_argument("--steps", type=int, default=150)
    asked.add_argument("--seeds", type=int, default=3)
    options = asked.parse_args()
    print(f"{options.steps} steps, seeds 0 to {options.seeds - 1}, one thread\n")
    print("| script | Dice (95 % over seeds) | s a step | times plain | MiB beyond imports |\n|---|---|---|---|---|")
    for name in options.frameworks or every:
        runs: dict[Path, list[dict[str, float]]] = {script: [] for script in scripts(name)}
        for seed in range(options.seeds):
            for script in runs:
                runs[script].append(measure(script, options.steps, seed))
                print(f"{script.stem}, seed {seed}: {runs[script][-1]}", file=sys.stderr)
        for script, found in runs.items():
            print(row(script, found, next(iter(runs.values()))), flush=True)


if __name__ == "__main__":
    main()
