"""What a resumed run says of its data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import run
from support.shapes import Shapes
from support.tiny_recipe import tiny
from torch import Tensor

from lomix_search.data.sanity import Fingerprint, check_all_items, check_some_items
from lomix_search.data.uniform_dataset import UniformDataset
from lomix_search.errors import RunError
from lomix_search.experiments.run import run_recipe


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


class Rounded(Shapes):
    """Rounds by the number of threads, as convolutions and resampling do."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return image + torch.get_num_threads() * 1e-6, label


@pytest.mark.parametrize("look", [check_some_items, lambda items: check_all_items(items, ("background", "a", "b"))])
def test_the_number_of_threads_makes_no_other_data(look: Callable[[UniformDataset], Fingerprint]) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(look(UniformDataset(Rounded(4), "training")))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] and found[0]["read"]


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
