"""The same network written otherwise has the same stages: names, width, size, wrapping and precision decide nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published.judge import judge
from support.families import FAMILIES
from support.known_families import INLINED, KNOWN
from support.variations import VARIATIONS, variation

from lomix_search import instrument
from lomix_search.instrumentation.trace import tracing

RIGHT = [entry for entry in FAMILIES if entry["id"] not in KNOWN and "nonU" not in entry["tags"]]
KINDS = [*VARIATIONS, "enclosed", "wider", "larger"]


def holds(entry: dict, name: str, seed: int) -> None:
    """Whether the expert's stages are still found; what is open is known by name."""
    if name == "inlined" and entry["id"] in INLINED:
        return
    changed = variation(entry, name, 0 if name == "inlined" else seed)  # INLINED knows what that one choice does
    if changed is None:
        return
    verdict = judge(changed, train=False)
    assert verdict.right, (entry["id"], name, seed, verdict.refused, verdict.found)
    assert verdict.same


FAST = [entry for entry in RIGHT if entry["id"] in ("W-Net", "cascaded attention, several outputs", "UNeXt")]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=1, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 999))
def test_a_few_networks_written_otherwise(name, seed):
    holds(FAST[KINDS.index(name) % len(FAST)], name, seed)


@pytest.mark.slow
@settings(max_examples=32, deadline=None, derandomize=True, database=None)
@given(entry=st.sampled_from(RIGHT), name=st.sampled_from(KINDS), seed=st.integers(0, 999))
def test_any_network_written_otherwise(entry, name, seed):
    holds(entry, name, seed)


@pytest.mark.parametrize("entry", [e for e in RIGHT if e["id"] in ("DBNet", "UNeXt")], ids=lambda entry: entry["id"])
def test_the_mode_of_a_network_decides_nothing(entry):
    torch.manual_seed(0)
    model, inputs = entry["build"](), entry["inputs"]()
    inputs = tuple(torch.cat([x, x]) for x in inputs)  # batch norms of some need two
    names = [[stage.name for stage in instrument(model.train(mode), inputs).stages] for mode in (False, True)]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "first", "step"), [*(("record", first, 4) for first in range(4)), ("export", 1, 8)]
)
def test_other_back_ends_find_the_same(backend, first, step, monkeypatch):
    monkeypatch.setattr(tracing, "BACKENDS", {backend: tracing.BACKENDS[backend]})
    for entry in RIGHT[first::step]:
        verdict = judge(entry, train=False)
        assert verdict.right or verdict.refused.startswith("no graph of"), (entry["id"], verdict.found)
