"""Families of networks beside the published ones: stages as an expert names them, the same output, finite gradients."""

import pytest
from families import FAMILIES
from published.judge import judge

KNOWN = {"PraNet": "its decoder has one channel throughout; stages=[…] taps it"}
"""Families whose stages are not found, and why."""


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry["id"])
def test_stages_are_the_experts(entry):
    verdict = judge(entry)
    assert verdict.same
    if entry["id"] in KNOWN:
        assert verdict.refused
    elif "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains
