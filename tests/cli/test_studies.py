"""Commands on studies."""

from pathlib import Path

import pytest
from support.commands import call
from support.undrawn import undrawn

SMALL = ["network.args.features=[4, 4, 8, 8, 8, 4]", "search.steps=2", "search.batch_size=2", "space.name=mutation"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


@pytest.mark.slow
def test_tune_prints_the_best_trials() -> None:
    with undrawn():
        output = call("tune", "chest_ct", *SMALL, "--trials", "1")
    assert "best trials" in output and "val.dice.best" in output and "optimizer.lr" in output
