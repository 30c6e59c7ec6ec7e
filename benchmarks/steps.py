"""What a mixture adds to a whole training step: two real networks with last layer, deep supervision and the mixture.

    pip install "lomix-search[data,paper]"
    python benchmarks/steps.py                          # rounds in turns, each measurement in a process of its own
    python benchmarks/steps.py --device cuda --batch 12

A step is forward, loss, backward and AdamW on random images. ``last layer`` is the bare network with cross-entropy
and Dice on its own output; the other two are instrumented. Time is the best step of a round, median over rounds with
the least and the greatest; memory is the peak of the process beyond what it held before the first step.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from loss_cost import ROOT, memory, ratios, spread, synchronize
from torch import nn

from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.recipe.objects import load_object

CLASSES = 9
LOSSES = ("last layer", "deep supervision", "mixture")


def dynunet() -> nn.Module:
    from monai.networks.nets import DynUNet

    strides = [1, 2, 2, 2, 2]
    return DynUNet(2, 1, CLASSES, [3] * 5, strides, strides[1:], filters=[32, 64, 128, 256, 320])


def pvt() -> nn.Module:
    return load_object(str(ROOT / "recipes/networks/pvt_attention.py") + ":build", "network")(CLASSES)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"DynUNet": dynunet, "PVTv2-B2 + decoder": pvt}


def measure(name: str, kind: str, device: str, batch: int, size: int, steps: int) -> dict[str, float]:
    """Return seconds of the best step, processor seconds and MiB of the peak."""
    torch.manual_seed(0)
    bare = NETWORKS[name]().to(device)
    example = torch.rand(batch, 1, size, size, device=device)
    labels = torch.randint(CLASSES, (batch, size, size), device=device)
    if kind == "last layer":
        net: nn.Module = bare.train()
        loss = MixtureLoss("last_layer", 1, CLASSES, "uniform")
    else:
        stages = [f"attend.{i}" for i in range(4)] if name.startswith("PVT") else None
        net = instrument(bare, example[:1], CLASSES, stages).train()
        space, weighting = ("lomix", "softplus") if kind == "mixture" else ("deep_supervision", "uniform")
        loss = MixtureLoss(space, len(net.stages), CLASSES, weighting)
    loss.to(device)
    optimizer = torch.optim.AdamW([*net.parameters(), *loss.parameters()], 1e-4)
    before = memory(device, reset=True)
    seconds, processor = [], []
    for _ in range(steps + 1):
        synchronize(device)
        begin, worked = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        maps = net(example)
        loss(maps if isinstance(maps, list) else [maps], labels).backward()
        optimizer.step()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - worked)
    return {"seconds": min(seconds[1:]), "processor": min(processor[1:]), "mib": memory(device) - before}


def in_turns(name: str, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in LOSSES}
    for _ in range(options.rounds):
        for kind in LOSSES:
            job = [name, kind, options.device, options.batch, options.size, options.steps, options.threads]
            command = [sys.executable, "-W", "ignore", __file__, "--measure", json.dumps(job)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps a round, after one to warm up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        *job, threads = json.loads(options.measure)
        torch.set_num_threads(threads)
        print(json.dumps(measure(*job)))
        return
    print(f"torch {torch.__version__}, {options.threads} threads, {options.device}, batch {options.batch}")
    print("\n| network | loss | step, ms | of last layer | processor time, ms | of last layer | peak memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks:
        found = in_turns(name, options)
        for kind, rounds in found.items():
            cells = []
            for key in ("seconds", "processor"):
                numbers, base = ([r[key] for r in found[k]] for k in (kind, "last layer"))
                cells += [spread(numbers, 1000), f"{statistics.median(ratios(numbers, base)):.2f}"]
            mib = statistics.median(r["mib"] for r in rounds)
            print(f"| {name} | {kind} | {' | '.join(cells)} | {mib:.0f} |", flush=True)


if __name__ == "__main__":
    main()
