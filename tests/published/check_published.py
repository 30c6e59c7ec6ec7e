"""The published networks, each instrumented by the one call. Needs their packages: run by .ci/zoo, not by the suite.

A part of them, another each day; LOMIX_ZOO=all takes all, LOMIX_ZOO=2026-11-28 those of that day.
"""

import datetime
import importlib.util

import pytest

from published.judge import judge
from published.networks import ZOO
from published.sample import SHARE, todays

ROOTS = {
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "dynamic-network-architectures": "dynamic_network_architectures",
}


def installed(entry) -> bool:
    return importlib.util.find_spec(ROOTS.get(entry["pkg"], entry["pkg"].replace("-", "_"))) is not None


@pytest.mark.parametrize("entry", todays([e for e in ZOO if installed(e)]), ids=lambda e: e["id"])
def test_stages_are_the_experts(entry):
    verdict = judge(entry, train=False)
    assert verdict.same
    if "nonU" in entry["tags"]:
        assert verdict.refused or verdict.right or len(verdict.found) >= 2
    else:
        assert verdict.right, (verdict.refused, verdict.found)


def test_enough_of_them_are_installed_and_each_has_its_day():
    here = [e for e in ZOO if installed(e)]
    days = [datetime.date(2026, 11, 28) + datetime.timedelta(i) for i in range(SHARE)]
    assert len(here) >= 50 and min(len(todays(here, day)) for day in days) >= 8
    assert {e["id"] for day in days for e in todays(here, day)} == {e["id"] for e in here}
