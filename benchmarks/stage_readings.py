"""What fit_stage_scores.py needs of each labelled network: the candidates of its levels, and which are labelled.

Each network is read in a process of its own, its package in a folder of its own, and what was read is kept under
build/stage-readings, by a digest of the sources of lomix_search/instrumentation and of the labels: what is stopped goes
on where it was, and two that read different lists may run at once.
"""

import functools
import hashlib
import json
import os
import pathlib
import re
import time
from collections.abc import Sequence

import numpy as np
import torch
from published.apart import apart
from published.judge import ladders_of
from published.lists import labelled_lists

from lomix_search.errors import LomixError
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.by_name import map_by_name
from lomix_search.instrumentation.stages.candidates import level_candidates
from lomix_search.instrumentation.stages.decoder import ladder_of, stages_of
from lomix_search.instrumentation.stages.deep_supervision import supervised_maps
from lomix_search.instrumentation.stages.find import seen_forms
from lomix_search.instrumentation.stages.layouts import layout_of
from lomix_search.instrumentation.stages.main_output import main_output
from lomix_search.instrumentation.stages.sure import map_itself
from lomix_search.instrumentation.trace import trace_modes

CACHE = pathlib.Path("build/stage-readings")
SOURCES = pathlib.Path("lomix_search/instrumentation")
FIRST_RUN = "tests/published/{}_first_run.md"


def read_lists(names: Sequence[str] = (), cache: pathlib.Path = CACHE) -> dict[str, list[dict]]:
    """Read the ladders of these lists, of all without names, and say how far it is; what cannot be read is left out."""
    lists = labelled_lists()
    ladders = {name: [e for e in lists[name].networks if "nonU" not in e["tags"]] for name in names or lists}
    count, done = sum(map(len, ladders.values())), 0
    began = told = time.perf_counter()
    folder = cache / digest_of(SOURCES)
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, list[dict]] = {name: [] for name in ladders}
    for name, entries in ladders.items():
        then = first_run(name)
        for entry in entries:
            found, done = kept(folder, entry, then.get(entry["id"])), done + 1
            if isinstance(found, str):
                print(f"{name} {entry['id']} cannot be read: {found.splitlines()[0][:150]}", flush=True)
            else:
                known[name].append(found)
            if time.perf_counter() - told > 10 or done == count:
                told = time.perf_counter()
                print(f"{done} of {count} ladders, {told - began:.0f} s", flush=True)
    return known


def digest_of(sources: pathlib.Path) -> str:
    """A digest of what reads a network: tracing, and all of stages."""
    files = sorted(file for part in ("trace", "stages") for file in (sources / part).rglob("*.py"))
    return digest({str(file): file.read_text() for file in files})


def digest(given: object) -> str:
    return hashlib.sha256(repr(given).encode()).hexdigest()[:16]


def kept(folder: pathlib.Path, entry: dict, then: tuple[list[str], bool] | None) -> dict | str:
    """What was read of a network, now or before, or why it cannot be read."""
    labels = [*ladders_of(entry), entry["alts"], then]
    title = re.sub(r"[^\w.-]", "_", entry["id"])
    file = folder / f"{title}-{digest([entry['source'], labels])}.json"
    if file.exists():
        return with_arrays(json.loads(file.read_text()))
    found = apart(functools.partial(described, then=then), entry)
    if not isinstance(found, str):
        part = file.with_suffix(f".{os.getpid()}.part")  # two may read the same list
        part.write_text(json.dumps(found, default=np.ndarray.tolist))
        part.rename(file)
    return found


def with_arrays(known: dict) -> dict:
    """What ``described`` returned, of what JSON made of it."""
    for key in ("unary", "alike", "rules", "then"):
        known[key] = known[key] and [np.array(level) for level in known[key]]
    known["paths"] = [[np.array(marks) for marks in path] for path in known["paths"]]
    return known


def first_run(name: str) -> dict[str, tuple[list[str], bool]]:
    """Of each network the stages that were found when its list was first run, and whether they were right."""
    file = pathlib.Path(FIRST_RUN.format(name.replace("-", "_")))
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("|")]
    return {
        row[0]: (row[1].strip("`").split("`, `") if row[1].startswith("`") else [], row[2] == "yes")
        for row in rows
        if len(row) > 4
    }


def described(entry: dict, then: tuple[list[str], bool] | None) -> dict:
    """Features of a network's candidates, which of them are labelled, and which the rules take or took.

    Args:
        entry: As on the lists.
        then: The stages that the rules found when the list was first run, and whether these were right.

    Returns:
        For each level ``unary`` and ``alike``, the features; ``paths``, of each labelled ladder which candidates are
        on it; ``rules``, those of today's stages, and ``right``; ``then`` and ``then_right``, of the first run.
    """
    torch.manual_seed(0)
    network, example = entry["build"]().eval(), entry["inputs"]()
    known = dict(id=entry["id"], unary=[], alike=[], paths=[], rules=None, right=False, then=None)
    known["then_right"] = then[1] if then else None
    try:
        found, training = trace_modes(network, example)
        read_layouts(found)
        _, logits = main_output(found, None, "")
    except LomixError:  # refused, which is wrong, and not sure
        return known
    ladder = ladder_of(found, logits, supervised_maps(found, logits, training))
    rules = [map_itself(node) for node in seen_forms(found, stages_of(ladder))]
    levels = level_candidates(ladder.flow, ladder.levels, ladder.head)
    labels = [
        [labelled(found, network, [stage, *entry["alts"].get(i, [])]) for i, stage in enumerate(names)]
        for names in ladders_of(entry)
    ]
    shown = [[map_itself(node) for node in level.nodes if node is not None] for level in levels]
    return known | dict(
        unary=[level.unary for level in levels],
        alike=[level.alike for level in levels],
        paths=[path for one in labels if (path := marked(shown, one)) is not None],
        rules=marked(shown, [{node} for node in rules]) if len(rules) > 1 else None,
        right=any(len(rules) == len(one) and all(map(set.__contains__, one, rules)) for one in labels),
        then=marked(shown, named(found, network, then[0])) if then and then[0] else None,
    )


def named(found, network, names: Sequence[str]) -> list[set]:
    """The values that were named when a list was first run; of a name that leads nowhere today, none."""
    maps = []
    for name in names:
        try:
            maps.append({map_itself(map_by_name(found, network, name))})
        except LomixError:
            maps.append(set())
    return maps


def labelled(found, network, names: list[str]) -> set:
    """The values that a label's names stand for; a module that is called several times, without a number, for each."""
    nodes = set()
    for name in names:
        path, _, place = name.removeprefix("in:").partition("@")
        path, _, number = path.partition("#")
        keys = [step.rstrip("]") for step in place.split("[") if step]
        for call in [c for c in found.calls if c.path == path and number in ("", str(c.index))]:
            side = call.inputs if name.startswith("in:") else call.outputs
            maps = [(at, node) for at, node in side if layout_of(node)]
            here = [node for at, node in maps if not keys or [str(key) for _, key in at] == keys]
            nodes |= {map_itself(node) for node in here[:1]}
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
