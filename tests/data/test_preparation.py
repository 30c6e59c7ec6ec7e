"""From a raw image to what a network takes, and its scores back on the image's own grid."""

import numpy as np
import pytest
import torch

from lomix_search.data.manifest import ChannelScaling, Preparation
from lomix_search.data.preparation import flat_axis, prepare_image, scores_on_grid
from lomix_search.errors import DataError

Z = (ChannelScaling(kind="zscore"),)
SPACED = Preparation(dims=3, spacing=(2.0, 1.0, 1.0), channels=1, intensity=Z)


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(50, 9, shape).astype(np.float32)


def test_a_volume_gets_mean_0_and_deviation_1_and_the_spacing_of_training() -> None:
    made = prepare_image(image(10, 1, 20, 30), (1.0, 1.0, 2.0), SPACED, "a.nii")
    assert made.native.shape == (10, 1, 20, 30) and made.small.shape == (5, 1, 20, 60)
    assert abs(made.native.astype(float).mean()) < 1e-3 and abs(made.native.astype(float).std() - 1) < 1e-3


def test_resampling_keeps_a_smooth_image_where_it_is_and_within_its_values() -> None:
    """A ramp along each axis is a ramp after it: borders stay borders, centres lie at (i + ½) / n."""
    ramp = np.linspace(0, 1, 24, dtype=np.float32)[:, None, None] * np.ones((24, 12, 12), np.float32)
    how = SPACED.model_copy(update={"spacing": (2.0, 1.0, 1.0)})
    made = prepare_image(ramp[:, None], (1.0, 1.0, 1.0), how, "a.nii")
    line = made.small[:, 0, 5, 5].astype(float)
    expected = made.native[:, 0, 5, 5].astype(float).reshape(12, 2).mean(1)
    np.testing.assert_allclose(line[1:-1], expected[1:-1], atol=0.01)
    assert line.min() >= made.native.min() and line.max() <= made.native.max()


def test_slices_far_apart_are_linear_between_and_cubic_within() -> None:
    assert [flat_axis(s) for s in ((5, 1, 1), (1, 1, 4), (3, 1, 1), (4, 4, 1), ())] == [0, 2, None, None, None]
    how = Preparation(dims=3, spacing=(2.5, 1.0, 1.0), channels=1, intensity=Z)
    step = np.zeros((4, 1, 6, 6), np.float32)
    step[2:] = 1
    made = prepare_image(step, (5.0, 1.0, 1.0), how, "a.nii").small[:, 0, 3, 3].astype(float)
    np.testing.assert_allclose(made, [-1, -1, -1, -0.5, 0.5, 1, 1, 1], atol=1e-3)
    turned = how.model_copy(update={"spacing": (1.0, 1.0, 2.5)})
    made = prepare_image(step.transpose(2, 1, 3, 0), (1.0, 1.0, 5.0), turned, "a.nii").small[3, 0, 3].astype(float)
    np.testing.assert_allclose(made, [-1, -1, -1, -0.5, 0.5, 1, 1, 1], atol=1e-3)


def test_a_ct_is_scaled_by_what_was_measured_in_all_of_them() -> None:
    fixed = ChannelScaling(kind="foreground", window=(-100.0, 200.0), mean=50.0, std=25.0)
    how = Preparation(dims=3, channels=1, intensity=(fixed,))
    values = np.array([-1000, 50, 75, 900], np.float32).reshape(2, 1, 2, 1).repeat(2, 3)
    made = prepare_image(values, (), how, "ct.nii").small
    np.testing.assert_allclose(np.unique(made), [-6, 0, 1, 6])


def test_each_channel_by_its_own_modality_and_zeros_left_out() -> None:
    how = Preparation(
        dims=3,
        channels=2,
        modalities=("CT", "T1"),
        intensity=(
            ChannelScaling(kind="foreground", window=(-10, 10), mean=0, std=5),
            ChannelScaling(kind="zscore", nonzero=True),
        ),
    )
    both = np.concatenate([image(4, 1, 8, 8) - 50, image(4, 1, 8, 8)], 1)
    both[:, 1, :4] = 0
    made = prepare_image(both, (), how, "a.nii").native.astype(float)
    assert made[:, 0].min() == -2 and made[:, 0].max() == 2
    assert (made[:, 1, :4] == 0).all() and abs(made[:, 1, 4:].mean()) < 1e-3 and abs(made[:, 1, 4:].std() - 1) < 1e-2


@pytest.mark.parametrize(
    ("given", "spacing", "message"),
    [
        (image(4, 2, 8, 8), (1, 1, 1), r"a\.nii: 2 channels; the others have 1"),
        (image(1, 1, 8, 8), (1, 1, 1), r"a\.nii: a single slice; volumes are needed"),
        (image(4, 1, 8, 8), (0, 1, 1), r"a\.nii: the spacing must be a positive number"),
        (image(4, 1, 8, 8), (1, 1), r"a\.nii: the spacing must be a positive number"),
        (image(4, 1, 8, 8), (), r"a\.nii: it has no spacing, and the others have one"),
        (np.full((4, 1, 8, 8), 7.0, np.float32), (1, 1, 1), r"a\.nii: every voxel is 7; nothing can be seen"),
        (np.full((4, 1, 8, 8), np.nan, np.float32), (1, 1, 1), r"a\.nii: NaN or infinite intensities"),
    ],
)
def test_images_of_another_kind_are_refused_by_name(given: np.ndarray, spacing: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_image(given, spacing, SPACED, "a.nii")


def test_scores_come_back_to_the_grid_of_the_case_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(scores[None], (11, 9, 14), mode="trilinear")[0]
    monkeypatch.setattr("lomix_search.data.preparation._SLAB", 3 * 9 * 14 * 4)  # four slices at a time
    slabs = list(scores_on_grid(scores, (11, 9, 14)))
    assert [slab.shape[1] for slab in slabs] == [4, 4, 3]
    torch.testing.assert_close(torch.cat(slabs, 1), whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(torch.cat(list(scores_on_grid(scores, (5, 6, 7))), 1), scores)
