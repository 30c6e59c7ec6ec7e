"""Items as users give them: trained and scored as what they are, or refused by name before the first step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import data as monai_data
from support.runs import same
from support.shapes import CLASSES, Shapes, build
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lomix_search as lomix
from lomix_search.data.dataset import Slices
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import UniformDataset
from lomix_search.errors import DataError, LomixError, RunError
from lomix_search.evaluation.score_items import score_items
from lomix_search.training.result import Result

Form = Callable[[Tensor, Tensor], Any]


class Formed(Dataset[Any]):
    """The items of a set in another form."""

    def __init__(self, form: Form, items: Sequence[Any] | Dataset[Any]) -> None:
        self.form, self.items = form, items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.form(*self.items[index])


def train(folder: Path, form: Form, val: Form | None = None, **changes: Any) -> Result:
    net, loss = build("deep_supervision")
    settings = {"steps": 2, "batch_size": 3, "validate_every": 2, "checkpoint_every": 2, "progress": False} | changes
    sets = Formed(form, Shapes(6)), Formed(val or form, Shapes(4))
    return lomix.search(net, loss, *sets, folder=folder, classes=CLASSES, **settings)


def one_hot(label: Tensor, classes: int = 3) -> Tensor:
    return torch.nn.functional.one_hot(label, classes).movedim(-1, 0)


AS_IT_IS: Form = lambda image, label: (image, label)  # noqa: E731


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("plain")
    return folder, train(folder, AS_IT_IS)


ACCEPTED: dict[str, Form] = {
    "dictionary": lambda image, label: {"image": image, "label": label, "path": "x.png"},
    "of MONAI's crop": lambda image, label: [{"image": image, "label": label[None]}],
    "MetaTensor": lambda image, label: {
        "image": monai_data.MetaTensor(image),
        "label": monai_data.MetaTensor(label[None].float()),
    },
    "one channel": lambda image, label: (image, label[None]),
    "list": lambda image, label: [image, label],
    "numpy": lambda image, label: (image.numpy(), label.numpy()),
    "numpy, turned": lambda image, label: (image.numpy()[:, ::-1][:, ::-1], np.asfortranarray(label.numpy())),
    "big-endian": lambda image, label: (image.numpy().astype(">f4"), label.numpy().astype(">i2")),
    "float64": lambda image, label: (image.double(), label),
    "float labels": lambda image, label: (image, label.float()),
    "half labels": lambda image, label: (image, label.half()[None]),
    "uint8": lambda image, label: (image, label.byte()),
    "uint16": lambda image, label: (image, label.numpy().astype(np.uint16)),
    "uint64": lambda image, label: (image, label.numpy().astype(np.uint64)),
    "int32": lambda image, label: (image, label.int()),
    "needs a gradient": lambda image, label: (image.clone().requires_grad_(), label),
    "sparse": lambda image, label: (image, label.to_sparse()),
    "one-hot": lambda image, label: (image, one_hot(label)),
    "one-hot of MONAI": lambda image, label: {"image": image, "label": monai_data.MetaTensor(one_hot(label).float())},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_accepted_comes_out_in_the_one_form(name: str) -> None:
    plain, other = (UniformDataset(Formed(form, Shapes(2)), "training", 3) for form in (AS_IT_IS, ACCEPTED[name]))
    for number in range(2):
        for one, two in zip(Seeded(plain, 0)[(0, number)], Seeded(other, 0)[(0, number)], strict=True):
            assert type(two) is Tensor and two.dtype == one.dtype and torch.equal(one, two)


FAST = ("dictionary", "MetaTensor", "numpy, turned", "needs a gradient")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in ACCEPTED]
)
def test_what_is_accepted_trains_and_scores_alike(name: str, plain: tuple[Path, Result], tmp_path: Path) -> None:
    result = train(tmp_path, ACCEPTED[name])
    same(tmp_path, plain[0])
    assert result.final is not None and plain[1].final is not None
    assert np.array_equal(result.final.dice, plain[1].final.dice, equal_nan=True)


def test_bool_labels_and_integer_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = lomix.instrument(build()[0].strip(), torch.zeros(1, 1, 16, 16))
    items = [(torch.randint(0, 255, (1, 16, 16), dtype=torch.uint8), torch.rand(16, 16) > 0.5) for _ in range(3)]
    result = score_items(net, items, CLASSES)  # type: ignore[arg-type]
    floats = [(image.float(), label.long()) for image, label in items]
    assert np.array_equal(result.dice, score_items(net, floats, CLASSES).dice, equal_nan=True)  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Form, str]] = {
    "three parts": (lambda image, label: (image, label, "p1"), "3 parts"),
    "other keys": (lambda image, label: {"img": image, "seg": label}, "keys 'img', 'seg'"),
    "several crops": (lambda image, label: [{"image": image, "label": label}] * 2, "2 parts (dict, dict)"),
    "alone": (lambda image, label: image, "a Tensor; an image and a label are needed"),
    "a path": (lambda image, label: ("a.png", label), "the image is a str"),
    "one-hot of too many": (lambda image, label: (image, one_hot(label + 1, 5)), "one-hot of 5 classes; there are 3"),
    "one-hot, softened": (lambda image, label: (image, one_hot(label) * 0.8 + 0.1), "the label is not one-hot"),
    "overlapping": (lambda image, label: (image, torch.ones(3, 16, 16)), "the label is not one-hot"),
    "channels last": (lambda image, label: (image.movedim(0, -1).expand(16, 16, 3), label), "different sizes"),
    "no channel": (lambda image, label: (image[0], label), "as many axes"),
    "turned": (lambda image, label: (image[:, :, :12], label.T[:, :12].T.contiguous()[:12]), "different sizes"),
    "cropped": (lambda image, label: (image, label[:12]), "different sizes"),
    "two channels": (lambda image, label: (image, torch.stack([label, label])), "as many axes"),
    "fractions": (lambda image, label: (image, label / 2), "class numbers must be integers"),
    "NaN label": (lambda image, label: (image, label.float() * torch.nan), "class numbers must be integers"),
    "complex": (lambda image, label: (image.to(torch.complex64), label), "the image is complex"),
    "outside": (lambda image, label: (image, label * 2), "label 4 outside the classes 0 … 2"),
    "negative": (lambda image, label: (image, label - 1), "label -1 outside the classes 0 … 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_before_the_first_step(name: str, tmp_path: Path) -> None:
    form, told = REFUSED[name]
    folder = tmp_path / "run"
    for where, forms in (("training item 0", (form, AS_IT_IS)), ("validation item 0", (AS_IT_IS, form))):
        with pytest.raises(DataError) as caught:
            train(folder, *forms)
        assert told in str(caught.value) and str(caught.value).startswith(f"{where}:"), str(caught.value)
        assert not folder.exists()
    with pytest.raises(DataError) as caught:
        score_items(build()[0], Formed(form, Shapes(1)), CLASSES)
    assert told in str(caught.value) and str(caught.value).startswith("scored item 0:")


class Late(Shapes):
    """All is well but the last item."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return (image, label * 9) if index == self.n - 2 else (image, label)


