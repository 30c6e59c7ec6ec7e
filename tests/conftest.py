"""Shared by all tests: one thread a process, seeds, the opt-in markers."""

import gc
import importlib.util
import os

# Before torch is imported, and for the processes that tests start: small tensors on all cores in each of several
# processes wait for one another, and the suite takes several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples each time: a red run is red again, and a green change is not turned red by another's luck.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

FRAMEWORKS = {"nnunet": "nnunetv2", "monai": "ignite", "lightning": "lightning", "huggingface": "accelerate"}
"""Marker of a framework's tests, and the package by which one knows that it is here; .ci/frameworks runs them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too (CI does)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch  # not above: the process that only hands out tests needs none of it

    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: pytest --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="gpu: no CUDA device"))
        if "paper" in item.keywords and importlib.util.find_spec("transformers") is None:
            item.add_marker(pytest.mark.skip(reason="paper: transformers is not installed; .ci/paper runs this"))
        for name in FRAMEWORKS.keys() & set(item.keywords):
            if any(item.iter_markers(name)) and importlib.util.find_spec(FRAMEWORKS[name]) is None:
                reason = f"{name}: {FRAMEWORKS[name]} is not installed; .ci/frameworks runs this"
                item.add_marker(pytest.mark.skip(reason=reason))
        if "realdata" in item.keywords and not os.environ.get("LOMIX_DATA"):
            item.add_marker(pytest.mark.skip(reason="realdata: LOMIX_DATA names no folder of data sets"))


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of later garbage collections: a fifth of the time of small tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)
