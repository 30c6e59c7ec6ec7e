"""Binary masks of every type, and pictures with them: what is read is what numpy wrote, or refused by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from support.picture_files import COLOURS, DISC, PICTURE, ZERO, noise, palette, png, rgb, save, tiff

from lomix_search.data.masks.picture_pair import read_mask, read_picture_pair
from lomix_search.data.readers.picture_file import read_picture
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.prediction_files import save_prediction

BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
BINARY: dict[str, Callable[[Path], Path]] = {
    **{f"0/{v}": lambda p, v=v: save(p / "m.png", DISC * v) for v in (1, 2, 10, 100, 127, 128, 254, 255)},
    "1/2": lambda p: save(p / "m.png", DISC + 1),
    "3/200": lambda p: save(p / "m.png", np.where(DISC, 200, 3).astype(np.uint8)),
    "bool": lambda p: save(p / "m.png", DISC.astype(bool)),
    "bool tiff": lambda p: save(p / "m.tif", DISC.astype(bool)),
    "bool bmp": lambda p: save(p / "m.bmp", DISC.astype(bool)),
    "0/3 of 2 bits": lambda p: png(p / "m.png", DISC * 3, 2, 0),
    "0/1 of 4 bits": lambda p: png(p / "m.png", DISC, 4, 0),
    **{f"16 bit 0/{v}": lambda p, v=v: save(p / "m.png", DISC.astype(np.uint16) * v) for v in (1, 255, 256, 65535)},
    "16 bit tiff": lambda p: save(p / "m.tif", DISC.astype(np.uint16) * 300),
    "16 bit, other end first": lambda p: tiff(p / "m.tif", DISC.astype(np.uint16) * 300, order=">"),
    "int16": lambda p: tiff(p / "m.tif", DISC.astype(np.int16) * 7),
    "signed −1/1": lambda p: tiff(p / "m.tif", DISC.astype(np.int16) * 2 - 1),
    "signed bytes −1/1": lambda p: tiff(p / "m.tif", DISC.astype(np.int8) * 2 - 1),
    "int32": lambda p: tiff(p / "m.tif", DISC.astype(np.int32) * 70000),
    "uint32": lambda p: tiff(p / "m.tif", DISC.astype(np.uint32) * 4_000_000_000),
    "float": lambda p: tiff(p / "m.tif", DISC.astype(np.float32)),
    "float 0/0.5": lambda p: tiff(p / "m.tif", DISC.astype(np.float32) / 2, order=">"),
    "white is 0": lambda p: tiff(p / "m.tif", 255 - DISC * 255, photometric=0),
    "white is 0, 16 bit": lambda p: tiff(p / "m.tif", 65535 - DISC.astype(np.uint16) * 65535, photometric=0),
    "grey RGB 0/1": lambda p: save(p / "m.png", rgb(DISC, DISC, DISC)),
    "grey RGB 0/255": lambda p: save(p / "m.png", rgb(*[DISC * 255] * 3)),
    "red 1": lambda p: save(p / "m.png", rgb(DISC, ZERO, ZERO)),
    "red 255": lambda p: save(p / "m.png", rgb(DISC * 255, ZERO, ZERO)),
    "blue 2": lambda p: save(p / "m.png", rgb(ZERO, ZERO, DISC * 2)),
    "a colour on black": lambda p: save(p / "m.png", rgb(DISC * 10, DISC * 200, DISC * 90)),
    "RGBA, opaque": lambda p: save(p / "m.png", rgb(*[DISC * 255] * 3, ZERO + 255)),
    "RGBA, transparent where black": lambda p: save(p / "m.png", rgb(*[DISC * 255] * 4)),
    "in the alpha": lambda p: save(p / "m.png", rgb(ZERO, ZERO, ZERO, DISC * 255)),
    "in the alpha of white": lambda p: save(p / "m.png", rgb(*[ZERO + 255] * 3, DISC * 255)),
    "LA": lambda p: save(p / "m.png", rgb(DISC * 255, ZERO + 255)),
    "palette black, white": lambda p: palette(p / "m.png", DISC, [BLACK, WHITE]),
    "palette white, black": lambda p: palette(p / "m.png", 1 - DISC, [WHITE, BLACK]),
    "palette red, black": lambda p: palette(p / "m.png", 1 - DISC, [RED, BLACK]),
    "palette black, red": lambda p: palette(p / "m.png", DISC, [BLACK, RED]),
    "palette white, black of 1 bit": lambda p: palette(p / "m.png", 1 - DISC, [WHITE, BLACK], bits=1),
    "palette of 256": lambda p: palette(p / "m.png", DISC * 15, [BLACK] * 15 + [RED] * 241),
    "palette bmp": lambda p: palette(p / "m.bmp", 1 - DISC, [WHITE, BLACK]),
    "palette tiff": lambda p: palette(p / "m.tif", 1 - DISC, [WHITE, BLACK]),
    "palette red, blue": lambda p: palette(p / "m.png", DISC, [RED, BLUE]),
    "rle tiff": lambda p: save(p / "m.tif", DISC * 2, compression="packbits"),
    "upper-case ending": lambda p: save(p / "M.PNG", DISC * 2),
    "empty": lambda p: save(p / "m.png", ZERO),
    "full 255": lambda p: save(p / "m.png", ZERO + 255),
    "full 1": lambda p: save(p / "m.png", ZERO + 1),
    "full white of a palette": lambda p: palette(p / "m.png", ZERO, [WHITE, BLACK]),
    "empty black of a palette": lambda p: palette(p / "m.png", ZERO + 1, [WHITE, BLACK]),
    "soft edges": lambda p: save(
        p / "m.png", np.asarray(Image.fromarray(DISC * 255).filter(ImageFilter.GaussianBlur(0.45)))
    ),
    "JPEG": lambda p: save(p / "m.jpg", DISC * 255, quality=70),
    "JPEG RGB": lambda p: save(p / "m.jpg", rgb(*[DISC * 255] * 3), quality=70),
}


@pytest.mark.parametrize("name", BINARY)
def test_two_values_are_a_binary_mask(name: str, tmp_path: Path) -> None:
    found = read_mask(BINARY[name](tmp_path))
    expected = ZERO if name.startswith("empty") else ZERO + 1 if name.startswith("full") else DISC
    assert found.dtype == np.uint8 and np.mean(found != expected) <= (0.01 if "JPEG" in name else 0)


def test_a_mask_that_was_cut_says_so(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", np.repeat(DISC[..., None], 3, 2))
    case = read_picture_pair("a", picture, (BINARY["soft edges"](tmp_path),))
    assert case.origin["masks"].startswith("soft edges of ") and case.origin["masks"].endswith("cut at 127.5")
    assert read_picture_pair("a", picture, (BINARY["0/100"](tmp_path),)).origin.get("masks") is None


def test_a_prediction_of_one_bit_is_shown_as_its_mask(tmp_path: Path) -> None:
    """Stored as 0 and 1, as the mask is; and black and white on a screen, as the mask is."""
    picture = save(tmp_path / "a.png", np.repeat(DISC[..., None], 3, 2))
    mask = BINARY["bool"](tmp_path)
    case = read_picture_pair("a", picture, (mask,))
    values = (0, *(value for _, value in case.origin["values"]))
    made = Image.open(save_prediction(tmp_path, replace(case, values=values), Prediction(case.label), 2))
    np.testing.assert_array_equal(np.asarray(made), DISC)
    np.testing.assert_array_equal(np.asarray(made.convert("L")), np.asarray(Image.open(mask).convert("L")))
    assert read_picture_pair("a", picture, (BINARY["0/1"](tmp_path),)).origin.get("palette") is None


def objects(count: int) -> NDArray[np.uint8]:
    """Numbered squares of 4 × 4 pixels."""
    label = np.zeros((40, 48), np.uint8)
    for number in range(count):
        row, column = divmod(number, 8)
        label[1 + 6 * row : 5 + 6 * row, 1 + 6 * column : 5 + 6 * column] = number + 1
    return label


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "numbered objects": (lambda p: save(p / "m.png", objects(16)), "not a binary mask"),
    "two objects": (lambda p: save(p / "m.png", objects(2)), "not a binary mask"),
    "objects of 16 bits": (lambda p: save(p / "m.png", objects(30).astype(np.uint16) * 300), "not a binary mask"),
    "0/1/255": (lambda p: save(p / "m.png", np.where(objects(2) == 2, 255, objects(2)).astype(np.uint8)), "3 values"),
    "classes and 255": (lambda p: save(p / "m.png", np.where(objects(9) == 9, 255, objects(9)).astype(np.uint8)), ""),
    "three colours": (lambda p: save(p / "m.png", rgb(DISC * 255, DISC.T[:40, :40].repeat(2, 1)[:, :48], ZERO)), ""),
    "white and red": (lambda p: save(p / "m.png", rgb(ZERO + 255, 255 - DISC * 255, 255 - DISC * 255)), "black"),
    "alpha says the opposite": (lambda p: save(p / "m.png", rgb(*[DISC * 255] * 3, 255 - DISC * 255)), "transparency"),
    "CMYK": (lambda p: (Image.fromarray(DISC * 255).convert("CMYK").save(p / "m.tif"), p / "m.tif")[1], "CMYK"),
    "NaN": (lambda p: tiff(p / "m.tif", np.where(DISC, np.nan, 0).astype(np.float32)), "NaN"),
    "16 bit RGB": (lambda p: png(p / "m.png", np.repeat(DISC[..., None], 3, 2), 16, 2), "3 channels of 16 bits"),
    "16 bit grey with alpha": (lambda p: png(p / "m.png", np.repeat(DISC[..., None], 2, 2), 16, 4), "2 channels of 16"),
    "16 bit RGB tiff": (lambda p: tiff(p / "m.tif", np.repeat(DISC[..., None], 3, 2).astype(np.uint16), 2), "16 bits"),
    "two pages": (
        lambda p: save(p / "m.tif", DISC, save_all=True, append_images=[Image.fromarray(DISC * 0)]),
        "2 pages or frames",
    ),
    "animated": (
        lambda p: save(p / "m.png", DISC, save_all=True, append_images=[Image.fromarray(1 - DISC)]),
        "2 pages or frames",
    ),
    "a gradient": (lambda p: save(p / "m.png", np.tile(np.arange(48, dtype=np.uint8) * 5, (40, 1))), "neither black"),
    "cut": (lambda p: (save(p / "m.png", noise()), (p / "m.png").write_bytes((p / "m.png").read_bytes()[:99]))[0], ""),
    "a page of HTML": (lambda p: ((p / "m.png").write_text("<html>"), p / "m.png")[1], "cannot be read"),
    "nothing in it": (lambda p: ((p / "m.png").touch(), p / "m.png")[1], "is empty"),
    "no file": (lambda p: p / "m.png", "does not exist"),
    "a link to nowhere": (lambda p: ((p / "m.png").symlink_to("none"), p / "m.png")[1], "does not exist"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_binary_mask_is_refused(name: str, tmp_path: Path) -> None:
    write, words = REFUSED[name]
    path = write(tmp_path)
    with pytest.raises(DataError) as error:
        read_mask(path)
    assert str(path) in str(error.value).splitlines()[0] and words in str(error.value)


KINDS = (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int8, np.float32)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), data=st.data(), order=st.sampled_from("<>"))
def test_any_two_numbers(kind: Any, data: st.DataObject, order: str, tmp_path: Path) -> None:
    if kind is np.float32:
        values = st.floats(-1e6, 1e6, width=32)
    else:
        values = st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    low, high = sorted(data.draw(st.lists(values, min_size=2, max_size=2, unique=True)))
    if order == ">" and kind is np.uint32:
        order = "<"  # Pillow reads such numbers in the little order only
    mask = np.where(DISC, high, low).astype(kind)
    np.testing.assert_array_equal(read_mask(tiff(tmp_path / "m.tif", mask, order=order)), DISC)


DEEP: dict[str, Callable[[Path], Path]] = {
    "16 bit png": lambda p: save(p / "a.png", PICTURE.astype(np.uint16) * 200),
    "12 bit in 16": lambda p: save(p / "a.tif", PICTURE.astype(np.uint16) * 16),
    "16 bit, other end first": lambda p: tiff(p / "a.tif", PICTURE.astype(np.uint16) * 16, order=">"),
    "int32": lambda p: save(p / "a.tif", PICTURE.astype(np.int32) * 100),
    "float": lambda p: save(p / "a.tif", PICTURE.astype(np.float32) * 100),
    "float in 0 … 1": lambda p: save(p / "a.tif", PICTURE.astype(np.float32) / 255),
    "signed": lambda p: tiff(p / "a.tif", PICTURE.astype(np.int16) - 100),
    "signed bytes": lambda p: tiff(p / "a.tif", (PICTURE.astype(np.int16) - 128).astype(np.int8)),
    "16 bit RGB": lambda p: png(p / "a.png", COLOURS.astype(np.uint16) * 256, 16, 2),
    "five channels": lambda p: save_bands(p / "a.tif"),
    "transparent": lambda p: save(p / "a.png", np.dstack([COLOURS, PICTURE])),
    "a transparent colour": lambda p: palette(p / "a.png", PICTURE, [(i, i, i) for i in range(256)], transparency=3),
    "pages": lambda p: save(p / "a.tif", COLOURS, save_all=True, append_images=[Image.fromarray(COLOURS)]),
}


def save_bands(path: Path) -> Path:
    """A TIFF of three channels and two more that say nothing of themselves, of which Pillow reads three."""
    values = np.dstack([COLOURS, PICTURE])
    return tiff(path, values, photometric=1)


@pytest.mark.parametrize("name", DEEP)
def test_a_benchmarks_picture_is_of_8_bits_or_refused(name: str, tmp_path: Path) -> None:
    path = DEEP[name](tmp_path)
    save(tmp_path / "m.png", DISC)
    with pytest.raises(DataError) as error:
        read_picture_pair("a", path, (tmp_path / "m.png",))
    assert str(path) in str(error.value).splitlines()[0]


TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # how to show what is stored, by EXIF 2.3, table 6
    1: lambda v: v,
    2: lambda v: v[:, ::-1],
    3: lambda v: v[::-1, ::-1],
    4: lambda v: v[::-1],
    5: lambda v: v.swapaxes(0, 1),
    6: lambda v: np.rot90(v, -1),
    7: lambda v: np.rot90(v, 2).swapaxes(0, 1),
    8: lambda v: np.rot90(v),
}


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("turn", TURNS)
def test_pictures_and_masks_are_upright(turn: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = turn
    mask, smooth = DISC.copy(), np.asarray(Image.fromarray(noise()).filter(ImageFilter.GaussianBlur(4)))
    mask[:9, :20] = 1
    quality = {"quality": 95} if ending == "jpg" else {}
    picture = save(tmp_path / f"a.{ending}", smooth, exif=exif, **quality)
    np.testing.assert_allclose(read_picture(picture)[0], TURNS[turn](smooth), atol=6 if ending == "jpg" else 0)
    if ending != "jpg":
        turned = save(tmp_path / f"m.{ending}", mask * 255, exif=exif)
        case = read_picture_pair("a", picture, (turned,))
        np.testing.assert_array_equal(case.label[0], TURNS[turn](mask))
    flat = save(tmp_path / "flat.png", mask * 255)
    if turn < 5:
        np.testing.assert_array_equal(read_picture_pair("a", picture, (flat,)).label[0], mask)
    else:
        with pytest.raises(DataError, match="EXIF orientation"):
            read_picture_pair("a", picture, (flat,))
