"""What agrees to what between a run on one process and the same run on several, as a user would run it.

    pip install "lomix-search[demo]"
    python benchmarks/processes.py                     # chest_ct after 1, 10 and 50 steps: 1 process, and torchrun's 2
    python benchmarks/processes.py --steps 1 10 --processes 4 --recipe RECIPE --threads 2

Each cell is a run of the command line on CPUs, in float32, with a constant learning rate. Compared are the training
loss of the last step, the mixture's weights, the final network's weights (the largest difference of any, and of the
norm of all differences to the norm of all weights) and the mean Dice on test data. ``--again`` repeats the run on one
process, and on one process with another number of threads: what that changes is the yardstick.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from loss_cost import ROOT

from lomix_search.mixture.mixture import Mixture
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines


def run(recipe: str, folder: Path, steps: int, processes: int, threads: int) -> None:
    """Run a recipe for so many steps on so many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    changes = [f"search.steps={steps}", "search.checkpoint_every=1000", "optimizer.schedule=constant"]
    command = [sys.executable, *start, "-m", "lomix_search", "run", recipe, *changes, "--folder", str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, env=own, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def differences(one: Path, other: Path) -> dict[str, float]:
    """Compare two finished runs."""
    losses = [
        [line["train/loss"] for line in read_lines(f / "metrics.jsonl") if "train/loss" in line] for f in (one, other)
    ]
    weights = [torch.tensor(list(Mixture.load(folder / "mixture.json").weights.values())) for folder in (one, other)]
    networks = [torch.cat([t.double().flatten() for t in read_tensors(f / "final.pt").values()]) for f in (one, other)]
    dice = [json.loads((f / "results.json").read_text())["test_dice"]["final"]["mean"] for f in (one, other)]
    apart = networks[0] - networks[1]
    return {
        "loss": abs(losses[0][-1] - losses[1][-1]),
        "mixture": float((weights[0] - weights[1]).abs().max()),
        "network": float(apart.abs().max()),
        "network, relative": float(apart.norm() / networks[0].norm()),
        "Dice": abs(dice[0] - dice[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="chest_ct")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument(
        "--again", action="store_true", help="also repeat the run on one process, then with a thread more"
    )
    given = parser.parse_args()
    print("| steps | against one process | loss | mixture | network | network, relative | Dice |")
    print("|---|---|---|---|---|---|---|")
    for steps in given.steps:
        with tempfile.TemporaryDirectory() as home:
            kinds = {"one": (1, given.threads), f"{given.processes} processes": (given.processes, given.threads)}
            if given.again:
                kinds |= {"again": (1, given.threads), f"{given.threads + 1} threads": (1, given.threads + 1)}
            for i, (name, (processes, threads)) in enumerate(kinds.items()):
                run(given.recipe, Path(home, str(i)), steps, processes, threads)
                if i:
                    found = differences(Path(home, "0"), Path(home, str(i)))
                    print(
                        f"| {steps} | {name} | " + " | ".join(f"{value:.1e}" for value in found.values()) + " |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
