"""Pictures and masks of every type: what is read is what numpy wrote, or the file is refused by name."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from support import twins
from support.picture_files import palette, rgb, tiff

from lomix_search.data.masks.picture_pair import read_mask, read_picture_pair
from lomix_search.data.prepare import prepare
from lomix_search.data.readers.picture_file import read_picture
from lomix_search.errors import DataError

DISC = (np.hypot(*np.ogrid[-20:20, -24:24]) < 12).astype(np.uint8)


def png(path: Path, values: NDArray[Any], bits: int, colour: int) -> Path:
    """Write a bare PNG by its specification: numbers of any depth, no filter."""
    if bits < 8:
        rows = [np.packbits(np.unpackbits(r[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for r in values]
    else:
        rows = [r.astype(f">u{bits // 8}").tobytes() for r in values]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + r for r in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path


def save(path: Path, values: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


# -- binary masks ------------------------------------------------------------------------------------------------------

ZERO = np.zeros_like(DISC)
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


def noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, DISC.shape, np.uint8)


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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


# -- pictures ----------------------------------------------------------------------------------------------------------

PICTURE = noise(1)
COLOURS = rgb(noise(2), noise(3), noise(4))
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


def test_too_many_pixels_are_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", PICTURE)
    for limit in (PICTURE.size // 3, PICTURE.size - 1):  # an error above twice the limit, a warning below
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (read_picture, read_mask):
            with pytest.raises(DataError, match="has more pixels than Pillow opens") as error:
                read(path)
            assert str(path) in str(error.value) and "crop" in str(error.value)


# -- EXIF --------------------------------------------------------------------------------------------------------------

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


# -- names -------------------------------------------------------------------------------------------------------------


def collide(raw: Path, benchmark: str) -> tuple[str, str]:
    """Give one of the benchmark's pictures a second file of the same name."""
    if benchmark == "busi":
        old = next(raw.rglob("benign (1).png"))
    elif benchmark == "isic2018":
        old = next(raw.rglob("ISIC_0000001.jpg"))
    else:
        old = next((raw / "TrainDataset" / "image").glob("1.*"))
    new = old.with_suffix(".bmp")
    Image.open(old).convert("RGB").point(lambda v: 255 - v).save(new)
    return str(old), str(new)


@pytest.mark.parametrize("benchmark", ["busi", "isic2018", "polyp"])
def test_two_files_of_one_name_are_named(benchmark: str, tmp_path: Path) -> None:
    raw = getattr(twins, f"{benchmark.removesuffix('2018')}_raw")(tmp_path / "raw")
    names = collide(raw, benchmark)
    with pytest.raises(DataError) as error:
        prepare(benchmark, raw, tmp_path / "out", size=32, progress=False)
    assert all(name in str(error.value) for name in names)


def test_folders_of_one_meaning_are_not_merged(tmp_path: Path) -> None:
    raw = twins.polyp_raw(tmp_path / "raw")
    (raw / "TrainDataset" / "images").mkdir()
    save(raw / "TrainDataset" / "images" / "0.png", rgb(noise(), noise(), noise()))
    with pytest.raises(DataError, match="one name") as error:
        prepare("polyp", raw, tmp_path / "out", size=32, progress=False)
    assert "images/0.png" in str(error.value) and "image/0.jpg" in str(error.value)


def test_names_in_either_form_of_unicode(tmp_path: Path) -> None:
    folders = tmp_path / "raw" / "images", tmp_path / "raw" / "masks"
    for folder, name in zip(folders, ("scan é 1.png", "scan e\u0301 1.PNG"), strict=True):
        folder.mkdir(parents=True)
        save(folder / name, DISC if folder.name == "masks" else rgb(PICTURE, PICTURE, PICTURE))
        (folder / f"._{name}").write_bytes(b"what macOS leaves behind")
        (folder / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    manifest = prepare("polyp", tmp_path / "raw", tmp_path / "out", size=32, progress=False)
    assert [case.name.rpartition("/")[2] for case in manifest.cases] == ["scan é 1"]
