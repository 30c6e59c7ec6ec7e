"""Blocks that are larger than cases: how many are padded is said, and what cannot be meant is refused."""

import pytest

from lomix_search.data.block_fit import BlockFit
from lomix_search.errors import DataError

SHAPES = {"a": (36, 50, 35), "b": (40, 47, 24), "c": (48, 64, 48)}


def test_the_worst_case_is_named_with_its_axis() -> None:
    said = "2 of 3 cases are smaller than a block of 40 × 48 × 32 and are padded; most b, which has 24 of 32 columns"
    assert BlockFit((40, 48, 32), SHAPES).words == said and BlockFit((40, 48, 32), SHAPES).padded == ["a", "b"]
    assert BlockFit((36, 47, 24), SHAPES).words == ""


def test_a_block_that_no_case_fills_is_refused_but_for_what_networks_round_up() -> None:
    for size in ((48, 64, 48), (16, 16, 16)):
        BlockFit(size, SHAPES).check("data.size=")
    odd = {"a": (31, 40, 24), "b": (33, 59, 47)}
    BlockFit((48, 64, 48), odd).check("data.size=")  # as the hippocampus set has them
    with pytest.raises(DataError) as caught:
        BlockFit((64, 64, 56), odd).check("data.size=")
    assert "blocks of 64 × 64 × 56 are larger than every case along slices and columns" in str(caught.value)
    assert "the most columns of any case at the spacing of training: 47" in str(caught.value)
    assert "Try:  data.size=[48, 64, 48]   # slices, rows, columns" in str(caught.value)
