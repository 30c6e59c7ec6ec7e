"""Weightings that were tried against ``anneal`` and are none of the library's: none was shown to be better.

    python benchmarks/candidates.py nuclei data.size=64 search.steps=200 --labels 0.1 --seeds 5 --folder runs/candidates

Trains by each strategy and seed and compares the final networks on validation items, paired by seed; test data are for
the one that wins here. Goes on where it was stopped. Strategies are those of ``lomix compare``, and:

``focused``: uncertainty early, the finest map late. Σ sₖ·(wₖ·ℓₖ − log wₖ), s = 1 for the finest map and 1 − t/until,
not below 0, for the others. At its optimum wₖ = 1/ℓₖ the network follows Σ sₖ·log ℓₖ: relative losses, so that hard
maps do not drown easy ones, and in the end the finest alone.

``drawn``: anneal, with k of the M mutants drawn anew in each step, each weighing M/k. A mutant is drawn with
probability k/M, so that the expected loss and gradient are those of anneal; what it adds is noise, what it saves is
M − k maps.

``stagewise``: anneal with an end for each stage: a map falls to 0 at until·s/L, s its coarsest of L stages, as coarse
maps agree with the finest for a shorter time. The finest map takes what they lose.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lomix_search.evaluation.statistics import student_margin
from lomix_search.experiments.compare.strategies import read_strategies
from lomix_search.experiments.run import run_recipe
from lomix_search.mixture.maps import Map
from lomix_search.mixture.testing import check_weighting
from lomix_search.mixture.weighting import Anneal, Uncertainty, weighting
from lomix_search.mixture.weighting.schedule import finest_original
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.utils.files import write_text

BASE = "anneal"
Scores = Mapping[str, Mapping[int, float]]
"""Final validation Dice by strategy and seed."""


@weighting("focused")
class Focused(Uncertainty):
    name = "focused"
    progress: Tensor
    finest: Tensor

    def __init__(self, maps: Sequence[Map], until: float = 0.5, lr: float | None = 0.02) -> None:
        super().__init__(maps, "exp", lr)
        self.until, self._is_finest = until, finest_original(maps, self.name)
        self.register_buffer("finest", torch.tensor(self._is_finest).float(), persistent=False)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def weights(self) -> Tensor:
        return self._positive() * self._share()

    def forward(self, losses: Tensor) -> Tensor:
        positive = self._positive().to(losses)
        return ((positive * losses - positive.log()) * self._share().to(losses)).sum()

    def active(self) -> tuple[bool, ...]:
        return self._is_finest if float(self.progress) >= self.until else self._kept

    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)

    def _share(self) -> Tensor:
        left = (1 - self.progress.float() / self.until).clamp(min=0)
        return self.kept * (self.finest + (1 - self.finest) * left)


@weighting("drawn")
class Drawn(Anneal):
    name = "drawn"

    def __init__(self, maps: Sequence[Map], k: int = 4, until: float = 0.5) -> None:
        super().__init__(maps, until=until)
        self.mutants = [i for i, m in enumerate(maps) if m.operator != "original"]
        self.k = min(k, len(self.mutants))

    def weights(self) -> Tensor:
        moved, drawn = self._moved(), self._drawn() * self.kept
        return (1 - moved) * drawn + moved * drawn.sum() * self.finest

    def active(self) -> tuple[bool, ...]:
        return tuple(weight > 0 for weight in self.weights().tolist())

    def _drawn(self) -> Tensor:
        """Return what is drawn at this point of training: a function of it alone, so that a resumed run draws alike."""
        generator = torch.Generator().manual_seed(round(self._progress * 2**40))
        order = torch.randperm(len(self.mutants), generator=generator)[: self.k]
        drawn = torch.ones(len(self.map_ids))
        drawn[self.mutants] = 0
        drawn[torch.tensor(self.mutants)[order]] = len(self.mutants) / self.k
        return drawn.to(self.kept)


@weighting("stagewise")
class Stagewise(Anneal):
    name = "stagewise"
    ends: Tensor

    def __init__(self, maps: Sequence[Map], until: float = 0.75) -> None:
        super().__init__(maps, until=until)
        most = max(max(m.scales) for m in maps)
        ends = torch.tensor([until * min(m.scales) / most for m in maps])
        self.register_buffer("ends", ends, persistent=False)

    def weights(self) -> Tensor:
        left = (1 - self._progress / self.ends).clamp(min=0) * (1 - self.finest) * self.kept
        return left + self.finest * (self.kept.sum() - left.sum())

    def active(self) -> tuple[bool, ...]:
        return tuple(weight > 0 for weight in self.weights().tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="key=value, as of lomix run")
    parser.add_argument(
        "--strategies",
        default="last_layer,deep_supervision(weighting=anneal),anneal,uncertainty,focused,drawn,stagewise",
    )
    parser.add_argument("--labels", type=float, default=1.0, help="part of the training items")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/candidates"))
    given = parser.parse_args()
    for name in ("focused", "drawn", "stagewise"):
        check_weighting(name)
    recipe, scores = load_recipe(given.recipe, given.changes), {}
    steps = recipe.search.steps  # one validation, at the end
    regular = {"validate_every": steps, "checkpoint_every": max(1, steps // 4)}
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update=regular)})
    for seed in range(1, given.seeds + 1):
        for strategy in read_strategies(given.strategies):
            dice, seconds = score(
                strategy.apply(recipe, seed, given.labels), given.folder / strategy.slug / f"seed_{seed}"
            )
            scores.setdefault(strategy.label, {})[seed] = dice
            print(f"seed {seed}  {strategy.label:36} {dice:.4f}  {seconds:.0f} s", flush=True)
    print(table(scores))


def score(recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Return final validation Dice and processor time, of a run or of what it left."""
    done = folder / "candidate.json"
    if not done.is_file():
        began = time.process_time()
        final = run_recipe(recipe, folder, resume=True, score_test=False).result.final
        assert final is not None
        write_text(done, json.dumps({"dice": final.mean, "seconds": time.process_time() - began}))
    found = json.loads(done.read_text(encoding="utf-8"))
    return found["dice"], found["seconds"]


def table(scores: Scores) -> str:
    """Lay out means over seeds, and differences to ``BASE`` paired by seed with Student's intervals."""
    rows = [f"| strategy | mean ± spread | − {BASE} | seeds |", "| --- | --- | --- | --- |"]
    for name, of in scores.items():
        values = list(of.values())
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        changes = np.array([of[seed] - scores[BASE][seed] for seed in of]) if BASE in scores else np.array([])
        told = "–"
        if name != BASE and len(changes) > 1:
            mean, half = float(changes.mean()), student_margin(changes)
            told = f"{mean:+.4f} ({mean - half:+.4f} … {mean + half:+.4f})"
        rows.append(f"| {name} | {statistics.fmean(values):.4f} ± {spread:.4f} | {told} | {len(values)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
