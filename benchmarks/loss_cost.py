"""What the mixture loss costs: time and memory of one forward and backward pass of the loss alone.

    python benchmarks/loss_cost.py                     # the reference row: batch 6, 9 classes, 224 × 224, 4 scales
    python benchmarks/loss_cost.py --grid              # L, C, sizes and types, one at a time from the reference row
    python benchmarks/loss_cost.py --options           # several channels of 0 and 1, and other losses than the paper's
    python benchmarks/loss_cost.py --own               # a loss of MONAI's, called map by map
    python benchmarks/loss_cost.py --device cuda       # the same on a GPU

Each measurement runs in a process of its own, on a GPU all in one, whose minutes are dear; the paths take turns, round
after round, so that whatever else the machine does hits all of them. Time is the median over rounds of the best step of
a round, with the least and the greatest round; processor time is that of all threads together, which other people's
work on the machine disturbs less; memory is the peak beyond what the inputs took. ``straightforward`` is the baseline:
one cross-entropy, one one-hot and one class-wise Dice for each map, autograd through everything, checked against
tests/golden first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from lomix_search.mixture.loss import MixtureLoss  # noqa: E402 — the checkout's, whatever is installed
from lomix_search.mixture.loss.dispatch import ENGINES, choose_engine, engine_report  # noqa: E402
from lomix_search.mixture.loss.reference import fuse, reference_losses  # noqa: E402
from lomix_search.mixture.loss.resize import resize_maps  # noqa: E402
from lomix_search.mixture.loss.single_map import FINEST_ALONE  # noqa: E402

REFERENCE = {"batch": 6, "classes": 9, "size": [224, 224], "scales": 4, "dtype": "float32", "options": {}}
PATHS = ("last layer", "deep supervision", "monai", "vectorised", "straightforward", "reference", "tiled", "native")
KEYS = ("seconds", "processor", "mib")
GRID: list[dict[str, object]] = [
    *({"scales": scales} for scales in (2, 3, 5, 6)),
    *({"classes": classes} for classes in (2, 4, 14)),
    {"size": [512, 512], "batch": 1},
    {"size": [64, 64, 64], "batch": 1},
    {"size": [96, 96, 96], "batch": 1},
    {"dtype": "bfloat16"},
]
STRUCTURE = {"region": "iou", "squared": False, "per_image": True, "smooth": 1.0, "boundary_weight": 5.0}
OPTIONS: list[dict[str, object]] = [
    {},
    {"options": {"multilabel": True}, "classes": 3},
    {"options": {"multilabel": True}},
    {"options": {"per_image": True, "squared": False, "background": False}},
    {"options": {"class_weights": [0.1, *[1.0] * 8]}},
    {"options": {"region": "tversky", "tversky_alpha": 0.3, "tversky_beta": 0.7}},
    {"options": {"focal_gamma": 2.0}},
    {"options": {"label_smoothing": 0.1}},
    {"options": {"top_k": 0.1}},
    {"options": STRUCTURE, "classes": 1},
]
"""The paper's loss first, so that the others can be held against it in the same run."""
OWN: list[dict[str, object]] = [
    {"size": [64, 64, 64], "batch": 1, "classes": 4, "scales": n, "own": True} for n in (2, 3, 4)
]


def dice(p: Tensor, y: Tensor) -> Tensor:
    """Class after class, as most training code does."""
    total = p.new_zeros(())
    for c in range(p.shape[1]):
        overlap, union = (p[:, c] * y[:, c]).sum(), (p[:, c] * p[:, c]).sum() + (y[:, c] * y[:, c]).sum()
        total = total + 1 - (2 * overlap + 1e-5) / (union + 1e-5)
    return total / p.shape[1]


