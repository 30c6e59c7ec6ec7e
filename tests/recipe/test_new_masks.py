"""``lomix new`` on pictures of every kind: it says, writes and prepares what numpy wrote, or refuses it by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from support.mask_files import Write, blocks, data, make, objects, save8, save16
from support.picture_files import palette, rgb, tiff

from lomix_search.cli.common import app
from lomix_search.data.manifest import read_manifest
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.mask_file import open_mask
from lomix_search.data.readers.image import read_image
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.prediction_files import save_prediction
from lomix_search.experiments.run_data import data_of
from lomix_search.recipe.own_data import look_at
from lomix_search.recipe.recipe import load_recipe

RNG = np.random.default_rng(0)


def fault(*args: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        look_at(*args, **options)
    return str(error.value)


def channel(number: int) -> Write:
    def write(path: Path, mask: NDArray[Any]) -> None:
        parts = [np.zeros(mask.shape, np.uint8)] * 3
        parts[number] = mask.astype(np.uint8)
        Image.fromarray(rgb(*parts)).save(path)

    return write


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)] + [(9, 9, 9)] * 251
KEPT: dict[str, tuple[list[int], Write, str]] = {
    "classes": ([3, 9, 4], save8, "png"),
    "sparse": (list(range(41, 51)), save8, "png"),
    "thirds": ([128, 255], save8, "bmp"),
    "above 255": ([1, 260, 516, 65535], save16, "png"),
    "above 255 in TIFF": ([256, 257], save16, "tif"),
    "int32": ([1, 1000, 60000], lambda p, m: tiff(p, m.astype(np.int32)), "tif"),
    "floats": ([1, 2, 300], lambda p, m: tiff(p, m.astype(np.float32), order=">"), "tif"),
    "grey RGB": ([1, 2, 3], lambda p, m: Image.fromarray(rgb(m, m, m)).save(p), "png"),
    "red": ([1, 2, 3], channel(0), "png"),
    "green": ([10, 20], channel(1), "png"),
    "a palette's index": ([1, 2, 4], lambda p, m: palette(p, m.astype(np.uint8), VOC), "png"),
    "a grey palette in order": (
        [1, 2, 3],
        lambda p, m: palette(p, m.astype(np.uint8), [(i * 85,) * 3 for i in range(4)]),
        "png",
    ),
    "a grey palette out of order": (
        [50, 100, 200],
        lambda p, m: palette(p, 255 - m.astype(np.uint8), [(255 - i,) * 3 for i in range(256)]),
        "png",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_class_numbers_are_kept(name: str, tmp_path: Path) -> None:
    values, write, ending = KEPT[name]
    masks = [blocks(values, seed) for seed in range(3)]
    labels = make(tmp_path, *data(tmp_path, masks, write, ending))
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(labels[f"c{i}"], mask)
    manifest = read_manifest(tmp_path / "r" / "data")
    assert manifest.labels == {v: f"class {v}" for v in sorted(values)}
    assert {v for case in manifest.cases for v in case.labels} == {0, *values}


BINARY: dict[str, tuple[list[NDArray[Any]], Write, str, list[int]]] = {
    "0/100": ([blocks([100], s) for s in range(3)], save8, "png", [100]),
    "0/1": ([blocks([1], s) for s in range(3)], save8, "png", [1]),
    "1/2": ([blocks([1], s) + 1 for s in range(3)], save8, "png", [2]),
    "one is empty, one is full": ([blocks([255]), blocks([0]), blocks([0]) + 255], save8, "png", [255]),
    "swapped palette": (
        [blocks([1], s) for s in range(3)],
        lambda p, m: palette(p, 1 - m.astype(np.uint8), [(255,) * 3, (0,) * 3]),
        "png",
        [255],
    ),
    "JPEG of two values": ([np.kron(RNG.integers(0, 2, (5, 6)) * 255, np.ones((8, 8), int))] * 3, save8, "jpg", [255]),
    "half of 1": ([blocks([1], s) for s in range(3)], lambda p, m: tiff(p, m.astype(np.float32) / 2), "tif", [1]),
    "a colour": (
        [blocks([1], s) for s in range(3)],
        lambda p, m: Image.fromarray(rgb(m * 9, m * 70, m)).save(p),
        "png",
        [1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_two_values_in_all_masks_are_binary(name: str, tmp_path: Path) -> None:
    masks, write, ending, wanted = BINARY[name]
    labels = make(tmp_path, *data(tmp_path, masks, write, ending))
    low = min(mask.min() for mask in masks)
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(labels[f"c{i}"], np.where(mask > low, wanted[0], 0))
    manifest = read_manifest(tmp_path / "r" / "data")
    assert manifest.labels == {wanted[0]: "foreground"}
    assert load_recipe(tmp_path / "r" / "recipe.toml").data.settings["classes"] == ["foreground"]
    assert [case.origin.get("values") for case in manifest.cases] == [[[0, 1]] if low else None] * len(masks)


def test_masks_of_one_bit_are_black_and_white(tmp_path: Path) -> None:
    masks = [blocks([1], seed) for seed in range(3)]
    found = data(tmp_path, masks, lambda p, m: Image.fromarray(m.astype(bool)).save(p))
    labels = make(tmp_path, *found)
    np.testing.assert_array_equal(labels["c1"], masks[1])
    manifest = read_manifest(tmp_path / "r" / "data")
    assert all(case.origin["palette"] == [[0, 0], [1, 0xFFFFFF]] for case in manifest.cases)


def test_colours_are_classes(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (0, 0, 255), (0, 200, 0), (255, 0, 0)], np.uint8)
    masks = [blocks([1, 2, 3]), blocks([3]), blocks([2, 1])]
    found = data(tmp_path, masks, lambda p, m: Image.fromarray(colours[m]).save(p))
    labels = make(tmp_path, *found)
    for i, mask in enumerate(masks):  # a mask of red alone is red, though it has one channel
        np.testing.assert_array_equal(labels[f"c{i}"], mask)
    assert read_manifest(tmp_path / "r" / "data").labels == {1: "#0000ff", 2: "#00c800", 3: "#ff0000"}
    save8(found[1] / "c1.png", blocks([3]))
    assert f"{found[1]}/c1.png: 1 of 3 masks hold numbers and the others colours." in fault(*found)
    Image.fromarray(np.where(blocks([1])[..., None], [255, 0, 0], 255).astype(np.uint8)).save(found[1] / "c1.png")
    Image.fromarray(np.where(blocks([1])[..., None], [255, 0, 0], 255).astype(np.uint8)).save(found[1] / "c0.png")
    Image.fromarray(np.where(blocks([1])[..., None], [255, 0, 0], 255).astype(np.uint8)).save(found[1] / "c2.png")
    assert "no pixel of any mask is black" in fault(*found)


def test_a_palette_of_its_own_in_every_file(tmp_path: Path) -> None:
    """What ``quantize`` writes: index 1 is another colour in each file, so colours count."""
    tables = [[(0, 0, 0), (255, 0, 0), (0, 0, 255)], [(0, 0, 0), (0, 0, 255), (255, 0, 0)]]
    mask = blocks([1, 2])
    found = data(tmp_path, [mask, mask], save8)
    palette(found[1] / "c0.png", mask.astype(np.uint8), tables[0])
    palette(found[1] / "c1.png", mask.astype(np.uint8), tables[1])
    labels = make(tmp_path, *found)
    np.testing.assert_array_equal(labels["c1"], mask)  # blue is 1, red is 2
    np.testing.assert_array_equal(labels["c0"], np.array([0, 2, 1])[mask])


def soft(mask: NDArray[Any]) -> NDArray[np.uint8]:
    big = Image.fromarray((mask > 0).astype(np.uint8) * 255)
    return np.asarray(big.resize((mask.shape[1] * 2, mask.shape[0] * 2), Image.Resampling.BICUBIC))


NO_CLASSES: dict[str, tuple[list[NDArray[Any]], Write, str, str]] = {
    "soft edges": ([blocks([255]), blocks([255], 1), soft(blocks([1]))], save8, "c2.png", "at edges"),
    "made smaller": (
        [np.asarray(Image.fromarray(np.pad(blocks([254]), 1).astype(np.uint8)).resize((25, 21), Image.Resampling.BOX))],
        save8, "c0.png", "at edges",
    ),
    "JPEG": (
        [blocks([255]), blocks([255], 1)],
        lambda p, m: Image.fromarray(m.astype(np.uint8)).filter(ImageFilter.BoxBlur(1)).save(p, "JPEG"),
        "c0.png", "JPEG, which changes values",
    ),
    "0/1 and 0/255": ([blocks([255]), blocks([1]), blocks([255], 1)], save8, "c0.png", "255 beside class numbers"),
    "0/1/255 in one": ([blocks([1, 255]), blocks([1])], save8, "c0.png", "3 values"),
    "VOC's border": ([blocks([1, 2, 3, 255]), blocks([1])], save8, "c0.png", "leave out"),
    "objects": ([objects(12), objects(5), objects(9)], save8, "c0.png", "objects, not classes"),
    "objects by other numbers": ([objects(9) * 7, objects(8) * 11, objects(8) * 13], save8, "c0.png", "objects, not"),
    "VOC's border beside one class": ([blocks([5, 255]), blocks([5])], save8, "c0.png", "leave out"),
    "many objects": ([RNG.permutation(100)[:, None].repeat(99, 1).repeat(2, 0)] * 2, save16, "c0.png", "more than 64"),
    "above 65535": ([blocks([1, 70000]), blocks([1])], lambda p, m: tiff(p, m.astype(np.int32)), "c0.png", "whole"),
    "negative": ([blocks([1, -3]), blocks([1])], lambda p, m: tiff(p, m.astype(np.int16)), "c0.png", "whole numbers"),
    "fractions": ([blocks([1, 3]), blocks([1])], lambda p, m: tiff(p, m.astype(np.float32) / 2), "c0.png", "whole"),
    "all over": ([blocks([0]) + 255] * 2, save8, "c0.png", "no background"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CLASSES)
def test_values_that_cannot_be_classes_are_refused(name: str, tmp_path: Path) -> None:
    masks, write, first, words = NO_CLASSES[name]
    text = fault(*data(tmp_path, masks, write))
    assert text.startswith(f"{tmp_path}/masks/{first}: ") and words in text, text
    assert name == "all over" or "--binary" in text


def test_they_are_read_as_one_foreground_if_asked(tmp_path: Path) -> None:
    edges = [soft(blocks([1], s)) for s in range(3)]
    labels = make(tmp_path / "soft", *data(tmp_path / "soft", edges, save8), binary=True)
    for i, mask in enumerate(edges):
        np.testing.assert_array_equal(labels[f"c{i}"], np.where(mask > 127.5, 255, 0))
    assert "cut at 127.5" in (tmp_path / "soft" / "r" / "recipe.toml").read_text()
    counted = [objects(12), objects(5), blocks([0])]
    labels = make(tmp_path / "objects", *data(tmp_path / "objects", counted, save8), binary=True)
    for i, mask in enumerate(counted):
        np.testing.assert_array_equal(labels[f"c{i}"], mask > 0)


def test_or_as_classes_if_all_are_named(tmp_path: Path) -> None:
    found = data(tmp_path, [blocks([1, 255]), blocks([1])], save8)
    look = look_at(*found, named=2)
    assert look.labels == (1, 255)
    labels = make(tmp_path, *found, classes=["cell", "border"])
    np.testing.assert_array_equal(labels["c0"], blocks([1, 255]))


def test_classes_that_few_masks_have_are_classes(tmp_path: Path) -> None:
    masks = [blocks([41 + i]) for i in range(10)] + [blocks([41, 45, 50])]
    assert look_at(*data(tmp_path / "one", masks, save8)).labels == tuple(range(41, 51))
    masks = [blocks(list(range(41, 46))), blocks(list(range(46, 51)))]
    assert look_at(*data(tmp_path / "five", masks, save8)).labels == tuple(range(41, 51))
    masks = [blocks([1, 2, 3]), blocks([1, 2]), blocks([1]), blocks([0])]  # one inside another, as parts of a tumour
    assert look_at(*data(tmp_path / "nested", masks, save8)).labels == (1, 2, 3)


def test_a_thin_class_beside_solid_ones_is_a_class(tmp_path: Path) -> None:
    """A ring of two pixels around a disc, as myocardium around a ventricle."""
    far = np.hypot(*np.ogrid[-20:20, -24:24])
    ring = np.where(far < 8, 2, np.where(far < 10, 1, 0))
    assert look_at(*data(tmp_path, [ring, ring.T[:40, :40]], save8)).labels == (1, 2)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.integers(1, 65535), min_size=2, max_size=8, unique=True),
    kind=st.sampled_from([np.uint16, np.int32, np.float32]),
    order=st.sampled_from("<>"),
)
def test_any_class_numbers_of_any_type(values: list[int], kind: Any, order: str, tmp_path: Path) -> None:
    mask = blocks(values)
    file = open_mask(tiff(tmp_path / "m.tif", mask.astype(kind), order=order))
    coding = decide([file.look()], named=len(values))
    np.testing.assert_array_equal(coding.read(file), mask)
    assert list(coding.names) == sorted(values)


def test_what_it_says_is_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = data(tmp_path, [blocks([1, 7]), blocks([7], 1), blocks([7], 2)], save8)
    with pytest.raises(SystemExit) as stop:
        app(["new", str(tmp_path / "r"), "--images", str(found[0]), "--masks", str(found[1])])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "3 pictures of 8 bit, 40 × 48 pixels; 0 … 255 become 0 … 1",
        "masks: 0 background, classes 1, 7",
        "of 3 masks: 1 class 1 in 1, 7 class 7 in 3",
    ):
        assert words in said and words in (tmp_path / "r" / "recipe.toml").read_text()


FORMS: dict[str, tuple[list[int], Write]] = {
    "palette": ([1, 2, 4], lambda p, m: palette(p, m.astype(np.uint8), VOC)),
    "two indices of a palette": ([3], lambda p, m: palette(p, m.astype(np.uint8), VOC)),
    "one channel": ([80, 160, 255], channel(0)),
    "one colour": ([1], lambda p, m: Image.fromarray(np.array([(0, 0, 0), (0, 255, 0)], np.uint8)[m]).save(p)),
}


@pytest.mark.parametrize("name", FORMS)
def test_predictions_look_like_the_masks(name: str, tmp_path: Path) -> None:
    """Those of ``evaluate`` and of ``predict`` alike: the truth, written as a prediction, is the very mask."""
    values, write = FORMS[name]
    images, masks = data(tmp_path, [blocks(values, seed) for seed in range(6)], write)
    make(tmp_path, images, masks)
    recipe = load_recipe(tmp_path / "r" / "recipe.toml")
    splits = recipe.build_data()
    case = splits.volumes["test"][0]
    form = data_of(recipe, splits).form
    assert form is not None
    new = form.prepare(read_image(images / f"{case.name}.png"), case.name, [images / f"{case.name}.png"])
    for folder, one in (("evaluate", case), ("predict", new)):
        path = save_prediction(tmp_path / folder, one, Prediction(case.label), len(splits.classes))
        with Image.open(path) as made, Image.open(masks / f"{case.name}.png") as raw:
            assert made.mode == raw.mode
            np.testing.assert_array_equal(np.asarray(made), np.asarray(raw))
            np.testing.assert_array_equal(np.asarray(made.convert("RGB")), np.asarray(raw.convert("RGB")))
