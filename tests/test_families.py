"""Families of networks beside the published ones: stages as an expert names them, the same output, finite gradients."""

import pytest
from families import FAMILIES
from published.judge import judge

MIXED = "all scales are mixed in one sequence of tokens and taken apart again"
PYRAMID = "its pyramid goes up and down again, or takes all scales at once"
KNOWN = {
    "PraNet": "its decoder has one channel throughout",
    "transformer pixel decoder": MIXED,
    "MISSFormer": MIXED,
    "TopFormer": PYRAMID,
    "BiFPN": PYRAMID,
    "NAS-FPN": PYRAMID,
    "MIMO-UNet": "the bottleneck is a stage here, because the network has an output of its own there",
    "Monodepth2": "what its own outputs are made of is not preferred to what goes up",
    "KiU-Net": "it goes up first",
    "IterNet": "its second U is small enough to pass for a block",
    "recurrent bottom": "its bottleneck has the form of a stage",
    "large kernels on scores": "its decoder works on scores of the classes throughout",
    "promptable mask decoder": "it goes up without skips, and its masks are products",
    "EGE-UNet": "not known",
}
"""Families whose stages are not found by themselves, and why; ``stages=[…]`` taps them."""


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry["id"])
def test_stages_are_the_experts(entry):
    verdict = judge(entry)
    assert verdict.same
    if entry["id"] in KNOWN:
        assert not verdict.right
    elif "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains
