"""All that only a GPU can show, in one script of a few minutes: are the kernels right, what do loss and steps cost.

    pip install "lomix-search[data]" triton
    python benchmarks/gpu.py --out gpu.json            # about 6 minutes; parts that find no time are "not run"

One process measures, because starting processes wastes a GPU's minutes; before that, others compile the kernels side
by side. Parts: ``right`` (against the reference in float64), ``waits`` (does a step wait for the GPU, can a CUDA graph
hold it), ``loss`` (time and memory, paths in turns, median with least and greatest), ``kernels`` (microseconds of
each) and ``steps`` (a DynUNet in bf16, batch 24). The file is written anew after each part.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from loss_cost import REFERENCE, build
from steps import CLASSES, dynunet
from torch import Tensor, nn

from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss

CASES: dict[str, dict[str, Any]] = {
    "L 4": {},
    "L 4, bfloat16": {"dtype": "bfloat16"},
    "L 4, batch 24": {"batch": 24},
    "L 2": {"scales": 2},
    "L 3": {"scales": 3},
    "L 5": {"scales": 5},
    "L 6": {"scales": 6},
    "96³": {"size": [96, 96, 96], "batch": 1},
}
PATHS = ("triton", "last layer", "MONAI's deep supervision", "deep supervision", "straightforward")
TINY = {"size": [16, 16], "batch": 1}


class Clock:
    """Knows how much time is left."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def over(self, needed: float = 5) -> bool:
        return time.monotonic() + needed > self.end