def test_a_bad_item_anywhere_in_the_validation_set_is_found_before_the_first_step(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(DataError, match="validation item 5: label 9, 18 outside the classes 0 … 2"):
        lomix.search(net, loss, Shapes(), Late(7), folder=tmp_path / "run", steps=2, batch_size=2, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_bad_item_of_the_training_set_is_named_when_it_comes(workers: int, tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(DataError, match="training item 10: label 9, 18 outside the classes 0 … 2"):
        lomix.search(net, loss, Late(12), folder=tmp_path, steps=4, batch_size=4, workers=workers, progress=False)


def tensors(top: int) -> TensorDataset:
    labels = torch.zeros(50, 16, 16, dtype=torch.int64)
    labels[31, 0, 0] = top
    return TensorDataset(torch.rand(50, 1, 16, 16), labels)


def arrays(top: int) -> Slices:
    images, labels = (tensor.numpy() for tensor in tensors(top).tensors)
    return Slices(images, labels, ["p"] * 50, num_classes=9)


@pytest.mark.parametrize("make", [tensors, arrays])
def test_labels_in_memory_are_looked_at_before_the_first_step(
    make: Callable[[int], Dataset[Any]], tmp_path: Path
) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(DataError, match="training item 31: label 3 outside the classes 0 … 2"):
        lomix.search(net, loss, make(3), folder=tmp_path / "run", steps=1, batch_size=2, progress=False)
    assert not (tmp_path / "run").exists()


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield Shapes()[0]


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (DataLoader(Shapes(), batch_size=4), r"the training set is a DataLoader(.|\n)*loader.dataset, batch_size=4"),
        (Endless(), "the training set is a Endless; its items must be countable"),
        (iter([Shapes()[0]]), "the training set is a list_iterator; its items must be countable"),
        ([], "the training set is empty"),
    ],
)
def test_sets_that_are_none(items: Any, told: str, tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(DataError, match=told):
        lomix.search(net, loss, items, folder=tmp_path / "run", steps=1, batch_size=2, progress=False)
    assert not (tmp_path / "run").exists()


class Sizes(Shapes):
    """Items of two sizes."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return (image.repeat(1, 1, 2), label.repeat(1, 2)) if index % 2 else (image, label)


def test_items_of_several_sizes_validate_and_cannot_share_a_batch(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    settings = {"steps": 2, "progress": False, "classes": CLASSES}
    with pytest.raises(DataError, match="the items of a batch differ in size"):
        lomix.search(net, loss, Sizes(), folder=tmp_path / "a", batch_size=4, **settings)
    result = lomix.search(net, loss, Sizes(), Sizes(4), folder=tmp_path / "b", batch_size=1, **settings)
    assert result.final is not None and len(result.final.cases) == 4
    one_by_one = [score_items(net, [Fixed(Sizes(4))[i]], CLASSES).dice[0] for i in range(4)]  # type: ignore[arg-type]
    together = score_items(net, Fixed(Sizes(4)), CLASSES, batch_size=3).dice
    assert np.array_equal(together, np.array(one_by_one), equal_nan=True)


class Fixed(Dataset[Any]):
    """Items drawn once."""

    def __init__(self, items: Shapes) -> None:
        np.random.seed(0)
        self.items = [items[i] for i in range(len(items))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_labels_of_half_the_size_are_trained_and_scored_at_their_own_size(tmp_path: Path) -> None:
    half: Form = lambda image, label: (image, label[::2, ::2].contiguous())  # noqa: E731
    result = train(tmp_path, half)
    assert result.final is not None and np.isfinite(result.final.mean)


def test_held_out_items_are_looked_at_too(tmp_path: Path) -> None:
    net = build()[0]
    loss = lomix.MixtureLoss("deep_supervision", len(net.stages), 3, weighting="lookahead")
    bad = Formed(lambda image, label: (image, label + 2), Shapes(4))
    with pytest.raises(DataError, match="held-out item 0: label 3, 4 outside"):
        lomix.search(net, loss, Shapes(), held_out=bad, folder=tmp_path / "run", steps=1, batch_size=2, progress=False)


def test_class_names_must_be_as_many_as_the_loss_has(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(RunError, match="classes names 2 classes; the loss has 3"):
        lomix.search(net, loss, Shapes(), folder=tmp_path / "run", classes=("a", "b"), progress=False)


def test_a_validation_set_without_foreground_is_refused(tmp_path: Path) -> None:
    empty: Form = lambda image, label: (image, label * 0)  # noqa: E731
    with pytest.raises(RunError) as caught:
        train(tmp_path / "run", AS_IT_IS, empty)
    assert str(caught.value) == (
        "the validation set has no foreground: none of its 4 items holds any of disc, square, so that there is no Dice "
        "to choose the best network by.\n"
        "  Try:  other validation items; or val=None, which trains without validation"
    )
    with pytest.raises(DataError, match="the validation set is empty"):
        net, loss = build("deep_supervision")
        lomix.search(net, loss, Shapes(), [], folder=tmp_path / "run", steps=1, progress=False)  # type: ignore[arg-type]


def test_the_hint_for_a_mask_of_0_and_255_keeps_its_foreground() -> None:
    image, label = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 4, 4), np.uint8)
    label[0, 0] = 255
    with pytest.raises(LomixError) as caught:
        Slices(image, label, ["p"], num_classes=2, names=["p.png"])[0]
    assert str(caught.value) == (
        "p.png: label 255 outside the classes 0 … 1.\n"
        "  Try:  label = (label == 255).astype('uint8')   # if every mask is of 0 and 255: its foreground is 1\n"
        "        loss.ignore_index=255   # if 255 marks pixels without a label"
    )


def regions(label: Tensor) -> Tensor:
    """Anything, and the disc: masks that overlap."""
    return torch.stack([label > 0, label == 1])


MASKS: dict[str, Form] = {
    "bool": lambda image, label: (image, regions(label)),
    "of MONAI": lambda image, label: {"image": image, "label": monai_data.MetaTensor(regions(label).float())},
    "numpy": lambda image, label: (image, regions(label).numpy().astype(np.uint8)),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_overlap_come_out_in_the_one_form(name: str) -> None:
    items = UniformDataset(Formed(MASKS[name], Shapes(2)), "training", 2, multilabel=True)
    image, masks = items[0]
    assert masks.dtype == torch.int64 and torch.equal(masks, regions(Shapes(2)[0][1]).long())
    assert image.shape == (1, 16, 16)
    alone = UniformDataset(Formed(lambda image, label: (image, label > 0), Shapes(2)), "training", 1, multilabel=True)
    assert alone[0][1].shape == (1, 16, 16)


NO_MASKS: dict[str, tuple[Form, str]] = {
    "class numbers": (lambda image, label: (image, label), "(R, *spatial)"),
    "too many": (lambda image, label: (image, regions(label).repeat(2, 1, 1)), "4 masks; there are 2 regions"),
    "white": (lambda image, label: (image, regions(label) * 255), "masks hold 255"),
    "soft": (lambda image, label: (image, regions(label) * 0.5), "must be integers"),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask_of_regions_is_refused_before_the_first_step(name: str, tmp_path: Path) -> None:
    form, told = NO_MASKS[name]
    net = lomix.instrument(build()[0].strip(), torch.zeros(1, 1, 16, 16))
    loss = lomix.MixtureLoss("deep_supervision", len(net.stages), 2, multilabel=True)
    with pytest.raises(DataError) as caught:
        lomix.search(net, loss, Formed(form, Shapes(4)), folder=tmp_path / "run", steps=1, progress=False)
    assert told in str(caught.value) and not (tmp_path / "run").exists()
