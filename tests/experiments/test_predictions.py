"""What a network made of some items, kept beside the run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lomix_search.data.dataset import Slices
from lomix_search.errors import RunError
from lomix_search.experiments.predictions import PredictedSlices, look

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_what_a_network_saw_is_kept(tmp_path: Path) -> None:
    images = [np.zeros((3, 4, 5), np.float32), np.ones((3, 6, 4), np.float32)]
    labels = [np.zeros((4, 5), np.int64), np.full((6, 4), -1)]
    items = Slices(images, labels, ["a", "b"], num_classes=2, ignore_index=-1)  # type: ignore[arg-type]
    net = torch.nn.Conv2d(3, 2, 1)
    seen = look(net, items, ("background", "it"))
    assert seen.images.shape == (2, 6, 5, 3) and seen.truth[1, 0, 0] == 255 and net.training
    volumes = Slices(np.zeros((1, 1, 30, 8, 8)), np.zeros((1, 30, 8, 8), np.int64), ["v"], num_classes=2)
    deep = look(torch.nn.Conv3d(1, 2, 1), volumes, ("background", "it"), most=5)
    assert deep.names == tuple(f"v, item 0, plane {d}" for d in (0, 7, 14, 22, 29)) and deep.images.shape == (5, 8, 8)
    deep.save(tmp_path / "seen.npz")
    again = PredictedSlices.load(tmp_path / "seen.npz")
    assert again.names == deep.names and np.array_equal(again.predictions, deep.predictions)
    (tmp_path / "seen.npz").write_bytes(b"no")
    with pytest.raises(RunError, match="is damaged or holds no slices"):
        PredictedSlices.load(tmp_path / "seen.npz")


def test_planes_that_show_something_are_shown() -> None:
    labels = np.zeros((1, 30, 8, 8), np.int64)
    labels[0, 11:20, 2, 2] = 1
    labels[0, 17, 2:6, 2:6] = 1
    labels[0, 25] = 255  # ignored
    volumes = Slices(np.zeros((1, 1, 30, 8, 8)), labels, ["v"], num_classes=2, ignore_index=255)
    for most, planes in ((1, (17,)), (3, (11, 15, 19))):
        seen = look(torch.nn.Conv3d(1, 2, 1), volumes, ("background", "it"), most=most, ignore_index=255)
        assert seen.names == tuple(f"v, item 0, plane {d}" for d in planes)
