"""What instrumenting costs: time and memory of the call, and of its hooks in training and in eval mode, as ratios.

    pip install "lomix-search[data,paper]"
    python benchmarks/instrument.py
    python benchmarks/instrument.py --device cuda       # memory is then that of CUDA's allocator

The call's time is set beside 5 s; its peak memory beside that of one plain forward pass without gradients, and of two:
what a process keeps after the first (kernels, memory that malloc does not give back) adds to the peak of the second,
whoever runs it. Each in a process of its own. The hooks: the time spent inside them, as part of a training step, and a
training step of the instrumented network in turns with one of the bare network to which the same heads are added, fed
with tensors of the stages' shapes. Eval mode: the hooks left, and the ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from loss_cost import memory, spread, synchronize
from steps import CLASSES, NETWORKS
from torch import nn

from lomix_search.instrumentation.hooks import TapHook
from lomix_search.instrumentation.instrumented import instrument


def unet() -> nn.Module:
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 1, CLASSES, features=(64, 128, 256, 512, 1024, 64))  # the classical widths


NETWORKS = NETWORKS | {"BasicUNet": unet}


def once(name: str, what: str, size: int, device: str) -> dict[str, float]:
    """Time and peak of instrumenting or of forward passes, the first of their process."""
    model, example = NETWORKS[name]().eval().to(device), torch.rand(1, 1, size, size, device=device)
    if device != "cpu":  # its libraries are loaded by the first pass, whoever runs it
        with torch.no_grad():
            model(example)
        synchronize(device)
    before = memory(device, reset=True)
    began = time.perf_counter()
    if what == "instrument":
        instrument(model, example)
    else:
        for _ in range(int(what)):
            with torch.no_grad():
                model(example)
    synchronize(device)
    return {"seconds": time.perf_counter() - began, "mib": memory(device) - before}


def child(name: str, what: str, options: argparse.Namespace) -> dict[str, float]:
    job = json.dumps([name, what, options.size, options.device])
    command = [sys.executable, "-W", "ignore", __file__, "--once", job, "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Inside:
    """Adds up the time spent inside hooks."""

    def __init__(self) -> None:
        self.seconds, plain = 0.0, TapHook.__call__

        def timed(hook: TapHook, *given: object) -> None:
            began = time.perf_counter()
            plain(hook, *given)
            self.seconds += time.perf_counter() - began

        TapHook.__call__ = timed  # type: ignore[method-assign]


def hooks(name: str, options: argparse.Namespace) -> tuple[list[float], list[float], list[float], int]:
    """Return, turn by turn, the part of a training step inside hooks, and the ratios of a step and of an eval pass."""
    inside = Inside()
    device = options.device
    model = NETWORKS[name]().to(device)
    images = torch.rand(2, 1, options.size, options.size, device=device)
    net = instrument(model, images[:1], CLASSES).train()
    with torch.no_grad():
        features = [f.clone().requires_grad_() for f in net.stage_features(images)]

    def plain() -> list[torch.Tensor]:
        return [model(images), *(head(features[int(i)]) for i, head in net.heads.items())]

    def step(run: Callable[[], list[torch.Tensor]]) -> float:
        net.zero_grad()
        began = time.perf_counter()
        sum(logits.square().mean() for logits in run()).backward()
        synchronize(device)
        return time.perf_counter() - began

    step(plain), step(lambda: net(images))
    trained, parts = [], []
    for _ in range(options.turns):
        net.eval().model.train()  # no hooks
        bare, before = step(plain), inside.seconds
        net.train()
        whole = step(lambda: net(images))
        trained.append(whole / bare)
        parts.append((inside.seconds - before) / whole)
    net.eval()
    left = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    with torch.no_grad():
        times = [[_seconds(run, images) for run in (net, model)] for _ in range(options.turns + 1)]
        evaluated = [whole / bare for whole, bare in times[1:]]
    return parts, trained, evaluated, left


def _seconds(run: nn.Module, images: torch.Tensor) -> float:
    began = time.perf_counter()
    run(images)
    synchronize(images.device.type)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.once:
        print(json.dumps(once(*json.loads(options.once))))
        return
    side = options.size
    print(f"torch {torch.__version__}, {options.threads} threads, {options.device}, input 1 × 1 × {side} × {side}\n")
    print(
        "| network | parameters | instrument, s | of 5 s | peak memory of one forward, MiB | instrument's, times | "
        "times that of two | inside hooks, % of a step | training step with hooks, times | eval, times | "
        "hooks in eval mode |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        rounds = [[child(name, what, options) for what in ("1", "2", "instrument")] for _ in range(options.rounds)]
        seconds = [made["seconds"] for *_, made in rounds]
        mib = [forward["mib"] for forward, *_ in rounds]
        times, twice = ([r[2]["mib"] / r[base]["mib"] for r in rounds] for base in (0, 1))
        parts, trained, evaluated, left = hooks(name, options)
        count = sum(p.numel() for p in NETWORKS[name]().parameters())
        cells = [name, f"{count / 1e6:.1f} M", spread(seconds), f"{statistics.median(seconds) / 5:.2f}"]
        cells += [f"{statistics.median(mib):.0f}", spread(times), spread(twice)]
        cells += [f"{100 * statistics.median(parts):.4f}"]
        cells += [f"{statistics.median(r):.3f} ({min(r):.3f}–{max(r):.3f})" for r in (trained, evaluated)]
        print(f"| {' | '.join(cells)} | {left} |", flush=True)


if __name__ == "__main__":
    main()
