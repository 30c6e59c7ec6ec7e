"""Fit the weights of the second reading of a network's stages by maximum likelihood, whole lists held out.

PYTHONPATH=.:tests python benchmarks/fit_stage_scores.py [--write]

Each labelled ladder, and each alternative of it, is a set of paths through the candidates of its levels; their share of
all paths is what is maximised, with a penalty on large weights. Printed is, for each list, how many ladders the rules
and the scores have right where the list itself was left out of the fit, how often both readings agree, and how often
they are right then; then, of the probabilities that are said, how many are right. ``--write`` writes
lomix_search/instrumentation/stages/weights.json, fitted to all lists but the blind ones, whose counts in docs/zoo.md so
stay those of lists held out.
"""

import itertools
import json
import math
import pathlib
import re
import sys

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
from lomix_search.instrumentation.stages.ladder import WIDTH, viterbi
from lomix_search.instrumentation.stages.layouts import layout_of
from lomix_search.instrumentation.stages.main_output import main_output
from lomix_search.instrumentation.stages.sure import feature_names, map_itself, probability_right
from lomix_search.instrumentation.trace import trace_modes

PENALTY = 0.05
FILE = "lomix_search/instrumentation/stages/weights.json"
MISSING = -1e9
RANGES = [0, 0.3, 0.6, 0.85, 0.95, 1.01]
TOGETHER = {f"{name}-small": "sixth to ninth, small" for name in ("sixth", "seventh", "eighth", "ninth")}


def described(entry: dict) -> dict:
    """Features of a network's candidates, which of them are labelled, and which the rules take."""
    torch.manual_seed(0)
    network, example = entry["build"]().eval(), entry["inputs"]()
    found, training = trace_modes(network, example)
    read_layouts(found)
    _, logits = main_output(found, None, "")
    ladder = ladder_of(found, logits, supervised_maps(found, logits, training))
    rules = [map_itself(node) for node in stages_of(ladder)]
    levels = level_candidates(ladder.flow, ladder.levels, ladder.head)
    labels = []
    for number, names in enumerate(ladders_of(entry)):
        alternatives = {} if number else entry["alts"]
        labels.append([labelled(found, network, [s, *alternatives.get(i, [])]) for i, s in enumerate(names)])
    shown = [[map_itself(node) for node in level.nodes if node is not None] for level in levels]
    right = any(len(rules) == len(one) and all(map(set.__contains__, one, rules)) for one in labels)
    paths = [path for one in labels if (path := marked(shown, one)) is not None]
    return dict(
        unary=[level.unary for level in levels], alike=[level.alike for level in levels], right=right, paths=paths,
        rules=marked(shown, [{node} for node in rules]),
    )  # fmt: skip


def labelled(found, network, names: list[str]) -> set:
    """The values that a label's names stand for; a module that is called several times, without a number, for each."""
    nodes = set()
    for name in names:
        place = re.sub(r"\[(\D[^\]]*)\]", r".\1", name.replace("@", ""))
        calls = [c for c in found.calls if c.path == name.removeprefix("in:")]
        sides = [call.inputs if name.startswith("in:") else call.outputs for call in calls]
        firsts = [[node for _, node in side if layout_of(node)][:1] for side in sides]
        nodes |= {map_itself(node) for first in firsts for node in first}
        if not calls:
            nodes.add(map_itself(map_by_name(found, network, place)))
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


def compared(one: dict) -> list[torch.Tensor]:
    pairs = zip(one["alike"], one["alike"][1:], strict=False)
    return [torch.tensor((a[:, None] == b[None]).astype(float)) for a, b in pairs]


def log_share(single: list, pairs: list, marks: list | None = None) -> torch.Tensor:
    """Log of the sum over all paths, or over those through marked candidates."""

    def kept(values, i):
        return values if marks is None else values.masked_fill(~torch.tensor(marks[i]), MISSING)

    value = kept(single[0], 0)
    for i, (here, pair) in enumerate(zip(single[1:], pairs, strict=True), 1):
        value = kept(torch.logsumexp(value[:, None] + pair, 0) + here, i)
    return torch.logsumexp(value, 0)


