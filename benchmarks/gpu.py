"""All that only a GPU can show, in one script of a few minutes: are the kernels right, what do loss and steps cost.

    pip install "lomix-search[data]" triton
    python benchmarks/gpu.py --out gpu.json            # 6 minutes; once more, and it goes on where time ran out
    python benchmarks/gpu.py --out gpu.json --tables   # what it found, as tables; no GPU is needed for that
    python benchmarks/scaling.py gpu.png --measured gpu.json
    python benchmarks/gpu.py --out dry.json --dry      # the script itself, tiny, on Triton's interpreter

One process measures, because starting processes wastes a GPU's minutes; before that, others compile the kernels side
by side. Rows come in the order of their worth. Each catches its own failure and says it; the file is written anew after
each, and a row that stands in it is not measured again. ``right`` is against the reference in float64; ``waits`` says
whether a step waits for the GPU; ``loss`` is time and memory from the heads' outputs on, paths in turns, median with
least and greatest; ``kernels`` are microseconds of each; ``steps`` are those of a DynUNet in bf16, batch 24.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if "--dry" in sys.argv:  # before Triton and torch.compile are imported
    os.environ |= {"TRITON_INTERPRET": "1", "TORCH_COMPILE_DISABLE": "1"}

import torch
from loss_cost import REFERENCE, build, memory, synchronize
from steps import CLASSES, dynunet
from torch import Tensor, nn

from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed

COARSE, HALVES = {"strides": [32, 16, 8, 4]}, {"strides": [8, 4, 2, 1]}
CASES: dict[str, dict[str, Any]] = {
    "L 4": {},
    "L 4, strides 32 to 4": COARSE,
    "L 4, strides 32 to 4, bfloat16, batch 24": COARSE | {"dtype": "bfloat16", "batch": 24},
    "L 4, batch 24": {"batch": 24},
    "L 6": {"scales": 6},
    "96³": {"size": [96, 96, 96], "batch": 1},
    "L 4, bfloat16": {"dtype": "bfloat16"},
    "L 4, strides 8 to 1": HALVES,
    "96³, strides 8 to 1": HALVES | {"size": [96, 96, 96], "batch": 1},
    "L 5": {"scales": 5},
    "L 2": {"scales": 2},
    "L 3": {"scales": 3},
}
PATHS = ("triton", "last layer", "monai", "deep supervision", "vectorised", "straightforward")
SCALING: dict[str, list[tuple[int, dict[str, Any]]]] = {
    "scales L": [(n, {"scales": n}) for n in (2, 3, 4, 5, 6)],
    "classes C": [(n, {"classes": n}) for n in (2, 4, 9, 14)],
    "pixels": [(n * n, {"size": [n, n]}) for n in (56, 112, 224, 448)],
}
KEPT = (0, 4, 12, 24, 44)
MAPS_OF_4 = 48


@dataclass(frozen=True)
class Bench:
    """Where and how long it is measured; dry: tiny, on the CPU, once."""

    end: float
    dry: bool = False

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def left(self) -> float:
        return self.end - time.monotonic()

    def case(self, name: str, **changes: Any) -> dict[str, Any]:
        case = REFERENCE | CASES.get(name, {}) | changes
        if not self.dry:
            return case
        strides = {"strides": [4, 1]} if "strides" in case else {}
        tiny = {"scales": 2, "classes": 2, "batch": 1, "size": [2, 4, 4][3 - len(case["size"]) :]}
        return case | tiny | strides

    def built(self, path: str, case: dict[str, Any]) -> tuple[Callable[[], Tensor], list[Tensor]]:
        return build(path, case, self.device)


# -- rows --------------------------------------------------------------------------------------------------------------


def rows_of(bench: Bench) -> dict[str, tuple[float, Callable[[], Any]]]:
    """All rows: name, seconds that it needs at most, work; the worthiest first."""
    right = ("L 4", "L 4, strides 8 to 1", "96³, strides 8 to 1", "L 4, bfloat16", "L 2", "L 6")
    losses = {f"loss, {name}": (25.0, partial(loss_row, bench, name)) for name in CASES}
    return {
        "compiled": (60, partial(compile_all, bench)),
        "right, L 4": (10, partial(right_row, bench, "L 4")),
        "loss, L 4": losses["loss, L 4"],
        "waits": (5, partial(waits, bench)),
        "CUDA graph": (5, partial(captured, bench)),
        **{f"right, {name}": (10, partial(right_row, bench, name)) for name in right},
        **losses,
        "steps, DynUNet, bfloat16, batch 24": (30, partial(steps_row, bench)),
        "kernels, L 4": (5, partial(kernel_row, bench, "L 4")),
        "kernels, L 4, strides 32 to 4": (5, partial(kernel_row, bench, "L 4, strides 32 to 4")),
        "kernels, L 6": (5, partial(kernel_row, bench, "L 6")),
        **{f"scaling, {axis}": (20, partial(scaling_row, bench, axis)) for axis in SCALING},
        "scaling, mutants that count": (10, partial(mutants_row, bench)),
        "torch.compile, reduce-overhead": (60, partial(compiled_loss, bench)),
        "compiled straightforward, L 4": (150, partial(loss_row, bench, "L 4", ("compiled straightforward", "triton"))),
    }


def compile_all(bench: Bench) -> dict[str, Any]:
    """Compile the kernels of all cases, a process for each; the cache on disk keeps them."""
    tiny = [{"batch": 1, "size": [16] * len(c.get("size", [0, 0]))} for c in CASES.values()]
    jobs = sorted({json.dumps(case | small) for case, small in zip(CASES.values(), tiny, strict=True)})
    if bench.dry:
        return {"processes": 0, "would be": len(jobs)}
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", __file__, "--compile"]
    running = [subprocess.Popen([*command, job], stderr=subprocess.PIPE) for job in jobs]
    faults = []
    for one in running:
        try:
            _, said = one.communicate(timeout=max(1.0, bench.left()))
        except subprocess.TimeoutExpired:
            one.kill()
            faults.append("took too long")
            continue
        faults += [said.decode()[-500:]] if one.returncode else []
    return {"processes": len(jobs), "seconds": round(time.monotonic() - began, 1), "faults": faults}


def right_row(bench: Bench, name: str) -> dict[str, Any]:
    """The greatest difference of total, losses and gradients from the reference in float64, relative to the largest."""
    case = bench.case(name)
    if not bench.dry:
        case |= {"batch": 2, "size": [61, 67] if len(case["size"]) == 2 else [19, 21, 23]}
    torch.manual_seed(0)
    _, leaves = bench.built("triton", case)
    maps = [one.detach() for one in leaves[: case["scales"]]]
    labels = torch.randint(case["classes"], (case["batch"], *case["size"]), device=bench.device)
    loss = MixtureLoss("lomix", case["scales"], case["classes"], engine="triton").to(bench.device)
    ours = outcome(loss, maps, labels)
    again = outcome(loss, maps, labels)
    loss.double().engine = "reference"
    expected = outcome(loss, [one.double() for one in maps], labels)
    pairs = zip(ours, expected, strict=True)
    return {
        "difference": max(float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs),
        "same bits again": all(map(torch.equal, ours, again)),
    }


def outcome(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> list[Tensor]:
    leaves = [one.detach().requires_grad_() for one in maps]
    total = loss(leaves, labels)
    grads = torch.autograd.grad(total, [*leaves, *loss.parameters()])
    return [total.detach(), loss.per_map.losses, *grads]


def waits(bench: Bench) -> str:
    """Whether forward and backward wait for the device."""
    step, leaves = bench.built("triton", bench.case("L 4, strides 8 to 1"))
    for _ in range(2):
        taken(step, leaves)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        taken(step, leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def captured(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a replay, and whether it says what the step says."""
    step, leaves = bench.built("triton", bench.case("L 4"))
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            taken(step, leaves)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = step()
        torch.autograd.grad(total, leaves)
    graph.replay()
    values, same = [], bool(torch.equal(total, step()))
    for _ in range(20):
        torch.cuda.synchronize()
        began = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        values.append(1000 * (time.perf_counter() - began))
    return row(values, None) | {"same total": same}


