"""What tells two runs apart: settings, scores, learned weights, environments."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.refusals import message
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.experiments.run_differences import RunDifferences, tell_apart
from lomix_search.utils.terminal import Terminal

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def shown(what: object) -> str:
    console = Console(width=160, record=True, quiet=False, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_comparing_runs(home: Path) -> None:
    found = tell_apart([home / "one", home / "deep/two"])
    assert found.names == ("one", "two")
    assert dict(found.settings) == {"optimizer.lr": (0.03, 0.01), "loss.ce": (0.5, 0.7)}
    assert found.metrics["steps"] == (4.0, 4.0) and "test.dice.final, large" in found.metrics
    ((tau, shared),) = found.agreement.values()
    assert -1 <= tau <= 1 or tau != tau
    assert shared == 1.0 or shared != shared
    assert not found.environment
    text = shown(found)
    assert "optimizer.lr" in text and "Kendall τ" in text
    same = tell_apart([home / "one", home / "one/../one/../../" / home.name / "deep/two", home / "three"])
    assert same.names == ("one", "two", "three")
    assert "all settings are equal" in shown(tell_apart([home / "one", home / "three"]))
    output = CliRunner().invoke(app, ["runs", "compare", str(home / "one"), str(home / "three")]).output
    assert "all settings are equal" in output


def test_runs_that_cannot_be_told_apart_are_refused(home: Path, tmp_path: Path) -> None:
    one = home / "one"
    assert message([one], act=tell_apart) == ("1 run given; a comparison needs two.\n  Try:  lomix diff RUN RUN")
    assert message([one, tmp_path], act=tell_apart) == (
        f"{tmp_path}: no run folder.\n  Try:  lomix runs   # lists them"
    )
    assert message([one, one], act=tell_apart) == (f"{one} is given twice.\n  Try:  lomix diff RUN ANOTHER")


def test_names_of_settings_are_whole_beside_long_values() -> None:
    values = ("monai.networks.nets:BasicUNet", "monai.networks.nets:DynUNet")
    settings = {"network.build": values, "network.args.upsample_kernel_size": (None, [2, 2, 2, 2, 2, 2])}
    out = io.StringIO()
    Terminal(file=out, width=80).print(RunDifferences(("four", "six"), settings, {}, {}, {}))
    assert "│ network.args.upsample_kernel_size │" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80
