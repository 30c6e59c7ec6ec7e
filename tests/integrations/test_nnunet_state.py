"""The mixture's state beside nnU-Net's checkpoint."""

from pathlib import Path

import torch

from lomix_search.integrations.nnunet.state import read_states, state_file, write_state


def test_a_file_holds_the_state_of_two_epochs(tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "checkpoint_best.pth")
    assert read_states(checkpoint) == {}
    for epoch in (1, 4, 4, 7):
        write_state(checkpoint, epoch, {"mixture": {"theta": torch.full((2,), float(epoch))}, "optimizer": None})
    assert state_file(checkpoint).name == "checkpoint_best.lomix.pt"
    states = read_states(checkpoint)
    assert sorted(states) == [4, 7]  # a kill before nnU-Net has written epoch 7 leaves the state of its last one
    assert states[4]["mixture"]["theta"].tolist() == [4.0, 4.0]
    write_state(checkpoint, 2, {"mixture": {}, "optimizer": None})  # a training that began anew in the same folder
    assert sorted(read_states(checkpoint)) == [2, 7]


def test_a_damaged_file_holds_none(tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "checkpoint_final.pth")
    write_state(checkpoint, 1, {"mixture": {}, "optimizer": None})
    whole = state_file(checkpoint).read_bytes()
    for damaged in (b"", b"no zip at all", whole[: len(whole) // 2]):
        state_file(checkpoint).write_bytes(damaged)
        assert read_states(checkpoint) == {}
    torch.save({"other": 1}, state_file(checkpoint))
    assert read_states(checkpoint) == {}
    torch.save(Path("a class that is not plain"), state_file(checkpoint))  # never unpickled
    assert read_states(checkpoint) == {}
