"""nnU-Net's own trainer and those with a mixture: Dice on the cases that a fold leaves out, after equally many steps.

    python benchmarks/nnunet.py Task04_Hippocampus       # of the Medical Segmentation Decathlon, as it is unpacked
    python benchmarks/nnunet.py Task04_Hippocampus --steps 3000 --seeds 5 --out runs/nnunet_3000

All is nnU-Net's: planning, preprocessing, augmentation, schedule, validation (``.ci/frameworks nnunet`` makes the
environment). For each seed the trainers take turns, one process and one thread each; they begin with the same network
and see the same batches. Batches are smaller than planned (366 slices) and layers half as wide, and validation
mirrors no image, so that a CPU gets through; ``--batch 366 --narrower 1`` is the plan. Runs that are finished lie in
results.json of ``--out`` and are not repeated; one that was stopped begins anew.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import support.shims.sitecustomize  # noqa: E402, F401 — torchvision beside a torch without CUDA
from support.nnunet_dataset import brain_dataset, environment, forked  # noqa: E402

from lomix_search.evaluation.statistics import student_margin  # noqa: E402 — the checkout's, whatever is installed
from lomix_search.integrations.nnunet.found import trainers_folder  # noqa: E402

OWN = "nnUNetTrainerBrief"
TRAINERS = (OWN, f"{OWN}LoMix_anneal", f"{OWN}LoMix")
STEPS_OF_EPOCH = 50
"""nnU-Net's schedule moves once an epoch; with its 250 a short training would have hardly any."""

BRIEF = """
import json
import os
import random
import resource
import time

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def seed(more):
    number = 1000 * int(os.environ["SEED"]) + more
    random.seed(number), np.random.seed(number), torch.manual_seed(number)


class nnUNetTrainerBrief(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = int(os.environ["STEPS_OF_EPOCH"]), 1
        self.num_epochs = int(os.environ["STEPS"]) // self.num_iterations_per_epoch
        self.seconds, self.seconds_of_epochs = [], []

    def initialize(self):
        seed(0)
        super().initialize()

    def on_train_start(self):
        super().on_train_start()
        seed(1)  # what a mixture drew for its operators moves no batch
        self.since = time.time()

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.began = time.process_time()

    def train_step(self, batch):
        began = time.process_time()
        found = super().train_step(batch)
        self.seconds.append(time.process_time() - began)
        return found

    def on_train_epoch_end(self, train_outputs):
        self.seconds_of_epochs.append((time.process_time() - self.began) / self.num_iterations_per_epoch)
        super().on_train_epoch_end(train_outputs)
        done = len(self.seconds)
        left = (time.time() - self.since) / done * (self.num_epochs * self.num_iterations_per_epoch - done) / 60
        os.write(int(os.environ["TERMINAL"]), f"  step {done}, {left:.1f} min left, then validation\\n".encode())

    def on_train_end(self):
        super().on_train_end()
        found = {
            "seconds": float(np.median(self.seconds)),
            "with_augmentation": float(np.median(self.seconds_of_epochs)),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        with open(os.environ["REPORT"], "w") as file:
            json.dump(found, file)
        self.inference_allowed_mirroring_axes = None
"""


