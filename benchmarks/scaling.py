"""How the cost of the mixture loss grows: with scales, classes, pixels and the number of mutants, in one picture.

    python benchmarks/scaling.py docs/scaling.png      # needs matplotlib: pip install "lomix-search[plot]"
    python benchmarks/scaling.py docs/scaling_gpu.png --measured gpu.json      # of what benchmarks/gpu.py found

Processor time of forward and backward of the loss on one thread, best of several turns. The numbers are printed too.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from loss_cost import REFERENCE, build

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.dispatch import choose_engine
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed

BASE = REFERENCE | {"batch": 1, "size": [112, 112]}
AXES: dict[str, list[tuple[int, dict[str, object]]]] = {
    "scales L": [(n, {"scales": n}) for n in (2, 3, 4, 5, 6)],
    "classes C": [(n, {"classes": n}) for n in (2, 4, 9, 14, 32)],
    "pixels": [(n * n, {"size": [n, n]}) for n in (28, 56, 112, 224)],
}
KEPT = (0, 4, 12, 24, 44)


def seconds(path: str, case: dict[str, object], turns: int) -> float:
    step, leaves = build(path, case, "cpu")
    return best(lambda: step().backward(), leaves, turns)


def best(run: object, leaves: Sequence[torch.Tensor], turns: int) -> float:
    times = []
    for _ in range(turns + 1):
        for leaf in leaves:
            leaf.grad = None
        begin = time.process_time()
        run()  # type: ignore[operator]
        times.append(time.process_time() - begin)
    return min(times[1:])


def pruned(path: str, mutants: int, turns: int) -> float:
    """The reference space with all but so many mutants at weight 0: they must cost nothing."""
    maps = tuple(SearchSpace.load("lomix").maps(4))
    weights = [1.0] * 4 + [float(i * mutants // 44 != (i + 1) * mutants // 44) for i in range(44)]
    loss = MixtureLoss("lomix", 4, 9, Fixed(maps, weights), engine="reference" if path == "straightforward" else path)
    logits = [torch.randn(1, 9, 112, 112, requires_grad=True) for _ in range(4)]
    labels = torch.randint(9, (1, 112, 112))
    return best(lambda: loss(logits, labels).backward(), logits, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measured", type=Path, help="a file of benchmarks/gpu.py")
    options = parser.parse_args()
    if options.measured is not None:
        found = json.loads(options.measured.read_text(encoding="utf-8"))
        curves = measured(found)
        show(curves)
        draw(curves, options.picture, f"ms on {found['device']}")
        return
    torch.set_num_threads(1)
    paths = ["straightforward", "tiled", *(["native"] if choose_engine("auto", "cpu") == "native" else [])]
    curves = {}
    for axis, points in AXES.items():
        curves[axis] = {p: [(n, seconds(p, BASE | change, options.turns)) for n, change in points] for p in paths}
    curves["mutants that count"] = {p: [(n, pruned(p, n, options.turns)) for n in KEPT] for p in paths}
    show(curves)
    draw(curves, options.picture)


def measured(found: dict[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the curves of a file of benchmarks/gpu.py, in seconds."""
    rows = {name.removeprefix("scaling, "): row for name, row in found["rows"].items() if name.startswith("scaling, ")}
    return {
        axis: {path: [(n, ms / 1000) for n, ms in points] for path, points in row.items()}
        for axis, row in rows.items()
        if isinstance(row, dict)
    }


def show(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> None:
    for axis, rows in curves.items():
        print(f"\n| {axis} | " + " | ".join(str(n) for n, _ in next(iter(rows.values()))) + " |")
        print("|---" * (1 + len(next(iter(rows.values())))) + "|")
        for path, points in rows.items():
            print(f"| {path}, ms | " + " | ".join(f"{1000 * s:.1f}" for _, s in points) + " |")
        if axis == "scales L":
            for path, points in rows.items():
                cells = [f"{1e6 * s / (4 * (2**n - n - 1)):.0f}" for n, s in points]
                print(f"| {path}, µs a mutant | " + " | ".join(cells) + " |")


def draw(curves: dict[str, dict[str, list[tuple[int, float]]]], picture: Path, what: str = "ms of one thread") -> None:
    try:
        import matplotlib
    except ModuleNotFoundError:
        sys.exit('No picture: pip install "lomix-search[plot]"')
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.6), layout="constrained")
    for panel, (axis, rows) in zip(panels, curves.items(), strict=True):
        for path, points in rows.items():
            panel.plot([n for n, _ in points], [1000 * s for _, s in points], "o-", label=path)
        panel.set(xlabel=axis, yscale="log", ylabel=f"forward and backward, {what}")
        panel.set_xscale("log" if axis == "pixels" else "linear")
        panel.grid(alpha=0.3, which="both")
    panels[0].legend()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
