"""Random generators that a data set holds: seeded for each item, whatever the worker, the order and the step."""

import functools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import CacheDataset
from monai.data import Dataset as MonaiDataset
from support.runs import same
from support.shapes import CLASSES, Shapes, build
from torch.utils.data import Dataset, Subset

import lomix_search as lomix
from lomix_search.data.seeding import Seeded
from lomix_search.training.result import Result

OF_MODULE = np.random.default_rng(0)


def pixels() -> list[dict[str, Any]]:
    np.random.seed(0)
    items = [Shapes()[i] for i in range(12)]
    return [{"image": image, "label": label[None]} for image, label in items]


def chance() -> mt.Compose:
    """Random transforms in all the places where they stand: alone, in a choice, in a list, in each other."""
    both = ["image", "label"]
    return mt.Compose(
        [
            mt.RandFlipd(both, prob=0.5),
            mt.OneOf([mt.RandRotate90d(both, prob=0.7), mt.RandShiftIntensityd("image", 0.3, prob=1.0)]),
            mt.Compose([mt.RandGaussianNoised("image", prob=1.0, std=0.3)]),
            mt.RandAffined(both, prob=0.5, rotate_range=0.5, mode=("bilinear", "nearest")),
        ]
    )


SETS: dict[str, Callable[[], Dataset[Any]]] = {
    "dataset": lambda: MonaiDataset(pixels(), chance()),
    "cache": lambda: CacheDataset(pixels(), chance(), progress=False),
    "nested": lambda: Subset(Applied(MonaiDataset(pixels(), chance()), chance()), range(12)),
}


class Applied(Dataset[Any]):
    def __init__(self, dataset: Any, change: Callable[[Any], Any]) -> None:
        self.dataset, self.changes = dataset, {"first": [functools.partial(change)]}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.changes["first"][0](self.dataset[index])


def run(folder: Path, items: Dataset[Any], **changes: Any) -> Result:
    net, loss = build("deep_supervision")
    settings = {"steps": 3, "batch_size": 2, "checkpoint_every": 1, "validate_every": 2, "seed": 5, "progress": False}
    return lomix.search(net, loss, items, Shapes(4), folder=folder, classes=CLASSES, **settings | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dataset", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nested", "cache"))]
)
def test_workers_and_a_kill_change_nothing(name: str, tmp_path: Path) -> None:
    make = SETS[name]
    run(tmp_path / "whole", make())
    np.random.seed(77)  # whatever stands in the global generators
    random.seed(78)
    run(tmp_path / "workers", make(), workers=2)
    same(tmp_path / "workers", tmp_path / "whole")
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tmp_path / "cut", make()))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run(tmp_path / "cut", make(), resume=True)
    same(tmp_path / "cut", tmp_path / "whole")


def killed(folder: Path, items: Dataset[Any]) -> None:
    run(folder, items, on_validate=lambda step, dice: os.kill(os.getpid(), signal.SIGKILL))


def test_draws_differ_between_items_and_epochs_and_not_otherwise() -> None:
    data = Seeded(MonaiDataset(pixels(), chance()), 3)
    one = data[(5, 2)]["image"]
    data[(6, 1)], data.dataset[0]
    assert torch.equal(one, data[(5, 2)]["image"])
    assert not torch.equal(one, data[(17, 2)]["image"])
    assert not torch.equal(one, Seeded(MonaiDataset(pixels(), chance()), 4)[(5, 2)]["image"])


def drawn() -> float:
    return float(OF_MODULE.random())


class Holding(Dataset[Any]):
    """Generators of every kind, in every place."""

    of_class = random.Random(1)

    def __init__(self) -> None:
        self.numpy, self.legacy = np.random.default_rng(1), np.random.RandomState(2)
        self.other = np.random.RandomState(np.random.PCG64(3))
        self.python, self.torch = random.Random(4), torch.Generator()
        inside, partial = random.Random(5), random.Random(6)
        self.closure = lambda: inside.random()
        self.deep = [{"a": (functools.partial(random.Random.gauss, partial, 0, 1),)}]
        self.bound = np.random.Generator(np.random.Philox(7)).normal
        self.late: np.random.Generator | None = None

    def __len__(self) -> int:
        return 4

    def draws(self) -> list[float]:
        return [
            float(self.numpy.random()), float(self.legacy.randn()), float(self.other.randn()), self.python.gauss(0, 1),
            float(torch.rand((), generator=self.torch)), self.closure(), self.deep[0]["a"][0](),
            self.of_class.random(), drawn(), float(OF_MODULE.random()),
        ]  # fmt: skip

    def __getitem__(self, index: int) -> list[float]:
        return self.draws()


def test_generators_of_every_kind_and_place_are_seeded_and_put_back() -> None:
    items = Holding()
    data = Seeded(items, 1)
    expected = Holding().draws()
    OF_MODULE.bit_generator.state = np.random.default_rng(0).bit_generator.state
    Holding.of_class.seed(1)
    first, again, other = data[(0, 1)], data[(0, 1)], data[(1, 1)]
    assert first == again and not set(first) & set(other) and len(set(first)) == len(first)
    assert items.draws() == expected  # as if nothing had been read
    items.numpy = np.random.default_rng(9)  # a user may give it another one later
    assert data[(0, 1)][0] == first[0]


class Lasting(Shapes):
    def __init__(self) -> None:
        super().__init__()
        self.draw = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image + float(self.draw.random()), label


class Fresh(Shapes):
    """Its generator is made while an item is read: nothing can seed it."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image + float(np.random.default_rng().random()), label


@pytest.mark.slow
def test_a_generator_that_cannot_be_seeded_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="training item 0 came out differently when it was read twice with the same"):
        run(tmp_path / "fresh", Fresh(), steps=1)
    run(tmp_path / "lasting", Lasting())
    run(tmp_path / "workers", Lasting(), workers=2)
    same(tmp_path / "lasting", tmp_path / "workers")


@pytest.mark.slow
def test_held_out_and_validation_items_repeat_too(tmp_path: Path) -> None:
    made = []
    for name, workers in (("a", 0), ("b", 1)):
        net = build()[0]
        loss = lomix.MixtureLoss("deep_supervision", len(net.stages), 3, weighting="lookahead")
        sets = (MonaiDataset(pixels(), chance()) for _ in range(3))
        train, val, held = sets
        settings = {"steps": 4, "batch_size": 4, "validate_every": 2, "workers": workers, "progress": False}
        made.append(lomix.search(net, loss, train, val, held_out=held, folder=tmp_path / name, **settings))
    same(tmp_path / "a", tmp_path / "b")
    assert made[0].best_dice == made[1].best_dice
