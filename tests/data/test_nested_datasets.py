"""Whose an item is, however the data sets are nested: scores are of whole cases, and no case is on both sides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import data as monai_data
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, random_split

from lomix_search.data.dataset import Slices, Truth
from lomix_search.data.nested_datasets import truth_of
from lomix_search.data.subsets import check_apart, label_fraction, set_aside
from lomix_search.errors import DataError, RunError
from lomix_search.evaluation.score_items import score_items

Any2 = Dataset[Any]


def cases(first: str = "p", number: int = 12) -> Slices:
    """Four slices of each of some patients; every pixel of class 1."""
    names = [f"{first}{i // 4}" for i in range(number)]
    labels = np.zeros((number, 4, 4), np.int64)
    labels[:, :2] = 1
    return Slices(labels[:, None].astype(np.float32), labels, names, num_classes=2)


class Wrapped(Dataset[Any]):
    """As users write it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


class Inside(Wrapped):
    """The same under another name."""

    def __init__(self, dataset: Any) -> None:
        self._base = dataset

    dataset = property(lambda self: self._base)


class Twice(Wrapped):
    def __len__(self) -> int:
        return 2 * len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index % len(self.dataset)]


class Counted(Twice):
    def case(self, index: int) -> str:
        return str(self.dataset.case(index % len(self.dataset)))


class Picked(Wrapped):
    """A subset of a user's own."""

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


def dictionaries() -> list[dict[str, Any]]:
    items = cases()
    return [{"image": items[i][0], "label": items[i][1], "case": items.case(i)} for i in range(len(items))]


OWN = [f"p{i // 4}" for i in range(12)]
NESTED: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "itself": (lambda tmp: cases(), OWN),
    "subset": (lambda tmp: Subset(cases(), [11, 0, 5]), ["p2", "p0", "p1"]),
    "tensor of indices": (lambda tmp: Subset(cases(), torch.tensor([11, 0, 5])), ["p2", "p0", "p1"]),  # type: ignore[arg-type]
    "two": (lambda tmp: ConcatDataset([cases(), cases("q", 8)]), [*OWN, *(f"q{i // 4}" for i in range(8))]),
    "deep": (
        lambda tmp: Subset(ConcatDataset([Subset(cases(), [8, 9]), Wrapped(ConcatDataset([cases("q")]))]), [3, 1, 10]),
        ["q0", "p2", "q2"],
    ),
    "user's": (lambda tmp: Wrapped(Wrapped(cases())), OWN),
    "user's, other name": (lambda tmp: Inside(Subset(cases(), range(4, 12))), OWN[4:]),
    "user's subset": (lambda tmp: Picked(cases(), np.array([11, 0, 5])), ["p2", "p0", "p1"]),
    "user's, told": (lambda tmp: Counted(cases()), OWN + OWN),
    "stacked": (
        lambda tmp: StackDataset(image=Half(cases(), 0), label=Half(cases(), 1)),
        OWN,
    ),
    "MONAI": (lambda tmp: monai_data.Dataset(cases(), transform=None), OWN),
    "MONAI's cache": (lambda tmp: monai_data.CacheDataset(cases(), lambda item: item, progress=False), OWN),
    "MONAI's files": (lambda tmp: monai_data.PersistentDataset(cases(), lambda item: item, cache_dir=tmp / "c"), OWN),
    "MONAI's arrays": (lambda tmp: monai_data.ZipDataset([Half(cases(), 0), Half(cases(), 1)]), OWN),
    "MONAI's slice": (lambda tmp: monai_data.Dataset(cases())[3:9], OWN[3:9]),
    "dictionaries": (lambda tmp: dictionaries(), OWN),
    "MONAI's dictionaries": (lambda tmp: monai_data.Dataset(dictionaries()), OWN),
    "subset of MONAI's": (lambda tmp: Subset(monai_data.Dataset(dictionaries()), [11, 0]), ["p2", "p0"]),
}


