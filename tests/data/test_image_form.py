"""New images of the wrong kind are refused by name before anything is predicted."""

from pathlib import Path

import numpy as np
import pytest

from lomix_search.data.image_form import ImageForm
from lomix_search.data.manifest import ChannelScaling, Preparation
from lomix_search.data.readers.image import RawImage
from lomix_search.errors import DataError


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_that_shows_nothing(dims: int) -> None:
    scaling = ChannelScaling(kind="picture" if dims == 2 else "zscore")
    how = Preparation(dims=dims, size=16 if dims == 2 else None, channels=3, intensity=(scaling,))
    form = ImageForm(preparation=how, pictures=dims == 2)
    image = np.full((1 if dims == 2 else 8, 3, 16, 16), 7, np.uint8)
    depth = "8 bit" if dims == 2 else "volumes"
    with pytest.raises(DataError, match="a.png: every pixel is 7; nothing can be seen in it."):
        form.prepare(RawImage(image, depth=depth), "a", [Path("a.png")])
    image[..., 2, 2] = 9
    assert form.prepare(RawImage(image, depth=depth), "a", [Path("a.png")]).image.shape == image.shape