def prepare(home: Path, data: Path, batch: int, narrower: int) -> None:
    """Plan and preprocess all labelled cases, once; then change the plan."""
    if (home / "planned").exists():
        return
    cases = len(list((data / "labels").glob("[!.]*.nii.gz")) or list((data / "labelsTr").glob("[!.]*.nii.gz")))
    if not cases:
        sys.exit(f"{data} holds neither labelsTr/*.nii.gz nor labels/*.nii.gz")
    brain_dataset(home, data, cases)
    say(f"nnU-Net plans and preprocesses {cases} cases")
    options = ["-d", "4", "-c", "2d", "-np", "1", "-npfp", "1"]
    forked("nnUNetv2_plan_and_preprocess", *options, env=own_environment(home) | {"nnUNet_n_proc_DA": "1"})
    (file,) = (home / "preprocessed").glob("Dataset004_*/nnUNetPlans.json")
    plans = json.loads(file.read_text())
    chosen = plans["configurations"]["2d"]
    chosen["batch_size"], network = batch, chosen["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [width // narrower for width in network["features_per_stage"]]
    file.write_text(json.dumps(plans))
    (home / "planned").touch()


def own_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the variables of nnU-Net's commands, which lie beside this Python."""
    return environment(home, home / "own", trainers_folder(), **more)


def run(home: Path, trainer: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and validate once; returns times, memory and the Dice of each case."""
    results, report = home / "results" / f"seed{seed}", home / "report.json"
    (home / "own").mkdir(exist_ok=True)
    (home / "own" / "brief.py").write_text(BRIEF)
    more = {"STEPS": str(steps), "STEPS_OF_EPOCH": str(STEPS_OF_EPOCH), "SEED": str(seed), "REPORT": str(report)}
    env = own_environment(home, **more) | {"nnUNet_results": str(results), "TERMINAL": str(os.dup(2))}
    say(f"{trainer}, seed {seed}")
    forked("nnUNetv2_train", "4", "2d", "0", "-tr", trainer, "-device", "cpu", env=env)
    (summary,) = results.glob(f"*/{trainer}__nnUNetPlans__2d/fold_0/validation/summary.json")
    cases = json.loads(summary.read_text())["metric_per_case"]
    dice = {Path(case["reference_file"]).name: _mean(case["metrics"]) for case in cases}
    return {"trainer": trainer, "seed": seed, "dice": dice} | json.loads(report.read_text())


def _mean(metrics: dict[str, dict[str, float]]) -> float:
    return statistics.fmean(of["Dice"] for of in metrics.values())


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as a table; differences are to nnU-Net's own trainer, paired by case, seeds averaged."""
    by = {
        name: {r["seed"]: r for r in runs if r["trainer"] == name} for name in dict.fromkeys(r["trainer"] for r in runs)
    }
    lines = [
        "| trainer | Dice | − own (95 % over cases) | by seed | s a step | times own | with augmentation | peak MiB |"
    ]
    lines.append("|" + "---|" * 8)
    for name, of in by.items():
        seeds = sorted(of.keys() & by[OWN].keys()) if OWN in by else []
        cells = [f"`{name.replace('Brief', '')}`", f"{np.mean([list(r['dice'].values()) for r in of.values()]):.4f}"]
        cells += _difference(of, by[OWN], seeds) if name != OWN and seeds else ["", ""]
        cells.append(f"{statistics.median(r['seconds'] for r in of.values()):.3f}")
        for kind in ("seconds", "with_augmentation"):
            ratios = [of[s][kind] / by[OWN][s][kind] for s in seeds]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        cells.append(f"{statistics.median(r['peak_mib'] for r in of.values()):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(of: dict[int, Any], own: dict[int, Any], seeds: list[int]) -> list[str]:
    changes = np.array([[of[s]["dice"][case] - own[s]["dice"][case] for case in own[s]["dice"]] for s in seeds])
    by_case = changes.mean(0)
    margin = student_margin(by_case)
    spread = f"{by_case.mean():+.4f} ({by_case.mean() - margin:+.4f} … {by_case.mean() + margin:+.4f})"
    return [spread, ", ".join(f"{change:+.4f}" for change in changes.mean(1))]


def say(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is missing; print the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path, help="folder with imagesTr/ and labelsTr/, or images/ and labels/")
    asked.add_argument("--steps", type=int, default=500)
    asked.add_argument("--batch", type=int, default=8)
    asked.add_argument("--narrower", type=int, default=2)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    asked.add_argument("--out", type=Path, default=Path("runs/nnunet"))
    options = asked.parse_args()
    home = options.out.resolve()
    python = ROOT / ".venv-nnunet" / "bin" / "python"
    if Path(sys.prefix) != python.parents[1]:
        if not python.exists():
            sys.exit(f"{python} is missing: .ci/frameworks nnunet makes it")
        os.execv(python, [str(python), *sys.argv])
    file = home / "results.json"
    setup = {"steps": options.steps, "batch": options.batch, "narrower": options.narrower}
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else setup | {"runs": []}
    if setup != {name: found[name] for name in setup}:
        sys.exit(f"{file} is of { ({name: found[name] for name in setup}) }: give another --out")
    home.mkdir(parents=True, exist_ok=True)
    prepare(home, options.data, options.batch, options.narrower)
    for seed in range(options.seeds):
        for trainer in options.trainers:
            if any((one["trainer"], one["seed"]) == (trainer, seed) for one in found["runs"]):
                continue
            found["runs"].append(run(home, trainer, seed, options.steps))
            file.write_text(json.dumps(found))
            say(table(found["runs"]))
    what = f"{options.steps} steps, batches of {options.batch}, layers 1/{options.narrower} as wide"
    print(f"{what}, seeds 0 to {options.seeds - 1}, one thread\n")
    print(table(found["runs"]))


if __name__ == "__main__":
    main()
