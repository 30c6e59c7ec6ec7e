"""Families of networks beside the published ones: stages as an expert names them, the same output, finite gradients."""

import pytest
import torch
from published.judge import judge
from support.families import FAMILIES
from support.known_families import KNOWN

from lomix_search import instrument


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry["id"])
def test_stages_are_the_experts(entry):
    verdict = judge(entry)
    assert verdict.same
    if entry["id"] in KNOWN:
        assert not verdict.right
    elif "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains


@pytest.mark.parametrize("name", ["transformer pixel decoder", "deep layer aggregation", "F3Net"])
def test_names_tell_apart_what_one_module_returns_and_tap_the_same_again(name):
    entry = next(entry for entry in FAMILIES if entry["id"] == name)
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    net = instrument(model, inputs)
    names, features = [stage.name for stage in net.stages], net.stage_features(*inputs)
    assert len(set(names)) == len(names) and any("[" in name for name in names)
    net = instrument(net.strip(), inputs, stages=names)
    assert all(map(torch.equal, net.stage_features(*inputs), features))