def straightforward(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> Tensor:
    """One loss after the other."""
    weights, operators = loss.weighting.weights(), dict(loss.operators.items())
    maps = [m if m.dtype == torch.float64 else m.float() for m in maps]
    total = maps[0].new_zeros(())
    for weight, m in zip(weights, loss.maps, strict=True):
        logits = fuse(m, maps, operators)
        one_hot = torch.stack([labels == c for c in range(logits.shape[1])], 1).to(logits.dtype)
        total = total + weight * (
            loss.ce * F.cross_entropy(logits, labels) + loss.dice * dice(logits.softmax(1), one_hot)
        )
    return total


def each_map(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> Tensor:
    """One loss after the other, with the options of the loss: each by the reference, autograd through everything."""
    weights, operators, total = loss.weighting.weights(), dict(loss.operators.items()), maps[0].new_zeros(())
    plan = replace(loss.plan, maps=FINEST_ALONE, num_maps=1)
    for weight, m in zip(weights, loss.maps, strict=True):
        ce, region = reference_losses([fuse(m, maps, operators)], labels, plan, {})
        total = total + weight * (loss.ce * ce[0] + loss.dice * region[0])
    return total


def own_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """MONAI's DiceFocalLoss."""
    from monai.losses import DiceFocalLoss

    loss = DiceFocalLoss(softmax=True, to_onehot_y=True)
    return lambda logits, labels: loss(logits, labels[:, None])


def each_own(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> Tensor:
    """A user's own loss of each map, autograd through everything."""
    operators = dict(loss.operators.items())
    return loss.weighting(torch.stack([loss.loss(fuse(m, maps, operators), labels) for m in loss.maps]))


def monai_deep_supervision() -> Callable[[list[Tensor], Tensor], Tensor]:
    """MONAI's DeepSupervisionLoss(DiceCELoss) of the originals alone."""
    from monai.losses import DeepSupervisionLoss, DiceCELoss

    loss = DeepSupervisionLoss(DiceCELoss(include_background=True, to_onehot_y=True, softmax=True, batch=True))
    return lambda maps, labels: loss(maps[::-1], labels[:, None])


def vectorised(maps: list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy and Dice of the originals alone, all classes at once."""
    total = maps[0].new_zeros(())
    for logits in maps:
        y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        p, over = logits.softmax(1), [0, *range(2, logits.ndim)]
        shares = (2 * (p * y).sum(over) + 1e-5) / ((p * p).sum(over) + y.sum(over) + 1e-5)
        total = total + 0.3 * F.cross_entropy(logits, labels) + 0.7 * (1 - shares).mean()
    return total


def check() -> None:
    """The baseline computes what the authors' module did."""
    from support.golden import GOLDEN, Golden

    for path in GOLDEN:
        golden = Golden(path, "reference")
        total = straightforward(golden.loss, list(golden.maps), golden.file["labels"])
        total.backward()
        torch.testing.assert_close(total.detach().reshape(1), golden.file["loss_total"], rtol=1e-10, atol=0)
        torch.testing.assert_close(golden.maps.grad, golden.file["grad_maps"], rtol=1e-9, atol=1e-13)


# -- one measurement, in a process of its own --------------------------------------------------------------------------


def measure(path: str, case: dict[str, object], device: str, steps: int) -> dict[str, float]:
    """Return seconds of the best step and MiB of the peak beyond the inputs."""
    torch.manual_seed(0)
    step, leaves = kept(path, json.dumps(case), device)
    warm, _ = build(path, case | {"size": [8] * len(case["size"]), "batch": 1}, device)
    warm().backward()
    before = memory(device, reset=True)
    seconds, processor = [], []
    for _ in range(steps + 1):
        for leaf in leaves:
            leaf.grad = None
        synchronize(device)
        begin, worked = time.perf_counter(), time.process_time()
        step().backward()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - worked)
    return {"seconds": min(seconds[1:]), "processor": min(processor[1:]), "mib": memory(device) - before}


@lru_cache(maxsize=16)
def kept(path: str, case: str, device: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Build once what one process measures in several rounds: what was compiled for it is not compiled again."""
    return build(path, json.loads(case), device)


def build(path: str, case: dict[str, object], device: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Make inputs and the loss; the originals stand at the labels' size, or at the ``strides`` of the case.

    Our engines take coarse originals as they are; for every other path they are resized in each step.
    """
    dtype, classes, scales = getattr(torch, case["dtype"]), case["classes"], case["scales"]
    shape = (case["batch"], classes, *case["size"])
    strides = case.get("strides") or [1] * scales
    sizes = [(*shape[:2], *(-(-n // stride) for n in case["size"])) for stride in strides]
    maps = [torch.randn(own, device=device).to(dtype).requires_grad_() for own in sizes]
    options = dict(case["options"])
    several = options.get("multilabel", False)
    labels = torch.randint(
        2 if several else max(classes, 2), shape if several else (shape[0], *shape[2:]), device=device
    )
    given = (
        (lambda: list(resize_maps(maps, labels.shape[-len(case["size"]) :]))) if case.get("strides") else lambda: maps
    )
    plain = {"last layer": "last_layer", "deep supervision": "deep_supervision"}
    weighting = "uniform" if path in plain else "softplus"
    engine = path if path in ENGINES else "auto"
    options |= {"loss": own_loss()} if case.get("own") else {}
    loss = MixtureLoss(plain.get(path, "lomix"), scales, classes, weighting, engine=engine, **options).to(device)
    if path in (*ENGINES, "auto"):
        return (lambda: loss(maps, labels)), [*maps, *loss.parameters()]
    if path in ("monai", "vectorised"):
        peer = monai_deep_supervision() if path == "monai" else vectorised
        return (lambda: peer(given(), labels)), maps
    if path == "compiled straightforward":
        compiled = torch.compile(straightforward)
        return (lambda: compiled(loss, given(), labels)), [*maps, *loss.parameters()]
    way = each_own if case.get("own") else each_map if options else straightforward
    return (lambda: way(loss, given(), labels)), [*maps, *loss.parameters()]


def memory(device: str, reset: bool = False) -> float:
    """Return MiB held now (reset) or at the highest point since."""
    if device == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return (torch.cuda.memory_allocated() if reset else torch.cuda.max_memory_allocated()) / 2**20
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # sets the high-water mark to what is held now
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    wanted = "VmRSS:" if reset else "VmHWM:"
    return next(int(line.split()[1]) for line in lines if line.startswith(wanted)) / 1024


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# -- rounds and tables -------------------------------------------------------------------------------------------------


def in_turns(
    paths: Iterable[str], case: dict[str, object], options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {path: {key: [] for key in KEYS} for path in paths}
    for _ in range(options.rounds):
        for path in found:
            if options.device == "cuda":
                numbers = measure(path, case, options.device, options.steps_per_round)
                for key in KEYS:
                    found[path][key].append(numbers[key])
                continue
            job = {"path": path, "case": case, "device": options.device, "steps": options.steps_per_round}
            job = json.dumps(job | {"threads": options.threads})
            command = [sys.executable, "-W", "ignore", __file__, "--measure", job]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"{path}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            for key, value in json.loads(done.stdout.splitlines()[-1]).items():
                found[path][key].append(value)
    kept.cache_clear()
    return found


def table(found: dict[str, dict[str, list[float]]]) -> None:
    """Print one row a path, with ratios to the baseline of the same round."""
    base = found.get("straightforward", {key: [] for key in KEYS})
    print(
        "| path | time, ms | times faster | processor time, ms | times less | peak memory, MiB | of straightforward |"
    )
    print("|---|---|---|---|---|---|---|")
    for path, numbers in found.items():
        if not numbers["seconds"]:
            print(f"| {path} | not run | | | | | |")
            continue
        cells = [
            cell for key in KEYS[:2] for cell in (spread(numbers[key], 1000), spread(ratios(base[key], numbers[key])))
        ]
        mib = statistics.median(numbers["mib"])
        share = f"1/{statistics.median(base['mib']) / max(mib, 0.1):.0f}" if base["mib"] else ""
        print(f"| {path} | {' | '.join(cells)} | {mib:.0f} | {share} |", flush=True)


def ratios(base: list[float], numbers: list[float]) -> list[float]:
    return [b / n for b, n in zip(base, numbers, strict=False)]


def spread(values: list[float], factor: float = 1) -> str:
    """Write the median (least–greatest)."""
    if not values:
        return ""
    digits = 0 if factor > 1 else 1
    low, middle, high = (factor * v for v in (min(values), statistics.median(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--options", action="store_true")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--case", action="append", type=json.loads, help="""such as '{"scales": 6, "batch": 1}'""")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps-per-round", type=int, default=3)
    parser.add_argument("--paths", nargs="+")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        job = json.loads(options.measure)
        torch.set_num_threads(job["threads"])
        print(json.dumps(measure(job["path"], job["case"], job["device"], job["steps"])))
        return
    check()
    print(f"torch {torch.__version__}, {options.threads} threads, {options.device}; {engine_report()}")
    given = options.paths or (("straightforward", "auto") if options.options or options.own else PATHS)
    given = tuple(p.replace("native", "triton") for p in given) if options.device == "cuda" else given
    paths = [p for p in given if p != "native" or choose_engine("auto", "cpu") == "native"]
    cases = GRID if options.grid else OPTIONS if options.options else OWN if options.own else options.case or [{}]
    for change in cases:
        case = REFERENCE | change
        print(f"\n{case}\n")
        table(in_turns(paths, case, options))


if __name__ == "__main__":
    main()
