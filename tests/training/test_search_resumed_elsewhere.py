"""What a resumed search says of surroundings and files that are not what they were."""

import json
from pathlib import Path

import pytest
import torch
from support.runs import run, same

from lomix_search.training.checkpoint import read_tensors, write_tensors


@pytest.mark.slow
def test_other_surroundings_are_said_in_one_message(tmp_path: Path) -> None:
    run(tmp_path, steps=3)
    (path,) = tmp_path.glob("checkpoints/*3.pt")
    state = read_tensors(path)
    there = json.loads(state["surroundings"])
    assert there["threads"] == str(torch.get_num_threads()) and there["torch"] == torch.__version__
    there |= {"threads": "96", "torch": "2.0.0", "code of lomix-search": "0123456789ab"}
    write_tensors(path, state | {"surroundings": json.dumps(there)})
    with pytest.warns(UserWarning) as told:
        run(tmp_path, steps=6, resume=True)
    (message,) = (str(one.message) for one in told)
    assert message.startswith(f"{tmp_path} goes on from step 3 in other surroundings than before: ")
    assert (
        "threads: 96, then 1" in message and "torch: 2.0.0, then " in message and "code of lomix-search: 01" in message
    )
    run(tmp_path, steps=6, resume=True)  # and not again


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "old", steps=3)
    run(tmp_path / "whole", steps=6)
    for path in (tmp_path / "old/checkpoints").iterdir():
        state = read_tensors(path)
        torch.save({key: value for key, value in state.items() if key not in ("data", "surroundings")}, path)
    run(tmp_path / "old", steps=6, resume=True)
    same(tmp_path / "old", tmp_path / "whole")


@pytest.mark.slow
def test_a_lost_best_network_is_said_and_the_next_takes_its_place(tmp_path: Path) -> None:
    run(tmp_path, steps=6)
    (tmp_path / "best.pt").write_bytes(b"PK")
    with pytest.warns(UserWarning, match=r"best\.pt is damaged(.|\n)*of step 6 with Dice .* is lost; the next"):
        result = run(tmp_path, steps=12, resume=True)
    assert result.best_step in (8, 12) and read_tensors(tmp_path / "best.pt")
