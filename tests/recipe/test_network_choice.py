"""The network of a new recipe fits what it sees."""

import pytest
import torch

from lomix_search.recipe.network_choice import network_for, patch_size, strides_for
from lomix_search.recipe.objects import call, load_object

SHAPES = [(36, 1, 50, 35)] * 3


def test_a_patch_holds_a_median_volume() -> None:
    assert patch_size(SHAPES, [(1.0, 1.0, 1.0)] * 3) == (48, 64, 48)
    assert patch_size(SHAPES, [(2.0, 1.0, 1.0)] * 3, (1.0, 1.0, 1.0)) == (80, 64, 48)
    big = patch_size([(400, 1, 512, 512)], [(1.0, 1.0, 1.0)])
    assert big == (96, 96, 112)


def test_strides_fit_the_patch() -> None:
    assert strides_for((48, 64, 48)) == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert strides_for((16, 96, 96), (2.5, 1.0, 1.0))[:3] == [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    assert strides_for((128, 128, 128)) == [[1, 1, 1]] + [[2, 2, 2]] * 4


@pytest.mark.parametrize("size", [(48, 32, 32), (16, 32, 32)])
def test_the_network_runs_on_a_patch(size: tuple[int, int, int]) -> None:
    spec = network_for(3, size, (2.5, 1.0, 1.0) if size[0] == 16 else (), 2, 3)
    spec["args"]["filters"] = [2] * len(spec["args"]["filters"])
    network = call(load_object(spec["build"], "network.build"), spec["args"], "network.args")
    assert network(torch.zeros(1, 2, *size)).shape == (1, 3, *size)