def fitted(networks: list[dict]) -> torch.Tensor:
    """The weights under which the labelled ladders are likeliest."""
    weights = torch.zeros(WIDTH + len(SAME), requires_grad=True)
    ready = [([torch.tensor(u) for u in one["unary"]], compared(one), one["paths"]) for one in networks if one["paths"]]
    optimizer = torch.optim.LBFGS([weights], max_iter=75, history_size=20, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = PENALTY * (weights**2).sum()
        for unary, pairs, paths in ready:
            single, both = [u @ weights[:WIDTH] for u in unary], [p @ weights[WIDTH:] for p in pairs]
            loss = loss + log_share(single, both)
            loss = loss - torch.logsumexp(torch.stack([log_share(single, both, marks) for marks in paths]), 0)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def judged(one: dict, weights: torch.Tensor) -> tuple[bool, bool]:
    """Whether the best ladder is right, and whether it is the one of the rules."""
    if not one["unary"]:
        return False, False
    single = [u @ weights[:WIDTH].numpy() for u in one["unary"]]
    path, _ = viterbi(single, [(p @ weights[WIDTH:]).numpy() for p in compared(one)])
    right = any(all(marks[at] for marks, at in zip(ladder, path, strict=True)) for ladder in one["paths"])
    rules = one["rules"]
    return right, rules is not None and all(marks[at] for marks, at in zip(rules, path, strict=True))


def share_of_rules(one: dict, weights: torch.Tensor) -> float:
    """Log of the share that the scores give the ladder of the rules."""
    if not one["unary"] or one["rules"] is None:
        return -math.inf
    single = [torch.tensor(u) @ weights[:WIDTH] for u in one["unary"]]
    pairs = [p @ weights[WIDTH:] for p in compared(one)]
    return float(log_share(single, pairs, one["rules"]) - log_share(single, pairs))


def calibration(said: list[tuple[float, bool]]) -> str:
    """A row of how many are right of those of which a probability in each range was said, and its mean."""
    cells = []
    for low, high in itertools.pairwise(RANGES):
        here = [(p, right) for p, right in said if low <= p < high]
        mean = f", said {sum(p for p, _ in here) / len(here):.2f}" if here else ""
        cells.append(f"{sum(right for _, right in here)} of {len(here)}{mean}")
    return " | ".join(cells)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    known: dict[str, list[dict]] = {}
    blind = {name for name, one in labelled_lists().items() if one.blind}
    for name, one in labelled_lists().items():
        name = TOGETHER.get(name, name)
        for entry in one.networks:
            if "nonU" not in entry["tags"]:
                torch.set_default_dtype(torch.float32)
                found = apart(described, entry)
                if isinstance(found, str):
                    print(f"{entry['id']}: {found}", flush=True)
                else:
                    known.setdefault(name, []).append(found)
    torch.set_default_dtype(torch.float64)
    print("| list held out | ladders | rules right | scores right | agree | right where they agree |")
    print("|---|---|---|---|---|---|")
    said = {}
    for name, held in known.items():
        weights = fitted([one for other, networks in known.items() if other != name for one in networks])
        both = [(one["right"], *judged(one, weights)) for one in held]
        agreed = [right for right, _, agree in both if agree]
        shares = [share_of_rules(one, weights) for one in held]
        said[name] = [(probability_right(b[2], share), b[0]) for b, share in zip(both, shares, strict=True)]
        counts = [len(held), sum(r for r, _, _ in both), sum(s for _, s, _ in both), len(agreed), sum(agreed)]
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |", flush=True)
    print("\n| list held out | " + " | ".join(f"{low} …" for low in RANGES[:-1]) + " |")
    print("|---|" + "---|" * (len(RANGES) - 1))
    for name, pairs in said.items():
        print(f"| {name} | {calibration(pairs)} |")
    if "--write" in sys.argv:
        weights = fitted([one for name, networks in known.items() if name not in blind for one in networks])
        table = {name: round(float(w), 3) for name, w in zip(feature_names(), weights, strict=True)}
        with pathlib.Path(FILE).open("w") as file:
            json.dump(table, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