def compiled_loss(bench: Bench) -> dict[str, Any]:
    """Milliseconds of forward and backward as ``torch.compile`` records them."""
    step, leaves = bench.built("triton", bench.case("L 4"))
    compiled = torch.compile(step, mode="reduce-overhead")
    return in_turns(bench, {"triton": (step, leaves), "triton, compiled": (compiled, leaves)})


def loss_row(bench: Bench, name: str, paths: Sequence[str] = PATHS) -> dict[str, Any]:
    """Milliseconds of forward and backward pass, and MiB beyond the heads' outputs, of all paths in turns."""
    case = bench.case(name)
    steps: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for path in paths:
        try:
            steps[path] = bench.built(path, case)
        except Exception as cause:  # such as MONAI, which is not installed
            failed[path] = said(cause)
    return failed | in_turns(bench, steps)


def in_turns(bench: Bench, steps: dict[str, Any], rounds: int = 10) -> dict[str, Any]:
    """Measure steps in turns; a slow one less often."""
    times: dict[str, list[float]] = {path: [] for path in steps}
    peaks: dict[str, float] = {}
    failed: dict[str, str] = {}
    warm = 0 if bench.dry else 2
    for _ in range(1 if bench.dry else rounds + warm):
        for path, (step, leaves) in steps.items():
            enough = len(times[path]) >= warm + 3 and sum(times[path][warm:]) > 1500
            if path in failed or enough or bench.left() < 0:
                continue
            try:
                seconds, peaks[path] = timed(bench, step, leaves)
                times[path].append(1000 * seconds)
            except Exception as cause:
                failed[path] = said(cause)
                leave_nothing(leaves)
    rows = {path: row(values[warm:], peaks[path]) for path, values in times.items() if len(values) > warm}
    return {path: rows.get(path, failed.get(path, "not run: no time was left")) for path in steps}


