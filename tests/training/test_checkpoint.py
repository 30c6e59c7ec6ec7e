"""Checkpoints: exact, atomic, two kept, damage noticed."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lomix_search.errors import RunError
from lomix_search.training.checkpoint import (
    latest_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from lomix_search.utils.random import random_state, restore_random_state


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


def state_of(net: torch.nn.Module, step: int) -> dict[str, object]:
    return {"step": step, "best": [0.5, 2], "settings": "{}", "net": net.state_dict(), "random": random_state()}


@pytest.mark.slow
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    """Bits of headers, data and tail of the archive, all of its end and of the checksum."""
    save_checkpoint(tmp_path, 1, {"step": 1})
    path = save_checkpoint(tmp_path, 2, state_of(torch.nn.Conv2d(3, 16, 3), 2))
    content = path.read_bytes()
    assert torch.load(path, weights_only=True)["step"] == 2  # it is a file of torch.save for everybody else
    bits = 8 * len(content)
    chosen = {*range(480), *range(bits - 1000, bits), *np.random.default_rng(0).integers(0, bits, 500).tolist()}
    for bit in sorted(chosen):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(RunError, match="is damaged or no checkpoint"):
            read_tensors(path)
    for length in np.random.default_rng(1).integers(0, len(content), 50):
        path.write_bytes(content[:length])
        with pytest.raises(RunError, match="is damaged or no checkpoint"):
            read_tensors(path)


def test_a_damaged_newest_gives_way_to_the_older_and_both_are_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2, "weight": torch.zeros(100)})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    with pytest.warns(UserWarning) as told:
        assert latest_checkpoint(tmp_path) == {"step": 1}
    assert [str(one.message) for one in told] == [
        f"{newest} is damaged or no checkpoint.\n  Seen: its checksum does not match its content\n"
        f"  The one before it is taken: {tmp_path / 'step_00000001.pt'}."
    ]
    save_checkpoint(tmp_path, 2, {"step": 2})
    assert latest_checkpoint(tmp_path) == {"step": 2}


def test_a_damaged_later_one_does_not_outlive_the_run_that_went_back(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {"step": step})
    (tmp_path / "step_00000030.pt").write_bytes(b"PK")
    save_checkpoint(tmp_path, 23, {"step": 23})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000020.pt", "step_00000023.pt"]


def test_files_of_earlier_versions_open_and_their_parts_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"step": 3, "weight": torch.arange(1000.0)}, path)
    assert read_tensors(path)["step"] == 3
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(500).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="does not match its checksum"):
        read_tensors(path)


def test_whatever_else_lies_there_is_no_checkpoint(tmp_path: Path) -> None:
    for name in (
        "step_abc.pt",
        "step_1.pt",
        "step_00000009.pt.tmp",
        ".step_00000009.pt.ab12cd34",
        "step_00000008 2.pt",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / "step_00000007.pt").mkdir()
    assert latest_checkpoint(tmp_path) is None
    for step in (1, 2, 3, 123_456_789):
        save_checkpoint(tmp_path, step, {"step": step})
    assert latest_checkpoint(tmp_path) == {"step": 123_456_789}
    assert (tmp_path / "step_abc.pt").exists() and not (tmp_path / "step_00000001.pt").exists()
    assert (tmp_path / "step_00000003.pt").exists()
