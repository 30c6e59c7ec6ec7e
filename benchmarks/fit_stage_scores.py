"""Fit the weights of the second reading of a network's stages by maximum likelihood, whole lists held out.

PYTHONPATH=.:tests python benchmarks/fit_stage_scores.py [--write] [--read LIST …]

Each labelled ladder, and each alternative of it, is a set of paths through the candidates of its levels; their share of
all paths is what is maximised, with a penalty on large weights. Printed is, for each list, how many ladders the rules
and the scores have right where the list itself was left out of the fit, how often both readings agree, how often they
are right then, and how many are right if the scores' reading is used where it is all but certain. For the lists that
were labelled blind, the rules are those of the list's first run (tests/published/*_first_run.md); of each is then said
how many are sure, and right, by a curve that was fitted to the others.

What was read of the networks is kept (stage_readings.py). ``--read`` only reads, so two lists may be read at once. A
network that cannot be read here, because its package is missing, is named and left out.

``--write`` writes lomix_search/instrumentation/stages/weights.json, fitted to all lists, and prints the logistic curve
for sure.py, of the rules and scores as they were for the blind lists: today's rules, mended with them, say too much.
"""

import itertools
import json
import math
import pathlib
import sys
from collections import defaultdict

import numpy as np
import torch
from published.lists import labelled_lists
from stage_readings import read_lists

from lomix_search.instrumentation.stages.candidates import SAME
from lomix_search.instrumentation.stages.ladder import WIDTH, viterbi
from lomix_search.instrumentation.stages.sure import LEAST, SURE, TAKEN, feature_names, probability_right

PENALTY = 0.05
FILE = "lomix_search/instrumentation/stages/weights.json"
MISSING = -1e9
RANGES = [0, 0.6, 0.8, 0.95, 1.01]
ALWAYS_TAKEN = [0.9, 0.95, 0.98, 0.99]
TOGETHER = {f"{name}-small": "sixth to ninth, small" for name in ("sixth", "seventh", "eighth", "ninth")}
MADE_OF = {
    "unseen": {"tenth-small", "fourteenth-small"},
    "unseen-2": {"eleventh-small", "fourteenth-small"},
    "unseen-3": {"twelfth-small", "fourteenth-small", "twentieth-small"},
    "unseen-4": {"thirteenth-small", "fourteenth-small"},
    "unseen-5": {"fifteenth-small"},
    "unseen-6": {"sixteenth-small"},
    "unseen-7": {"seventeenth-small"},
    "unseen-8": {"eighteenth-small", "twentieth-small"},
    "unseen-9": {"nineteenth-small", "twentieth-small"},
    "unseen-10": {"twenty-first-small", "twenty-second-small"},
    "unseen-11": {"twenty-third-small"},
    "unseen-12": {"twenty-third-small"},
    "unseen-13": {"twenty-third-small"},
}
"""Small networks that were written after the misses of a list, or of several; they are left out with each."""


class Alike:
    """Networks of as many levels, with about as many candidates, as one array of each kind: many fits are made."""

    def __init__(self, networks: list[dict], levels: int, most: int) -> None:
        count, sets = len(networks), max(len(one["paths"]) for one in networks)
        self.unary = torch.zeros(count, levels, most, WIDTH)
        self.open = torch.full((count, levels, most), MISSING)
        self.marks = torch.full((count, sets, levels, most), MISSING)
        alike = torch.full((count, levels, most, len(SAME)), -1) - torch.arange(levels)[:, None, None]
        for n, one in enumerate(networks):
            for i, (unary, same) in enumerate(zip(one["unary"], one["alike"], strict=True)):
                self.unary[n, i, : len(unary)], self.open[n, i, : len(unary)] = torch.tensor(unary), 0
                alike[n, i, : len(unary)] = torch.tensor(same)
            for s, path in enumerate(one["paths"]):
                for i, mark in enumerate(path):
                    self.marks[n, s, i, : len(mark)][torch.tensor(mark)] = 0
        self.same = (alike[:, :-1, :, None] == alike[:, 1:, None]).to(torch.float32)

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        """How unlikely the labelled ladders are."""
        single = self.unary @ weights[:WIDTH] + self.open
        pairs = (self.same @ weights[WIDTH:].to(torch.float32)).to(torch.float64)
        labelled = torch.logsumexp(log_sum(single[:, None] + self.marks, pairs[:, None]), 1)
        return (log_sum(single, pairs) - labelled).clamp(min=0).sum()


