"""Intensities of MR volumes: small bright bodies, wide numbers and constants keep their meaning."""

from pathlib import Path

import numpy as np
import pytest
from support.nifti_files import save

from lomix_search.data.intensities import scale_intensities
from lomix_search.data.readers.nifti import read_nifti


def test_wide_numbers_keep_their_contrast(tmp_path: Path) -> None:
    """A billion and a little more: float32 has steps of 64 there."""
    values = (1_000_000_000 + np.arange(60).reshape(3, 4, 5)).astype(np.int32)
    read = read_nifti(save(tmp_path / "a.nii.gz", values))[0]
    np.testing.assert_array_equal(read, values.transpose(2, 1, 0))
    scaled = scale_intensities(read[:, None], "mr", Path("a"))
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(scaled[:, 0], ((values.transpose(2, 1, 0) - low) / (high - low)).clip(0, 1), atol=1e-3)


@pytest.mark.parametrize("share", [1e-5, 1e-3, 4e-3, 6e-3, 0.03])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_bright_body_is_not_lost(share: float, sign: int) -> None:
    """Few voxels differ from the air around them: they keep their order and most of their contrast."""
    rng, image = np.random.default_rng(0), np.zeros(100_000, np.float32)
    body = rng.choice(image.size, round(share * image.size), replace=False)
    image[body] = rng.uniform(100, 200, len(body))
    scaled = scale_intensities(sign * image.reshape(10, 1, 100, 100), "mr", Path("a")).ravel().astype(float)
    assert scaled.min() == 0 and scaled.max() == 1
    expected = image / np.percentile(image[body], 99.5)
    np.testing.assert_allclose(scaled if sign > 0 else 1 - scaled, expected.clip(0, 1), atol=2e-3)


def test_other_mr_volumes_are_scaled_by_their_percentiles() -> None:
    rng = np.random.default_rng(0)
    for image in (
        rng.normal(50, 9, (4, 1, 30, 30)),
        rng.uniform(0, 1e-7, (4, 1, 30, 30)),
        rng.normal(0, 1e9, (4, 1, 30, 30)),
    ):
        low, high = np.percentile(image, (0.5, 99.5))
        expected = ((image - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(scale_intensities(image.astype(np.float32), "mr", Path("a")), expected, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e9])
def test_a_constant_volume_is_scaled_to_a_constant(value: float) -> None:
    assert np.ptp(scale_intensities(np.full((2, 1, 5, 5), value, np.float32), "mr", Path("a"))) == 0
