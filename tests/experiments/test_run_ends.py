"""How a run ends: SIGTERM and full disks at the moments around the training loop, and what its status says then."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.forked import lomix_in_child
from support.tiny_recipe import tiny, write_tiny

from lomix_search.experiments import run as module
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.status import read_status


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    home = tmp_path_factory.mktemp("undisturbed")
    run_recipe(tiny(home / "recipe"), home / "run")
    return home / "run"


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    "moment", ["build_loss", "environment_of", "weights_sha256", "_score", "draw_weights", "draw_seen"]
)
def test_sigterm_around_the_loop_ends_cleanly_and_the_run_goes_on(moment: str, whole: Path, tmp_path: Path) -> None:
    recipe, folder = write_tiny(tmp_path / "recipe"), tmp_path / "run"

    def trap() -> None:
        assert hasattr(module, moment)
        setattr(module, moment, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))

    code, said = lomix_in_child(tmp_path / "said", "run", str(recipe), "--folder", str(folder), first=trap)
    assert code == 0, said
    assert "Stopped by SIGTERM. To go on: the same command, with --resume" in said
    status = read_status(folder)
    assert status is None or (status.state, status.reason) == ("stopped", "SIGTERM")
    assert not (folder / "lock").exists()
    run_recipe(tiny(tmp_path / "recipe"), folder, resume=True)
    assert (folder / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (folder / "predictions.png").exists() and read_status(folder).state == "finished"  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device", "predictions.png"), ValueError("no colours")])
def test_what_fails_in_drawing_leaves_a_finished_run_finished(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(module, "draw_weights", lambda *_: None)
    monkeypatch.setattr(module, "draw_seen", failing)
    with pytest.warns(
        UserWarning, match="the run is finished, but its pictures could not be drawn: .*(No space|no colours)"
    ):
        run_recipe(tiny(tmp_path / "recipe", ["search.steps=2"]), tmp_path / "run")
    assert read_status(tmp_path / "run").state == "finished"  # type: ignore[union-attr]
    assert json.loads((tmp_path / "run/results.json").read_text())["test_dice"]["final"]["mean"] >= 0


def test_what_ends_a_run_is_told_by_its_class(tmp_path: Path) -> None:
    """A user's code may say anything: only the class of an error says what it is."""
    from lomix_search.errors import RunError
    from lomix_search.experiments.status import recorded
    from lomix_search.experiments.tune.trial import reason_of

    for error, state in ((SystemExit(3), "failed"), (SystemExit(0), "stopped"), (KeyboardInterrupt(), "stopped")):
        with pytest.raises(type(error)), recorded(tmp_path):
            raise error
        assert read_status(tmp_path).state == state  # type: ignore[union-attr]
    assert reason_of(FileNotFoundError("out of memory.txt")) == "FileNotFoundError: out of memory.txt"
    assert reason_of(RuntimeError("CUDA out of memory.")).startswith("out of memory: ")
    assert reason_of(ValueError("not finite")) == "ValueError: not finite"
    assert reason_of(RunError("the loss is not finite")).startswith("not finite: RunError")