class Half(Wrapped):
    """Images or labels alone."""

    def __init__(self, dataset: Any, part: int) -> None:
        super().__init__(dataset)
        self.part = part

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.part]


class Threshold(nn.Module):
    """Predicts class 1 in three quarters of each item: Dice 2·8 / (12 + 8) = 0.8 in every case."""

    def forward(self, image: Tensor) -> Tensor:
        rows = torch.arange(4)[:, None].expand(4, 4)
        return torch.stack([torch.zeros(4, 4), torch.where(rows < 3, 1.0, -1.0)]).expand(len(image), 2, 4, 4)


@pytest.mark.parametrize("name", NESTED)
def test_scores_are_of_whole_cases(name: str, tmp_path: Path) -> None:
    build, expected = NESTED[name]
    items = build(tmp_path)
    result = score_items(Threshold(), items, ("background", "disc"), batch_size=3)
    assert result.cases == tuple(dict.fromkeys(expected))
    assert np.allclose(result.dice[:, 1], 0.8)


@pytest.mark.parametrize("name", [name for name in NESTED if len(set(NESTED[name][1])) > 1])
def test_no_case_is_on_both_sides(name: str, tmp_path: Path) -> None:
    build, expected = NESTED[name]
    items = build(tmp_path)
    rest, held = set_aside(items, 0.34, seed=1)
    sides = [{expected[i] for i in part.indices} for part in (rest, held)]  # type: ignore[attr-defined]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    few = label_fraction(items, 0.5, seed=1)
    kept = {expected[i] for i in few.indices}  # type: ignore[attr-defined]
    assert len(few) == sum(owner in kept for owner in expected)  # type: ignore[arg-type]


def test_a_random_split_of_torch_is_followed() -> None:
    items = cases()
    part, _ = random_split(items, [6, 6], torch.Generator().manual_seed(1))
    result = score_items(Threshold(), part, ("background", "disc"))
    assert set(result.cases) == {items.case(i) for i in part.indices} and len(result.cases) == 3


def test_a_wrapper_of_another_length_must_tell() -> None:
    with pytest.raises(DataError) as caught:
        set_aside(Twice(cases()), 0.3, 0)
    assert str(caught.value) == (
        "Twice holds a data set whose cases are known; which of its items is which is not.\n"
        "  Seen: 24 items around 12\n"
        "  Try:  def case(self, index): return self.dataset.case(…)   # in the class, or an attribute `indices`"
    )
    unknown = Twice([(torch.zeros(1, 4, 4), torch.zeros(4, 4).long())] * 3)
    assert len(set_aside(unknown, 0.5, 0)[0]) == 3  # nobody knows of cases: each item is its own


def test_held_out_items_are_told_apart_through_any_nesting() -> None:
    items = cases()
    train, held = ConcatDataset([Subset(items, range(8)), Wrapped(Subset(items, [8]))]), Wrapped(Subset(items, [8, 9]))
    with pytest.raises(RunError, match="1 held-out items are training items too"):
        check_apart(held, {"training": train})
    check_apart(Subset(items, [9]), {"training": train, "validation": None})


class Told(Slices):
    """Slices whose predictions are scored at twice their size."""

    def truth(self, index: int) -> Truth:
        return Truth(self[index][1].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_truths_are_followed_through_what_changes_no_item() -> None:
    whole = cases()
    items = Told(whole.images, whole.labels, whole.cases, num_classes=2)
    nested = ConcatDataset([Subset(items, [3, 1]), Subset(Subset(items, [0, 5, 7]), [2, 0])])
    for index, inner in enumerate((3, 1, 7, 0)):
        assert torch.equal(truth_of(nested, index).label, items.truth(inner).label)
    assert truth_of(Wrapped(items), 0) is None  # it may have cut or turned the items
    assert truth_of(whole, 0) is None
    assert score_items(Threshold(), Subset(items, [0, 1]), ("background", "disc")).dice.shape == (1, 2)
