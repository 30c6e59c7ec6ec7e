"""Pictures of every type: what is read is what numpy wrote, upright, or the file is refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.picture_files import COLOURS, PICTURE, ZERO, palette, png, rgb, save, tiff

from lomix_search.data.masks.picture_pair import read_mask
from lomix_search.data.readers.picture_file import read_picture
from lomix_search.errors import DataError

GREY = np.repeat(PICTURE[None], 3, 0)
READ: dict[str, tuple[Callable[[Path], Path], NDArray[np.uint8]]] = {
    "RGB": (lambda p: save(p / "a.png", COLOURS), COLOURS.transpose(2, 0, 1)),
    "RGB bmp": (lambda p: save(p / "a.bmp", COLOURS), COLOURS.transpose(2, 0, 1)),
    "RGB tiff": (lambda p: save(p / "a.tif", COLOURS, compression="tiff_lzw"), COLOURS.transpose(2, 0, 1)),
    "RGBA, opaque": (lambda p: save(p / "a.png", np.dstack([COLOURS, ZERO + 255])), COLOURS.transpose(2, 0, 1)),
    "grey": (lambda p: save(p / "a.png", PICTURE), GREY),
    "grey with alpha": (lambda p: save(p / "a.png", rgb(PICTURE, ZERO + 255)), GREY),
    "grey tiff, other end first": (lambda p: tiff(p / "a.tif", PICTURE, order=">"), GREY),
    "white is 0": (lambda p: tiff(p / "a.tif", 255 - PICTURE, photometric=0), GREY),
    "1 bit": (lambda p: save(p / "a.png", PICTURE > 99), np.repeat(np.where(PICTURE > 99, 255, 0)[None], 3, 0)),
    "2 bits": (lambda p: png(p / "a.png", PICTURE // 64, 2, 0), np.repeat((PICTURE // 64 * 85)[None], 3, 0)),
    "palette": (
        lambda p: palette(p / "a.png", PICTURE, [(i, 255 - i, 7) for i in range(256)]),
        np.stack([PICTURE, 255 - PICTURE, ZERO + 7]),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_pictures_of_8_bits(name: str, tmp_path: Path) -> None:
    write, expected = READ[name]
    found = read_picture(write(tmp_path))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_too_many_pixels_are_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", PICTURE)
    for limit in (PICTURE.size // 3, PICTURE.size - 1):  # an error above twice the limit, a warning below
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (read_picture, read_mask):
            with pytest.raises(DataError, match="has more pixels than Pillow opens") as error:
                read(path)
            assert str(path) in str(error.value) and "crop" in str(error.value)
