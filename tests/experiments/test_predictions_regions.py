"""What a network made of regions that overlap: kept, painted for the eye, and where it was wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lomix_search.data.dataset import Slices
from lomix_search.errors import RunError
from lomix_search.experiments.figures import draw_seen
from lomix_search.experiments.predictions import PredictedSlices, look
from lomix_search.experiments.report.slice_viewer import viewer

REGIONS = {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


class Steps(torch.nn.Module):
    """The brighter, the more regions."""

    def __init__(self) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(torch.tensor([0.5, 1.5, 2.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 9 * (x[:, :1] - self.at.reshape(1, -1, *[1] * (x.ndim - 2)))


def items(*spatial: int) -> Slices:
    label = np.random.default_rng(0).integers(0, 4, (3, *spatial))
    images = np.repeat(label[:, None], 4, 1).astype(np.float32)
    marked = label.copy()
    marked[..., 0] = 9
    return Slices(images, marked, list("abc"), num_classes=4, ignore_index=9, regions=REGIONS)


@pytest.mark.parametrize("spatial", [(8, 6), (5, 8, 6)])
def test_masks_are_kept_and_painted(spatial: tuple[int, ...], tmp_path: Path) -> None:
    given = items(*spatial)
    seen = look(Steps(), given, tuple(REGIONS), most=3, ignore_index=9)
    assert seen.truth.shape == seen.predictions.shape == (3, 3, 8, 6) and seen.images.shape == (3, 8, 6)
    assert (seen.truth[..., 0] == 255).all() and not seen.differences().any() and seen.foreground == tuple(REGIONS)
    plane = given.labels[0] if len(spatial) == 2 else given.labels[0][int(seen.names[0].rpartition(" ")[2])]
    assert np.array_equal(seen.painted().truth[0, :, 1:], plane[:, 1:]), "of nested regions, the very class map"
    assert (seen.painted().truth[..., 0] == 255).all() and seen.painted().classes[1:] == tuple(REGIONS)
    seen.save(tmp_path / "seen.npz")
    again = PredictedSlices.load(tmp_path / "seen.npz")
    assert again.multilabel and np.array_equal(again.truth, seen.truth) and again.some(2).truth.shape[0] == 2
    seen.predictions[:, 1] = 0
    wrong = seen.differences()
    assert (wrong == 1).sum() == (seen.truth[:, 1] == 1).sum() and (wrong <= 1).all()
    assert PredictedSlices.load(tmp_path / "seen.npz").differences().max() == 0


def test_a_region_that_is_missed_and_one_that_is_added_are_told_apart() -> None:
    truth = np.array([[[[1, 1, 0, 0, 255]], [[0, 1, 0, 0, 255]]]], np.uint8)
    found = np.array([[[[1, 0, 1, 0, 1]], [[0, 1, 0, 1, 0]]]], np.uint8)
    both = PredictedSlices(np.zeros((1, 1, 5), np.uint8), truth, found, ("s",), ("a", "b"))
    assert both.differences().tolist() == [[[0, 1, 2, 2, 0]]]
    both.predictions[0, :, 0, 0] = 0, 1
    assert both.differences()[0, 0, 0] == 3
    classes = PredictedSlices(
        np.zeros((1, 1, 5), np.uint8),
        np.array([[[1, 1, 0, 2, 255]]], np.uint8),
        np.array([[[1, 0, 2, 1, 1]]], np.uint8),
        ("s",),
        ("background", "a", "b"),
    )
    assert classes.differences().tolist() == [[[0, 1, 2, 3, 0]]] and classes.painted() is classes


def test_masks_that_do_not_fit_their_names_are_damage(tmp_path: Path) -> None:
    seen = look(Steps(), items(8, 6), tuple(REGIONS))
    PredictedSlices(seen.images, seen.truth, seen.predictions, seen.names, ("one", "two")).save(tmp_path / "seen.npz")
    with pytest.raises(RunError, match="is damaged or holds no slices"):
        PredictedSlices.load(tmp_path / "seen.npz")


def test_the_page_shows_every_region() -> None:
    seen = look(Steps(), items(8, 6), tuple(REGIONS), ignore_index=9)
    page = viewer(seen)
    assert all(f"</i>{name}</li>" in page for name in REGIONS) and "mean Dice of this slice 1.000" in page
    seen.predictions[:, 2] = 0
    assert "mean Dice of this slice 0.667" in viewer(seen)


@pytest.mark.slow  # imports matplotlib
def test_the_figure_shows_every_region(pictures: None, tmp_path: Path) -> None:
    seen = look(Steps(), items(8, 6), tuple(REGIONS), ignore_index=9)
    draw_seen(tmp_path / "seen.png", seen)
    picture = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0, 114, 178), (213, 94, 0), (0, 158, 115)):
        assert (np.abs(picture - colour).sum(1) == 0).any(), "its colour in the legend"
