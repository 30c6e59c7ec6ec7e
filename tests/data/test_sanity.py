"""What a resumed run says of its data and its surroundings; a data set is left as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import run, same
from support.shapes import CLASSES, Shapes, build
from support.tiny_recipe import tiny
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.experiments.run import run_recipe
from lomix_search.training.checkpoint import read_tensors, write_tensors


class Other(Shapes):
    """One pixel of one item is brighter."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        if index == 0:
            image[0, 3, 3] += 0.25
        return image, label


class Owned(Shapes):
    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def case(self, index: int) -> str:
        return self.owner if index == 7 else f"p{index // 3}"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    run(folder, steps=3)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {"train": Shapes(13)}, "training set: 12 items before, 13 now"),
        ({}, {"train": Other()}, "training set: item 0 came out differently"),
        ({}, {"val": Other(4)}, "validation set: some items came out differently"),
        ({"train": Owned("a")}, {"train": Owned("b")}, "training set: the items are of other cases"),
    ],
)
def test_a_run_does_not_go_on_with_other_data_unasked(
    before: dict[str, Any], now: dict[str, Any], told: str, begun: Path, tmp_path: Path
) -> None:
    if before:
        run(tmp_path, steps=3, **before)
    else:
        shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    with pytest.raises(RunError) as caught:
        run(tmp_path, steps=4, resume=True, **now)
    assert str(caught.value) == (
        f"the data have changed since the run in {tmp_path} was started; its result would be of neither.\n"
        f"  Seen: {told}\n"
        "  Try:  the data as they were; or another folder, to start again with these\n"
        "        other_data=True   (lomix run … --resume search.other_data=true) to go on all the same"
    )
    run(tmp_path, steps=4, resume=True, other_data=True, **now)
    run(tmp_path, steps=4, resume=True, **now)  # from then on these are its data


@pytest.mark.slow
def test_a_recipe_s_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lomix_search.experiments.run._draw", lambda *_: None)  # pictures take most of the time
    recipe = tiny(tmp_path)
    run_recipe(recipe, tmp_path / "run")
    known = json.loads((tmp_path / "run/environment.json").read_text())
    known["starts"][-1]["data"]["sha256"] = "0" * 64
    (tmp_path / "run/environment.json").write_text(json.dumps(known))
    with pytest.raises(RunError, match=r"the data have changed since(.|\n)*000000000000 before"):
        run_recipe(recipe, tmp_path / "run", resume=True)
    run_recipe(recipe.override({"search.other_data": True}), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_other_surroundings_are_said_in_one_message(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
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


class Noting(Shapes):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.count = [], 0  # type: ignore[var-annotated]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        self.count += 1
        return super().__getitem__(index)


def test_looking_moves_nothing(tmp_path: Path) -> None:
    train, val = Noting(), Noting()
    net, loss = build("deep_supervision")
    lomix.search(net, loss, train, val, folder=tmp_path, steps=2, batch_size=4, validate_every=9, progress=False)
    assert train.count == len(train.read) == 8 and val.read == list(range(12))


def test_the_faults_of_both_sections_are_told(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(RunError) as caught:
        lomix.search(net, loss, Shapes(), folder=tmp_path, lr=-1, steps=0, precision="8", unknown=1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "search(…) has 4 faults."
    assert [line.split(":")[0].split(" =")[0].strip() for line in lines[1:]] == ["unknown", "steps", "precision", "lr"]


@pytest.mark.slow
def test_the_last_validation_is_made_once(tmp_path: Path) -> None:
    val = Noting()
    net, loss = build("deep_supervision")
    settings = {"steps": 4, "batch_size": 4, "validate_every": 2, "progress": False, "classes": CLASSES}
    result = lomix.search(net, loss, Shapes(), val, folder=tmp_path, **settings)
    assert val.count == 2 * 12
    assert result.final is not None and np.isfinite(result.final.mean)
    net, loss = build("deep_supervision")
    again = lomix.search(net, loss, Shapes(), val, folder=tmp_path, resume=True, **settings)
    assert again.final is not None and again.final.mean == result.final.mean and val.count == 3 * 12
