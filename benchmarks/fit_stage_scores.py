"""Fit the weights of the second reading of a network's stages by maximum likelihood, whole lists held out.

PYTHONPATH=.:tests python benchmarks/fit_stage_scores.py [--write]

Each labelled ladder, and each alternative of it, is a set of paths through the candidates of its levels; their share of
all paths is what is maximised, with a penalty on large weights. Printed is, for each list, how many ladders the rules
and the scores have right where the list itself was left out of the fit, how often both readings agree, and how often
they are right then; for how many of all the reading of the scores would be better, taken where its share is so many
times that of the rules' reading; then, of the probabilities that are said, how many are right. A network that cannot be
read here, because its package is missing, is named and left out.

``--write`` writes lomix_search/instrumentation/stages/weights.json, fitted to all lists, and prints the logistic curve
of today's rules. The one in sure.py is of the rules as they were before each list was looked at: today's say too much.
"""

import itertools
import json
import math
import pathlib
import sys
from collections import defaultdict

import numpy as np
import torch
from published.apart import apart
from published.judge import ladders_of
from published.lists import labelled_lists

from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.by_name import map_by_name
from lomix_search.instrumentation.stages.candidates import SAME, level_candidates
from lomix_search.instrumentation.stages.decoder import ladder_of, stages_of
from lomix_search.instrumentation.stages.deep_supervision import supervised_maps
from lomix_search.instrumentation.stages.find import seen_forms
from lomix_search.instrumentation.stages.ladder import WIDTH, viterbi
from lomix_search.instrumentation.stages.layouts import layout_of
from lomix_search.instrumentation.stages.main_output import main_output
from lomix_search.instrumentation.stages.sure import LEAST, SURE, feature_names, map_itself, probability_right
from lomix_search.instrumentation.trace import trace_modes

PENALTY = 0.05
FILE = "lomix_search/instrumentation/stages/weights.json"
MISSING = -1e9
RANGES = [0, 0.3, 0.6, 0.85, 0.95, 1.01]
MARGINS = [0, 1, 2, 4, 8]
TOGETHER = {f"{name}-small": "sixth to ninth, small" for name in ("sixth", "seventh", "eighth", "ninth")}
MADE_OF = {"unseen": {"tenth-small"}, "unseen-2": {"eleventh-small"}, "unseen-3": {"twelfth-small"}}
"""Small networks that were written after the misses of a list; they are left out with it."""


def described(entry: dict) -> dict:
    """Features of a network's candidates, which of them are labelled, and which the rules take."""
    torch.manual_seed(0)
    network, example = entry["build"]().eval(), entry["inputs"]()
    found, training = trace_modes(network, example)
    read_layouts(found)
    _, logits = main_output(found, None, "")
    ladder = ladder_of(found, logits, supervised_maps(found, logits, training))
    rules = [map_itself(node) for node in seen_forms(found, stages_of(ladder))]
    levels = level_candidates(ladder.flow, ladder.levels, ladder.head)
    labels = [
        [labelled(found, network, [stage, *entry["alts"].get(i, [])]) for i, stage in enumerate(names)]
        for names in ladders_of(entry)
    ]
    shown = [[map_itself(node) for node in level.nodes if node is not None] for level in levels]
    right = any(len(rules) == len(one) and all(map(set.__contains__, one, rules)) for one in labels)
    paths = [path for one in labels if (path := marked(shown, one)) is not None]
    return dict(
        unary=[level.unary for level in levels], alike=[level.alike for level in levels], right=right, paths=paths,
        rules=marked(shown, [{node} for node in rules]) if len(rules) > 1 else None,
    )  # fmt: skip


def labelled(found, network, names: list[str]) -> set:
    """The values that a label's names stand for; a module that is called several times, without a number, for each."""
    nodes = set()
    for name in names:
        path, _, place = name.removeprefix("in:").partition("@")
        path, _, number = path.partition("#")
        calls = [c for c in found.calls if c.path == path and number in ("", str(c.index))]
        if place:
            steps = [step.rstrip("]") for step in place.split("[") if step]
            place = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps)
            nodes.add(map_itself(map_by_name(found, network, name.partition("@")[0] + place)))
            continue
        sides = [call.inputs if name.startswith("in:") else call.outputs for call in calls]
        firsts = [[node for _, node in side if layout_of(node)][:1] for side in sides]
        nodes |= {map_itself(node) for first in firsts for node in first}
    return nodes