def timed(bench: Bench, step: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[float, float]:
    leave_nothing(leaves)
    synchronize(bench.device)
    before, began = memory(bench.device, reset=True), time.perf_counter()
    step().backward()
    synchronize(bench.device)
    return time.perf_counter() - began, memory(bench.device) - before


def taken(step: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    torch.autograd.grad(step(), leaves)


def leave_nothing(leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def row(values: list[float], mib: float | None) -> dict[str, Any]:
    numbers = {"ms": statistics.median(values), "least": min(values), "greatest": max(values)}
    found: dict[str, Any] = {key: round(value, 4) for key, value in numbers.items()} | {"steps": len(values)}
    return found if mib is None else found | {"mib": round(mib, 1)}


def kernel_row(bench: Bench, name: str) -> dict[str, float]:
    """Microseconds of each kernel that takes more than 1 % of a step."""
    step, leaves = bench.built("triton", bench.case(name))
    taken(step, leaves)
    activity = torch.profiler.ProfilerActivity.CUDA
    times = 1 if bench.dry else 5
    with torch.profiler.profile(activities=[activity] if not bench.dry else None) as profile:
        for _ in range(times):
            taken(step, leaves)
        synchronize(bench.device)
    kind = "self_cpu_time_total" if bench.dry else "self_device_time_total"
    rows = {event.key[:60]: getattr(event, kind) / times for event in profile.key_averages()}
    whole = sum(rows.values())
    shown = sorted(rows.items(), key=lambda pair: -pair[1])
    return {key: round(value, 1) for key, value in shown if value > whole / 100} | {"all": round(whole, 1)}


def scaling_row(bench: Bench, axis: str) -> dict[str, list[tuple[int, float]]]:
    """Median milliseconds along one axis."""
    found: dict[str, list[tuple[int, float]]] = {"triton": [], "deep supervision": []}
    for n, change in SCALING[axis][: 2 if bench.dry else None]:
        steps = {path: bench.built(path, bench.case("L 4", **change)) for path in found}
        for path, one in in_turns(bench, steps, 5).items():
            if isinstance(one, dict):
                found[path].append((n, one["ms"]))
    return found


def mutants_row(bench: Bench) -> dict[str, list[tuple[int, float]]]:
    """Median milliseconds of the reference space with all but so many mutants at weight 0: they must cost nothing."""
    found = []
    case = bench.case("L 4") if not bench.dry else bench.case("L 4") | {"scales": 4}
    shape = (case["batch"], case["classes"], *case["size"])
    maps = tuple(SearchSpace.load("lomix").maps(4))
    for mutants in KEPT[: 2 if bench.dry else None]:
        weights = [1.0] * 4 + [float(i * mutants // 44 != (i + 1) * mutants // 44) for i in range(MAPS_OF_4 - 4)]
        loss = MixtureLoss("lomix", 4, case["classes"], Fixed(maps, weights), engine="triton").to(bench.device)
        logits = [torch.randn(shape, device=bench.device, requires_grad=True) for _ in range(4)]
        labels = torch.randint(case["classes"], (shape[0], *shape[2:]), device=bench.device)
        one = in_turns(bench, {"triton": (partial(loss, logits, labels), [*logits, *loss.parameters()])}, 5)["triton"]
        found += [(mutants, one["ms"])] if isinstance(one, dict) else []
    return {"triton": found}


def steps_row(bench: Bench) -> dict[str, Any]:
    """Steps of a DynUNet in bf16 with AdamW: last layer, deep supervision, mixture, in turns."""
    kinds = ("last layer", "deep supervision", "mixture")
    found = in_turns(bench, {kind: training_step(bench, kind) for kind in kinds})
    rows = {kind: one for kind, one in found.items() if isinstance(one, dict)}
    if len(rows) == len(kinds):
        for one in rows.values():
            one["of last layer"] = round(one["ms"] / rows["last layer"]["ms"], 3)
    return found


def training_step(bench: Bench, kind: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    torch.manual_seed(0)
    batch, size = (1, 32) if bench.dry else (24, 224)
    bare = dynunet().to(bench.device)
    images = torch.rand(batch, 1, size, size, device=bench.device)
    labels = torch.randint(CLASSES, (batch, size, size), device=bench.device)
    net: nn.Module = bare.train()
    loss = MixtureLoss("last_layer", 1, CLASSES, "uniform").to(bench.device)
    if kind != "last layer":
        net = instrument(bare, images[:1], CLASSES).train()
        space, weighting = (
            ("lomix", "softplus") if kind == "mixture" and not bench.dry else ("deep_supervision", "uniform")
        )
        loss = MixtureLoss(space, len(net.stages), CLASSES, weighting).to(bench.device)
    parameters = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)

    def step() -> Tensor:
        """The last step's gradients move the parameters first, so that one call is one whole step."""
        if any(p.grad is not None for p in parameters):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device, torch.bfloat16):
            maps = net(images)
            total: Tensor = loss(maps if isinstance(maps, list) else [maps], labels)
        return total

    return step, []


# -- the file ----------------------------------------------------------------------------------------------------------


def said(cause: Exception) -> str:
    first = next((line for line in str(cause).splitlines() if line.strip()), "")
    return f"failed: {type(cause).__name__}: {first[:300]}"


def machine(bench: Bench) -> dict[str, str]:
    """What numbers are only good for."""
    import triton

    name = "Triton's interpreter: no number means anything" if bench.dry else torch.cuda.get_device_name()
    return {"device": name, "torch": torch.__version__, "triton": triton.__version__}


def begun(path: Path, here: dict[str, str]) -> dict[str, Any]:
    """Read what was measured before; of another machine it is not gone on with."""
    if not path.exists():
        return here | {"command": "python benchmarks/gpu.py", "rows": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    before = {key: found.get(key) for key in here}
    if before != here:
        sys.exit(f"{path} is of {before}, here is {here}: give another --out")
    return found


def measured(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and value.startswith(("failed", "not run")))


def run(bench: Bench, path: Path, chosen: Sequence[str] = ("",)) -> None:
    """Measure the rows whose names begin so."""
    found = begun(path, machine(bench))
    for name, (needed, work) in rows_of(bench).items():
        if measured(found["rows"].get(name)) or not name.startswith(tuple(chosen)):
            continue
        if bench.left() < needed and not bench.dry:
            found["rows"].setdefault(name, "not run: no time was left")
            continue
        try:
            found["rows"][name] = work()
        except Exception as cause:  # whatever it is, it belongs in the file, and the next row may work
            found["rows"][name] = said(cause)
        if not bench.dry:
            torch.cuda.empty_cache()
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, json.dumps(found["rows"][name], ensure_ascii=False), flush=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tables(found: dict[str, Any]) -> None:
    """Print the rows of losses and steps as docs/performance.md has them."""
    print(f"{found['device']}, torch {found['torch']}, Triton {found['triton']}\n")
    print(f"| case | {' | '.join(PATHS)} |\n{'|---' * (1 + len(PATHS))}|")
    for name in CASES:
        cells = found["rows"].get(f"loss, {name}")
        cells = cells if isinstance(cells, dict) else {}
        print(f"| {name} | {' | '.join(cell(cells.get(path)) for path in PATHS)} |")
    print("\n| row | found |\n|---|---|")
    for name, value in found["rows"].items():
        if not name.startswith(("loss, ", "scaling, ")):
            print(f"| {name} | {json.dumps(value, ensure_ascii=False)} |")


def cell(one: Any) -> str:
    """Write ms (least–greatest), MiB."""
    if not isinstance(one, dict):
        return str(one or "not run")
    return f"{one['ms']:.2f} ({one['least']:.2f}–{one['greatest']:.2f}), {one['mib']:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--rows", nargs="+", default=[""], help="only those whose names begin so")
    parser.add_argument("--tables", action="store_true", help="print what --out holds")
    parser.add_argument("--dry", action="store_true", help="the script itself, on a CPU")
    parser.add_argument("--compile", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile is not None:
        step, leaves = build("triton", REFERENCE | options.compile, "cuda")
        taken(step, leaves)
        return
    if options.tables:
        tables(json.loads(options.out.read_text(encoding="utf-8")))
        return
    if not options.dry and not torch.cuda.is_available():
        sys.exit("no CUDA device: not run")
    run(Bench(time.monotonic() + 60 * options.minutes, options.dry), options.out, options.rows)


if __name__ == "__main__":
    main()
