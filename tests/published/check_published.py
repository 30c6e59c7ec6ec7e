"""The published networks, each instrumented by the one call. Needs their packages: run by .ci/zoo, not by the suite."""

import importlib.util

import pytest

from published.judge import judge
from published.networks import ZOO

ROOTS = {
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "dynamic-network-architectures": "dynamic_network_architectures",
}


def installed(entry) -> bool:
    return importlib.util.find_spec(ROOTS.get(entry["pkg"], entry["pkg"].replace("-", "_"))) is not None


@pytest.mark.parametrize("entry", [e for e in ZOO if installed(e)], ids=lambda e: e["id"])
def test_stages_are_the_experts(entry):
    verdict = judge(entry, train=False)
    assert verdict.same
    if "nonU" in entry["tags"]:
        assert verdict.refused or verdict.right or len(verdict.found) >= 2
    else:
        assert verdict.right, (verdict.refused, verdict.found)


def test_enough_of_them_are_installed():
    assert sum(map(installed, ZOO)) >= 50
