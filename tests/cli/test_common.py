"""What all commands share: help, errors in plain words, exit codes."""

import fcntl
import os
import pty
import re
import runpy
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support.commands import failing


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_errors_print_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    error = failing(
        capfd, "run", "chest_ct", "optimizer.lrr=1", "search.steps=0", "wat=1", "loss.ce=-1", "track.wandb=maybe"
    )
    assert error.startswith("RecipeError: chest_ct has 5 faults.")
    assert 'optimizer.lrr: unknown. Nearest: "lr".' in error and "Traceback" not in error
    assert 'no recipe "chest": neither shipped nor a file. Nearest: "chest_ct"' in failing(capfd, "run", "chest")
    assert '--example "big" is no shape.' in failing(capfd, "inspect", "monai.networks.nets:VNet", "--example", "big")
    assert "MODEL.in_channels: missing." in failing(capfd, "inspect", "torch.nn:Conv2d", "--example", "1,1")
    assert "--example is missing: the shape" in failing(capfd, "inspect", "monai.networks.nets:VNet")
    assert not Path("runs").exists()


def test_python_dash_m_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["lomix", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("lomix_search", run_name="__main__")
    said = capsys.readouterr().out
    assert caught.value.code == 0 and all(name in said for name in ("demo", "run", "tune", "inspect"))


def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nrrd", None)
    error = failing(capfd, "run", "chest_ct")
    assert 'pip install "lomix-search[demo]"' in error and "Traceback" not in error


def in_a_terminal(columns: int, *arguments: str) -> str:
    """Run a command whose output and errors go to a terminal of so many columns; return what is shown."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "lomix_search", *arguments]
    with subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, env=kept | {"TERM": "xterm", "NO_COLOR": "1"}
    ):
        os.close(other)
        shown = b""
        while select.select([main], [], [], 120)[0]:
            try:
                read = os.read(main, 65536)
            except OSError:  # Linux says so where the other side is closed
                break
            if not read:
                break
            shown += read
    os.close(main)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.slow
def test_errors_fit_the_terminal_and_are_whole_lines_in_a_log(capfd: pytest.CaptureFixture[str]) -> None:
    given = ["validate", "chest_ct", "optimizer.learning_rate=1", "search.stepsss=2"]
    shown, logged = in_a_terminal(60, *given), failing(capfd, *given)
    assert max(map(len, shown.splitlines())) <= 60 < max(map(len, logged.splitlines()))
    assert shown.split() == logged.split()
