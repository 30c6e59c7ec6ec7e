"""Families of networks beside the published ones: stages as an expert names them, the same output, finite gradients."""

import itertools
from collections import Counter

import pytest
import torch
from published.judge import judge
from published.lists import labelled_lists
from support.families import FAMILIES
from support.known_families import KNOWN

from lomix_search import instrument


def some_of_each_kind() -> list:
    """All families, of which every twelfth of each kind is fast."""
    kinds = [list(entries) for _, entries in itertools.groupby(FAMILIES, key=lambda entry: entry["kind"])]
    return [
        pytest.param(entry, id=entry["id"], marks=[pytest.mark.slow] if i % 12 else [])
        for entries in kinds
        for i, entry in enumerate(entries)
    ]


@pytest.mark.parametrize("entry", some_of_each_kind())
def test_stages_are_the_experts(entry):
    verdict = judge(entry, timed=False)
    assert verdict.same
    if entry["id"] in KNOWN:
        assert not verdict.right
    elif "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains


def test_the_lists_are_those_that_are_counted():
    """docs/zoo.md says how many networks with a ladder each list has, and how many of them all are wrong today."""
    ladders = Counter(entry["source"] for entry in FAMILIES if "nonU" not in entry["tags"])
    assert (ladders["second"], ladders["third"], ladders["fourth"]) == (50, 31, 24)
    lists = labelled_lists()
    blind = {
        name: Counter("nonU" not in entry["tags"] for entry in one.networks) for name, one in lists.items() if one.blind
    }
    counted = {"unseen": {True: 54, False: 4}, "unseen-2": {True: 70, False: 1}, "unseen-3": {True: 60, False: 1}}
    counted |= {"unseen-4": {True: 55, False: 1}, "unseen-5": {True: 51, False: 3}}
    counted |= {"unseen-6": {True: 41, False: 3}, "unseen-7": {True: 45}, "unseen-8": {True: 44, False: 1}}
    counted |= {"unseen-9": {True: 46}, "unseen-10": {True: 45}, "unseen-11": {True: 43}}
    counted |= {"unseen-12": {True: 47}, "unseen-13": {True: 42}, "unseen-14": {True: 28}}
    assert blind == counted
    packaged = 95 + 58 + 71 + 61 + 56 + 54 + 44 + 45 + 45 + 46 + 45 + 43 + 47 + 42 + 28
    assert sum(len(one.networks) for one in lists.values()) == len(FAMILIES) + packaged
    assert len(KNOWN) == 3 and KNOWN.keys() <= {entry["id"] for entry in FAMILIES}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer pixel decoder", "deep layer aggregation", "F3Net"])
def test_names_tell_apart_what_one_module_returns_and_tap_the_same_again(name):
    entry = next(entry for entry in FAMILIES if entry["id"] == name)
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    net = instrument(model, inputs)
    names, features = [stage.name for stage in net.stages], net.stage_features(*inputs)
    assert len(set(names)) == len(names) and any("[" in name for name in names)
    net = instrument(net.strip(), inputs, stages=names)
    assert all(map(torch.equal, net.stage_features(*inputs), features))