def log_sum(single: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Log of the sum over all paths through levels."""
    value = single[..., 0, :]
    for i in range(1, single.shape[-2]):
        value = torch.logsumexp(value[..., :, None] + pairs[..., i - 1, :, :], -2) + single[..., i, :]
    return torch.logsumexp(value, -1)


def fitted(networks: list[dict]) -> torch.Tensor:
    """The weights under which the labelled ladders are likeliest."""
    alike = defaultdict(list)
    for one in networks:
        if one["paths"] and one["unary"]:
            most = max(map(len, one["unary"]))
            alike[len(one["unary"]), 2 ** math.ceil(math.log2(most))].append(one)
    groups = [Alike(members, *size) for size, members in alike.items()]
    weights = torch.zeros(WIDTH + len(SAME), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, history_size=20, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = PENALTY * (weights**2).sum() + sum(group.loss(weights) for group in groups)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def judged(one: dict, weights: torch.Tensor, blind: bool) -> dict:
    """Whether both readings are right, whether they agree, and the log of the share of each among all ladders.

    Args:
        one: What was read of a network.
        weights: Of the scores.
        blind: Whether the rules are those of the list's first run.
    """
    right, rules = (one["then_right"], one["then"]) if blind else (one["right"], one["rules"])
    if not one["unary"]:
        return dict(id=one["id"], rules=right, scores=False, agree=False, share=-math.inf, best=-math.inf)
    single = [u @ weights[:WIDTH].numpy() for u in one["unary"]]
    neighbours = itertools.pairwise(one["alike"])
    pairs = [(a[:, None] == b[None]).astype(float) @ weights[WIDTH:].numpy() for a, b in neighbours]
    path, best = viterbi(single, pairs)
    scores = any(all(marks[at] for marks, at in zip(ladder, path, strict=True)) for ladder in one["paths"])
    total = log_total(single, pairs)
    agree = rules is not None and all(marks[at] for marks, at in zip(rules, path, strict=True))
    marked = [np.where(mark, score, MISSING) for mark, score in zip(rules or [], single, strict=False)]
    share = log_total(marked, pairs) - total if rules is not None else -math.inf
    return dict(id=one["id"], rules=right, scores=scores, agree=agree, share=share, best=best - total)


def used(verdict: dict, least: float = TAKEN) -> dict:
    """The reading that is used, as instrument() does: the scores' where it is all but certain, else the rules'."""
    is_taken = not verdict["agree"] and verdict["best"] >= math.log(least) and verdict["share"] > -math.inf
    share = verdict["best"] if is_taken else verdict["share"]
    return dict(taken=is_taken, right=verdict["scores" if is_taken else "rules"], agree=verdict["agree"], share=share)


def probability(verdict: dict, weights: list[float]) -> float:
    given = (1.0, verdict["agree"], max(LEAST, verdict["share"]))
    return 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, given, strict=True))))


def log_total(single: list, pairs: list) -> float:
    value = single[0]
    for here, pair in zip(single[1:], pairs, strict=True):
        value = np.logaddexp.reduce(value[:, None] + pair, axis=0) + here
    return float(np.logaddexp.reduce(value))


def curve(verdicts: list[dict]) -> list[float]:
    """The logistic curve of nothing, of agreement and of the rules' share, to whether the rules are right."""
    given = torch.tensor([[1.0, v["agree"], max(LEAST, v["share"])] for v in verdicts])
    right, weights = torch.tensor([float(v["rules"]) for v in verdicts]), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(given @ weights, right, reduction="sum")
        loss = loss + 0.05 * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach().tolist()


def calibration(said: list[tuple[float, bool]]) -> str:
    """A row of how many are right of those of which a probability in each range was said, and its mean."""
    cells = []
    for low, high in itertools.pairwise(RANGES):
        here = [(p, right) for p, right in said if low <= p < high]
        mean = f", said {sum(p for p, _ in here) / len(here):.2f}" if here else ""
        cells.append(f"{sum(right for _, right in here)} of {len(here)}{mean}")
    return " | ".join(cells)


def held_out(known: dict[str, list[dict]], blind: set[str]) -> dict[str, list[dict]]:
    """For each list what the scores say that were fitted without it."""
    print("\n| list held out | ladders | rules right | scores right | both agree | right where they agree | together |")
    print("|---|---|---|---|---|---|---|")
    verdicts = {}
    for name, held in known.items():
        left_out = {name} | MADE_OF.get(name, set())
        weights = fitted([one for other, networks in known.items() if other not in left_out for one in networks])
        verdicts[name] = here = [judged(one, weights, name in blind) for one in held]
        agreed = [v for v in here if v["agree"]]
        counts = [len(here), sum(v["rules"] for v in here), sum(v["scores"] for v in here), len(agreed)]
        counts += [sum(v["rules"] for v in agreed), sum(used(v)["right"] for v in here)]
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |", flush=True)
    return verdicts


def taken(verdicts: list[dict]) -> None:
    """Print how the reading that is used depends on the share that the scores' must have."""
    for least in ALWAYS_TAKEN:
        those = [(v, used(v, least)) for v in verdicts]
        apart = [v for v, one in those if one["taken"]]
        right = sum(one["right"] for _, one in those)
        scores, rules = (sum(v[which] for v in apart) for which in ("scores", "rules"))
        print(f"taken from {least}: {right} of {len(those)}; taken {len(apart)}, {scores} right, by rules {rules}")


def sure(verdicts: dict[str, list[dict]]) -> None:
    """Print of each list how many are sure, and right, by the curve of the others."""
    print("\n| list held out | sure | right | " + " | ".join(f"{low} …" for low in RANGES[:-1]) + " |")
    print("|---|---|---|" + "---|" * (len(RANGES) - 1))
    every: list[tuple[float, bool]] = []
    for name, here in verdicts.items():
        weights = curve([v for other, those in verdicts.items() if other != name for v in those])
        said = [(probability(one, weights), one["right"]) for one in map(used, here)]
        every += said
        print(row(name, said))
    print(row("all of them", every))
    those = [used(verdict) for here in verdicts.values() for verdict in here]
    print(row("all, by the curve of sure.py", [(probability_right(v["agree"], v["share"]), v["right"]) for v in those]))


def row(name: str, said: list[tuple[float, bool]]) -> str:
    those = [right for p, right in said if p >= SURE]
    return f"| {name} | {len(those)} of {len(said)} | {sum(those)} | {calibration(said)} |"


def main() -> None:
    torch.set_num_threads(1)
    lists = labelled_lists()
    asked = [name for name in sys.argv[1:] if name in lists]
    read = read_lists(asked)
    if "--read" in sys.argv:
        return
    known: dict[str, list[dict]] = defaultdict(list)
    for name, networks in read.items():
        known[TOGETHER.get(name, name)] += networks
    torch.set_default_dtype(torch.float64)
    blind = {name for name in known if name in lists and lists[name].blind}
    verdicts = held_out(known, blind)
    those = {name: verdicts[name] for name in verdicts if name in blind}
    taken([v for here in those.values() for v in here])
    sure(those)
    if "--write" in sys.argv:
        weights = fitted([one for networks in known.values() for one in networks])
        table = {name: round(float(w), 3) for name, w in zip(feature_names(), weights, strict=True)}
        pathlib.Path(FILE).write_text(json.dumps(table, indent=1) + "\n")
    print("for sure.py:", [round(one, 2) for one in curve([v for here in those.values() for v in here])])


if __name__ == "__main__":
    main()
