"""Checkpoints: exact, atomic, two kept, damage noticed."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lomix_search.checkpoint import (
    latest_checkpoint,
    random_state,
    read_tensors,
    restore_random_state,
    save_checkpoint,
    write_tensors,
)
from lomix_search.errors import RunError


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, step, {"step": step, "weight": torch.full((2,), float(step))})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000002.pt", "step_00000030.pt"]
    state = latest_checkpoint(tmp_path)
    assert state is not None and state["step"] == 30 and state["weight"].tolist() == [30.0, 30.0]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "none") is None


def test_a_truncated_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2, "weight": torch.zeros(100)})
    newest.write_bytes(newest.read_bytes()[:300])
    with pytest.warns(UserWarning, match=r"step_00000002\.pt is damaged or no checkpoint"):
        state = latest_checkpoint(tmp_path)
    assert state == {"step": 1}


def test_only_truncated_checkpoints_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "step_00000002.pt").write_bytes(b"PK\x03\x04")
    with pytest.warns(UserWarning), pytest.raises(RunError, match="holds no usable checkpoint") as caught:
        latest_checkpoint(tmp_path)
    assert "step_00000002.pt is damaged or no checkpoint" in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_nothing_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"step": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(RunError, match="is damaged or no checkpoint"):
        read_tensors(tmp_path / "evil.pt")
    assert "executed" not in capsys.readouterr().out


def test_random_states_come_back_through_a_file(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]

    draw()
    write_tensors(tmp_path / "random.pt", random_state())
    expected = [draw(), draw()]
    restore_random_state(read_tensors(tmp_path / "random.pt"))
    assert [draw(), draw()] == expected