def marked(shown: list[list], label: list[set]) -> list[np.ndarray] | None:
    """Which candidates of each level are labelled, the last of each for none; None if a stage is no candidate."""
    left, marks = list(label), []
    for nodes in shown:
        here = next((one for one in left if any(node in one for node in nodes)), None)
        if here is not None:
            left.remove(here)
        marks.append(np.array([*(here is not None and node in here for node in nodes), here is None]))
    return None if left else marks


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


def judged(one: dict, weights: torch.Tensor) -> dict:
    """Whether the best ladder is right, whether it is that of the rules, and the log of the share of each."""
    if not one["unary"]:
        return dict(rules=one["right"], scores=False, agree=False, share=-math.inf, best=0.0)
    single = [u @ weights[:WIDTH].numpy() for u in one["unary"]]
    neighbours = itertools.pairwise(one["alike"])
    pairs = [(a[:, None] == b[None]).astype(float) @ weights[WIDTH:].numpy() for a, b in neighbours]
    path, best = viterbi(single, pairs)
    right = any(all(marks[at] for marks, at in zip(ladder, path, strict=True)) for ladder in one["paths"])
    total, rules = log_total(single, pairs), one["rules"]
    agree = rules is not None and all(marks[at] for marks, at in zip(rules, path, strict=True))
    kept = [np.where(mark, score, MISSING) for mark, score in zip(rules or [], single, strict=False)]
    share = log_total(kept, pairs) - total if rules is not None else -math.inf
    return dict(rules=one["right"], scores=right, agree=agree, share=share, best=best - total)


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


def read_all() -> dict[str, list[dict]]:
    """All networks of all lists, each read in a process of its own, in float32."""
    known: dict[str, list[dict]] = {}
    for name, one in labelled_lists().items():
        for entry in one.networks:
            if "nonU" not in entry["tags"]:
                found = apart(described, entry)
                if isinstance(found, str):
                    print(f"{entry['id']}: {found.splitlines()[0][:150]}", flush=True)
                else:
                    known.setdefault(TOGETHER.get(name, name), []).append(found)
    return known


def held_out(known: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """For each list what the scores say that were fitted without it."""
    print("| list held out | ladders | rules right | scores right | agree | right where they agree |")
    print("|---|---|---|---|---|---|")
    verdicts = {}
    for name, held in known.items():
        left_out = {name} | MADE_OF.get(name, set())
        weights = fitted([one for other, networks in known.items() if other not in left_out for one in networks])
        verdicts[name] = here = [judged(one, weights) for one in held]
        agreed = [v for v in here if v["agree"]]
        counts = [len(here), sum(v["rules"] for v in here), sum(v["scores"] for v in here), len(agreed)]
        print(f"| {name} | " + " | ".join(map(str, [*counts, sum(v["rules"] for v in agreed)])) + " |", flush=True)
    return verdicts


def main() -> None:
    torch.set_num_threads(1)
    known = read_all()
    torch.set_default_dtype(torch.float64)
    verdicts = held_out(known)
    blind = [v for name, one in labelled_lists().items() if one.blind for v in verdicts.get(name, [])]
    for margin in MARGINS:
        taken = [v["scores"] if not v["agree"] and v["best"] - v["share"] > margin else v["rules"] for v in blind]
        print(f"the scores' reading where it is exp({margin}) times as likely: {sum(taken)} of {len(taken)} right")
    print("\n| list held out | sure, right | " + " | ".join(f"{low} …" for low in RANGES[:-1]) + " |")
    print("|---|---|" + "---|" * (len(RANGES) - 1))
    for name, here in verdicts.items():
        said = [(probability_right(v["agree"], v["share"]), v["rules"]) for v in here]
        sure = [v["rules"] for v, (p, _) in zip(here, said, strict=True) if p >= SURE]
        print(f"| {name} | {len(sure)} of {len(here)}, {sum(sure)} | {calibration(said)} |")
    if "--write" in sys.argv:
        weights = fitted([one for networks in known.values() for one in networks])
        table = {name: round(float(w), 3) for name, w in zip(feature_names(), weights, strict=True)}
        with pathlib.Path(FILE).open("w") as file:
            json.dump(table, file, indent=1)
            file.write("\n")
        print("for sure.py:", [round(one, 2) for one in curve(blind)])


if __name__ == "__main__":
    main()
