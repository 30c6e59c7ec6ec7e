"""Do seeds and data sets choose the same maps? Agreement of the weights found, and what the strongest maps share.

    lomix compare nuclei --seeds 5 --strategies uncertainty,lookahead --folder runs/nuclei
    lomix compare hippocampus --seeds 5 --strategies uncertainty,lookahead --folder runs/hippocampus
    python benchmarks/chosen_maps.py --strategy uncertainty runs/nuclei runs/hippocampus
    python benchmarks/chosen_maps.py --looks --strategy uniform runs/alignment/nuclei runs/alignment/hippocampus

Reads the ``mixture.json`` of every run of a strategy; with ``--looks``, what ``alignment.py`` measured: a map's
strength is then the mean cosine of its gradient with the held-out one over the training. Between networks of as many
stages ids mean the same. τ is Kendall's τ-b over the maps that both have; "top 8" the part of their eight strongest
that two share, and by chance it would be 8/m of m maps.
"""

import argparse
import csv
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from lomix_search.mixture.map_weights import kendall
from lomix_search.mixture.maps import parse_id
from lomix_search.mixture.mixture import Mixture

TOP = 8
Strengths = Mapping[str, float]
"""By map id."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="one for each data set")
    parser.add_argument("--strategy", required=True, help="folder name of a strategy, such as uncertainty")
    parser.add_argument("--looks", action="store_true", help="of what alignment.py measured")
    given = parser.parse_args()
    read = of_looks if given.looks else of_mixtures
    runs = {folder.name: read(folder, given.strategy) for folder in given.folders}
    for name, found in runs.items():
        if not found:
            parser.error(f"{name} has no finished run of {given.strategy}.")
    print(f"{given.strategy}: {', '.join(f'{name} {len(found)} runs' for name, found in runs.items())}\n")
    print(agreement_table(runs))
    print(f"\nof the {TOP} strongest maps of each run, the mean number of\n\n{shares_table(runs)}")
    for name, found in runs.items():
        print(f"\n{name}, in how many runs among the {TOP} strongest: {often(found)}")


def of_mixtures(folder: Path, strategy: str) -> list[Strengths]:
    return [Mixture.load(path).weights for path in sorted((folder / strategy).rglob("mixture.json"))]


def of_looks(folder: Path, strategy: str) -> list[Strengths]:
    cosines: dict[str, dict[str, list[float]]] = {}
    with (folder / "looks.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["strategy"] == strategy and parse_id(row["map"]):
                cosines.setdefault(row["seed"], {}).setdefault(row["map"], []).append(float(row["cosine"]))
    return [{name: statistics.fmean(values) for name, values in of.items()} for of in cosines.values()]


def agreement_table(runs: Mapping[str, Sequence[Strengths]]) -> str:
    """Lay out mean τ and top 8 within each data set and between any two."""
    rows = ["| runs | pairs | τ | top 8 |", "| --- | --- | --- | --- |"]
    for name, found in runs.items():
        rows.append(agreement_row(name, list(itertools.combinations(found, 2))))
    for one, other in itertools.combinations(runs, 2):
        rows.append(agreement_row(f"{one} with {other}", list(itertools.product(runs[one], runs[other]))))
    return "\n".join(rows)


def agreement_row(title: str, pairs: Sequence[tuple[Strengths, Strengths]]) -> str:
    found = [agree(one, other) for one, other in pairs]
    cells = [spelled([tau for tau, _ in found], ".2f"), spelled([share for _, share in found], ".0%")]
    return f"| {title} | {len(pairs)} | {' | '.join(cells)} |"


def agree(one: Strengths, other: Strengths) -> tuple[float, float]:
    """Return τ-b over the maps of both, and the part of their strongest that they share."""
    both = [name for name in one if name in other]
    mine, theirs = (torch.tensor([of[name] for name in both], dtype=torch.float64) for of in (one, other))
    return kendall(mine, theirs), len(set(strongest(one)) & set(strongest(other))) / TOP


def strongest(of: Strengths) -> list[str]:
    return sorted(of, key=lambda name: -of[name])[:TOP]


def spelled(values: Sequence[float], form: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    ends = f" ({min(known):{form}} … {max(known):{form}})" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{form}}{ends}"


def shares_table(runs: Mapping[str, Sequence[Strengths]]) -> str:
    """Lay out how many of the strongest are of a kind, contain a stage, beside what chance would give."""
    stages = sorted({scale for found in runs.values() for of in found for name in of for scale in named(name)[1]})
    kinds = dict.fromkeys(named(name)[0] for found in runs.values() for of in found for name in of)
    tests: dict[str, Callable[[str], bool]] = {kind: lambda name, kind=kind: named(name)[0] == kind for kind in kinds}
    tests |= {f"with P{stage}": lambda name, stage=stage: stage in named(name)[1] for stage in stages}
    head = " | ".join(f"{name} | by chance" for name in runs)
    rows = [f"| maps | {head} |", f"| --- |{' --- |' * (2 * len(runs))}"]
    for title, test in tests.items():
        cells = []
        for found in runs.values():
            counts = [sum(map(test, strongest(of))) for of in found]
            chance = TOP * statistics.fmean(sum(map(test, of)) / len(of) for of in found)
            cells += [f"{statistics.fmean(counts):.1f}", f"{chance:.1f}"]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def often(found: Sequence[Strengths]) -> str:
    counts = Counter(name for of in found for name in strongest(of))
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(TOP))


def named(name: str) -> tuple[str, tuple[int, ...]]:
    found = parse_id(name)
    assert found is not None
    return found


if __name__ == "__main__":
    main()
