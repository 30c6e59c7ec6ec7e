"""Finished searches that several tests compare theirs with."""

from pathlib import Path

import pytest
from support.runs import run
from support.shapes import build


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken search of 12 steps on originals alone."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.fixture(scope="session")
def whole_with_operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken search of 12 steps on the space of the paper, whose operators learn too."""
    folder = tmp_path_factory.mktemp("whole_with_operators")
    run(folder, built=build())
    return folder