def compile_all(clock: Clock) -> dict[str, Any]:
    """Compile the kernels of all cases, a process for each; the cache on disk keeps them."""
    jobs = {json.dumps(case | TINY | {"size": TINY["size"]}) for case in CASES.values()}
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", __file__, "--compile"]
    running = [subprocess.Popen([*command, job], stderr=subprocess.PIPE) for job in sorted(jobs)]
    faults = []
    for one in running:
        try:
            _, said = one.communicate(timeout=max(1.0, clock.end - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
            faults.append("took too long")
            continue
        faults += [said.decode()[-500:]] if one.returncode else []
    return {"processes": len(jobs), "seconds": time.monotonic() - began, "faults": faults}


def right(clock: Clock) -> dict[str, Any]:
    """The greatest difference of total, losses and gradients from the reference in float64, relative to the largest."""
    found: dict[str, Any] = {}
    for name in ("L 4", "L 4, bfloat16", "L 2", "L 6"):
        if clock.over():
            found[name] = "not run"
            continue
        case = REFERENCE | CASES[name] | {"batch": 2, "size": [61, 67]}
        torch.manual_seed(0)
        shape = (case["batch"], case["classes"], *case["size"])
        maps = [torch.randn(shape, device="cuda").to(getattr(torch, case["dtype"])) for _ in range(case["scales"])]
        labels = torch.randint(case["classes"], (shape[0], *shape[2:]), device="cuda")
        loss = MixtureLoss("lomix", case["scales"], case["classes"], engine="triton").cuda()
        ours = outcome(loss, maps, labels)
        again = outcome(loss, maps, labels)
        loss.double().engine = "reference"
        expected = outcome(loss, [one.double() for one in maps], labels)
        pairs = zip(ours, expected, strict=True)
        found[name] = {
            "difference": max(float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs),
            "same bits again": all(map(torch.equal, ours, again)),
        }
    return found


def outcome(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> list[Tensor]:
    leaves = [one.detach().requires_grad_() for one in maps]
    total = loss(leaves, labels)
    grads = torch.autograd.grad(total, [*leaves, *loss.parameters()])
    return [total.detach(), loss.per_map.losses, *grads]


def waits(clock: Clock) -> dict[str, Any]:
    """Whether forward and backward wait for the device, and whether a CUDA graph can hold them."""
    step, leaves = build("triton", REFERENCE, "cuda")
    for _ in range(3):
        step().backward()
    torch.cuda.synchronize()
    found: dict[str, Any] = {"waits": tried(lambda: without_waiting(step))}
    for leaf in leaves:
        leaf.grad = None
    found["CUDA graph"] = tried(lambda: captured(step, leaves))
    return found


def without_waiting(step: Callable[[], Tensor]) -> str:
    torch.cuda.set_sync_debug_mode("error")
    try:
        step().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def captured(step: Callable[[], Tensor], leaves: list[Tensor]) -> str:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step().backward()
    torch.cuda.current_stream().wait_stream(stream)
    for leaf in leaves:
        leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = step()
        total.backward()
    graph.replay()
    torch.cuda.synchronize()
    return f"captured, total {float(total):.6f}"


def tried(work: Callable[[], str]) -> str:
    try:
        return work()
    except Exception as cause:  # whatever it is, it belongs in the table
        return f"failed: {str(cause)[:300]}"


def loss_table(clock: Clock, cases: Iterable[str], paths: Iterable[str] = PATHS) -> dict[str, Any]:
    """Milliseconds of forward and backward pass, and MiB beyond the inputs, of all paths in turns."""
    found: dict[str, Any] = {}
    for name in cases:
        if clock.over(20):
            found[name] = "not run"
            continue
        steps = {path: prepared(path, REFERENCE | CASES[name]) for path in paths}
        found[name] = in_turns(steps, clock)
        del steps
        torch.cuda.empty_cache()
    return found


def prepared(path: str, case: dict[str, Any]) -> tuple[Callable[[], Tensor], list[Tensor]] | str:
    if path != "MONAI's deep supervision":
        return build(path, case, "cuda")
    from monai.losses import DeepSupervisionLoss, DiceCELoss

    _, leaves = build("last layer", case, "cuda")
    maps = [one for one in leaves if one.ndim > 3]
    labels = torch.randint(case["classes"], (case["batch"], 1, *case["size"]), device="cuda")
    loss = DeepSupervisionLoss(DiceCELoss(softmax=True, to_onehot_y=True, batch=True))
    return (lambda: loss(maps, labels)), leaves


def in_turns(steps: dict[str, Any], clock: Clock, rounds: int = 10) -> dict[str, Any]:
    times: dict[str, list[float]] = {path: [] for path in steps}
    peaks: dict[str, float] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds + 2):
        for path, (step, leaves) in steps.items():
            if path in failed or clock.over():
                continue
            try:
                seconds, peak = timed(step, leaves)
            except Exception as cause:
                failed[path] = str(cause)[:300]
                continue
            times[path].append(1000 * seconds)
            peaks[path] = peak
    rows = {path: row(values[2:], peaks.get(path)) for path, values in times.items() if len(values) > 2}
    return {path: rows.get(path, failed.get(path, "not run")) for path in steps}


def timed(step: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[float, float]:
    for leaf in leaves:
        leaf.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, began = torch.cuda.memory_allocated(), time.perf_counter()
    step().backward()
    torch.cuda.synchronize()
    return time.perf_counter() - began, (torch.cuda.max_memory_allocated() - before) / 2**20


def row(values: list[float], mib: float | None) -> dict[str, float | None]:
    numbers = {"ms": statistics.median(values), "least": min(values), "greatest": max(values), "mib": mib}
    return {key: None if value is None else round(value, 4) for key, value in numbers.items()}


def kernel_times(clock: Clock) -> dict[str, Any]:
    """Microseconds of each kernel that takes more than 1 % of a step."""
    found: dict[str, Any] = {}
    for name in ("L 4", "L 6"):
        if clock.over(15):
            found[name] = "not run"
            continue
        step, _ = build("triton", REFERENCE | CASES[name], "cuda")
        step().backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(5):
                step().backward()
            torch.cuda.synchronize()
        rows = {event.key[:60]: event.device_time_total / 5 for event in profile.key_averages()}
        whole = sum(rows.values())
        shown = sorted(rows.items(), key=lambda pair: -pair[1])
        found[name] = {key: round(value, 1) for key, value in shown if value > whole / 100} | {"all": round(whole, 1)}
    return found


def whole_steps(clock: Clock, batch: int = 24) -> dict[str, Any]:
    """Steps of a DynUNet in bf16 with AdamW: last layer, deep supervision, mixture, in turns."""
    return in_turns({kind: training_step(kind, batch) for kind in ("last layer", "deep supervision", "mixture")}, clock)


def training_step(kind: str, batch: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
    torch.manual_seed(0)
    bare = dynunet().cuda()
    images = torch.rand(batch, 1, 224, 224, device="cuda")
    labels = torch.randint(CLASSES, (batch, 224, 224), device="cuda")
    net: nn.Module = bare.train()
    loss = MixtureLoss("last_layer", 1, CLASSES, "uniform").cuda()
    if kind != "last layer":
        net = instrument(bare, images[:1], CLASSES).train()
        space, weighting = ("lomix", "softplus") if kind == "mixture" else ("deep_supervision", "uniform")
        loss = MixtureLoss(space, len(net.stages), CLASSES, weighting).cuda()
    parameters = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)

    def step() -> Tensor:
        """The last step's gradients move the parameters first, so that one call is one whole step."""
        if any(p.grad is not None for p in parameters):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            maps = net(images)
            total: Tensor = loss(maps if isinstance(maps, list) else [maps], labels)
        return total

    return step, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--compile", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile is not None:
        step, _ = build("triton", REFERENCE | options.compile, "cuda")
        step().backward()
        return
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: not run")
    import triton

    clock = Clock(options.minutes)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    found |= {"triton": triton.__version__, "command": " ".join(sys.argv)}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "compiled": lambda: compile_all(clock),
        "right": lambda: right(clock),
        "waits": lambda: waits(clock),
        "loss": lambda: loss_table(clock, CASES),
        "kernels": lambda: kernel_times(clock),
        "steps": lambda: whole_steps(clock),
        "compiled straightforward": lambda: loss_table(clock, ["L 4"], ["compiled straightforward"]),
    }
    for name, part in parts.items():
        try:
            found[name] = part()
        except Exception as cause:
            found[name] = f"failed: {type(cause).__name__}: {str(cause)[:500]}"
        options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name], ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
