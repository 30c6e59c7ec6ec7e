"""One comparison for each patient left out → one table and picture: the patients are the pairs, not the seeds.

    for n in 1 2 3 4; do lomix compare chest_nodules data.leave_out=pat_$n --seeds 2 --folder runs/nodules/pat_$n; done
    python benchmarks/patients.py runs/nodules/pat_* --picture nodules.png

A patient's score is the mean of the seeds. Intervals are Student's t over the patients.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from lomix_search.experiments.compare.verdict import Paired, paired
from lomix_search.experiments.figures import new_figure, save_figure

BASE = "last_layer"
Scores = Mapping[str, Mapping[str, list[float]]]
"""Test Dice by strategy and patient, one for each seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of lomix compare, one for each patient")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    scores = read(given.folders)
    means = {name: {p: statistics.fmean(dice) for p, dice in of.items()} for name, of in scores.items()}
    changes = {name: difference(means[name], means[BASE]) for name in means if name != BASE}
    patients = [folder.name for folder in given.folders]
    print(f"| strategy | {' | '.join(patients)} | mean | − last layer | runs |\n|{' --- |' * (len(patients) + 4)}")
    for name, of in means.items():
        cells = [f"{of[p]:.3f}" for p in patients] + [f"{statistics.fmean(of.values()):.3f}"]
        count = sum(map(len, scores[name].values()))
        print(f"| {name} | {' | '.join(cells)} | {spell(changes.get(name))} | {count} |")
    if given.picture:
        draw(given.picture, scores, changes)


def read(folders: list[Path]) -> Scores:
    found: dict[str, dict[str, list[float]]] = {}
    for folder in folders:
        for row in json.loads((folder / "compare.json").read_text()):
            found.setdefault(row["strategy"], {})[folder.name] = row["dice"]
    return found


def difference(of: Mapping[str, float], base: Mapping[str, float]) -> Paired:
    return paired(*({i: one[p] for i, p in enumerate(sorted(base))} for one in (of, base)))


def spell(pair: Paired | None) -> str:
    return f"{pair.difference:+.3f} ({pair.low:+.3f} … {pair.high:+.3f})" if pair else "–"


def draw(path: Path, scores: Scores, changes: Mapping[str, Paired]) -> None:
    names, patients = list(scores), list(scores[BASE])
    figure = new_figure(9.6, 0.3 * len(names) + 1.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for i, patient in enumerate(patients):
        points = [(dice, -y) for y, name in enumerate(names) for dice in scores[name][patient]]
        left.plot(*zip(*points, strict=True), "o", color=f"C{i}", ms=5, alpha=0.8, label=patient)
        points = [(pair.changes[i], -names.index(name)) for name, pair in changes.items()]
        right.plot(*zip(*points, strict=True), "o", color=f"C{i}", ms=5, alpha=0.8)
    for name, pair in changes.items():
        right.plot([pair.low, pair.high], [-names.index(name)] * 2, color="0.3", lw=1.2)
        right.plot([pair.difference], [-names.index(name)], "|", color="0.3", ms=14, mew=2.2)
    right.axvline(0, color="0.5", lw=1)
    left.set(title="each run", xlabel="test Dice", yticks=range(0, -len(names), -1), yticklabels=names)
    right.set(title=f"minus {BASE}, seeds averaged", xlabel="difference in test Dice; mean, 95 % interval")
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", ncols=len(patients), frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
