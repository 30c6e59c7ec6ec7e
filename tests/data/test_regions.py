"""Regions: masks of class maps and back, tables with faults, and the labels that a recipe makes of prepared data."""

from typing import Any

import numpy as np
import pytest

from lomix_search.data.dataset import Slices, Splits, check_label, check_masks
from lomix_search.data.kinds.class_table import prepared_labels
from lomix_search.data.manifest import Manifest
from lomix_search.data.regions import (
    class_map,
    faults_of_order,
    pack_masks,
    painting_order,
    read_regions,
    region_masks,
    unpack_masks,
)
from lomix_search.errors import DataError

TUMOUR = {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def manifest(labels: dict[int, str], **more: Any) -> Manifest:
    content = {"version": 1, "benchmark": "own", "size": 32, "intensity": "mr", "labels": labels, "cases": ()}
    return Manifest.model_validate(content | more)


@pytest.mark.parametrize("ignore_index", [None, 4, 255, -1, 300])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int16])
def test_masks_say_of_each_pixel_what_the_table_says(kind: Any, ignore_index: int | None) -> None:
    label = np.random.default_rng(0).integers(0, 4, (3, 5, 7)).astype(kind)
    if ignore_index is not None and np.iinfo(kind).min <= ignore_index <= np.iinfo(kind).max:
        label[0, :2] = ignore_index
    masks = region_masks(label, TUMOUR, ignore_index)
    for place in np.ndindex(label.shape):
        value = int(label[place])
        expected = [ignore_index] * 3 if value == ignore_index else [int(value in of) for of in TUMOUR.values()]
        assert masks[(slice(None), *place)].tolist() == expected
    assert masks.shape == (3, *label.shape) and masks.dtype.itemsize <= 2


def test_nested_regions_come_back_as_the_very_class_map() -> None:
    label = np.random.default_rng(0).integers(0, 4, (4, 6, 6)).astype(np.uint8)
    for regions in (TUMOUR, dict(reversed(TUMOUR.items())), {"a": (2,), "b": (1,), "c": (3,)}):
        order = painting_order(regions)
        assert order is not None and np.array_equal(class_map(region_masks(label, regions), order), label)
    ring = {"outer": (1, 2), "inner": (2,), "beside": (7,)}
    assert painting_order(ring) == ((0, 1), (1, 2), (2, 7))
    assert painting_order({"a": (1, 2), "b": (2, 3)}) is None, "they cross"
    assert painting_order({"a": (1, 2, 3), "b": (3,)}) is None, "1 and 2 cannot be told apart"
    assert painting_order({"a": (1, 2), "b": (1,), "c": (2,)}) is None, "a has nothing of its own"


def test_values_that_regions_are_written_as() -> None:
    """nnU-Net's regions_class_order: painted in the order of the channels, also where no map could say it all."""
    crossing = {"a": (1, 2), "b": (2, 3)}
    assert painting_order(crossing) is None and painting_order(crossing, (1, 3)) == ((0, 1), (1, 3))
    assert class_map(np.array([[1, 1, 0], [0, 1, 1]]), ((0, 1), (1, 3))).tolist() == [1, 3, 3]
    assert faults_of_order(TUMOUR, (1, 2, 3)) == [] and faults_of_order(crossing, (2, 3)) == []
    assert faults_of_order(TUMOUR, (1, 2)) == ["2 values for 3 regions (whole tumour, core, enhancing)"]
    assert faults_of_order(TUMOUR, (1, 1, 3)) == [
        "region 'core' would be written as 1, which it does not have (2, 3)",
        "'whole tumour' and 'core' would both be written as 1",
    ]
    inside_out = dict(reversed(TUMOUR.items()))
    assert "'core' lies in 'whole tumour', which would be painted over it" in faults_of_order(inside_out, (3, 2, 1))


def test_the_datas_order_goes_with_the_datas_regions() -> None:
    labels = {1: "a", 2: "b", 4: "c"}
    data = manifest(labels, regions={"x": (1, 2), "y": (2, 4)}, written=(1, 4))
    assert prepared_labels(data, ()).written == (1, 3), "class numbers"
    assert prepared_labels(data, (), {"x": (1, 2), "z": (4,)}).written == ()
    assert prepared_labels(data, (), {"x": (1, 2), "z": (4,)}, written=(2, 4)).written == (2, 3)
    with pytest.raises(DataError, match=r"data.written = \[1\]: 1 values for 2 regions"):
        prepared_labels(data, (), written=(1,))
    with pytest.raises(DataError, match="data.written goes with data.regions"):
        prepared_labels(data, ("a",), {}, written=(1,))


def test_a_smaller_region_wins_where_a_network_puts_it_outside_of_the_larger() -> None:
    masks = np.zeros((3, 1, 2), np.uint8)
    masks[2, 0, 1] = 1
    assert class_map(masks, painting_order(TUMOUR) or ()).tolist() == [[0, 3]]


@pytest.mark.parametrize("ignore_index", [None, 255])
def test_masks_that_are_packed_come_back(ignore_index: int | None) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (5, 3, 4)).astype(np.uint8)
    if ignore_index is not None:
        masks[:, 0] = ignore_index
    packed = pack_masks(masks, ignore_index)
    assert packed.shape == (3, 4) and np.array_equal(unpack_masks(packed, 5, ignore_index), masks)
    assert np.array_equal(packed.astype(np.float32).astype(np.int64), packed)
    with pytest.raises(DataError, match="24 overlapping masks cannot be augmented here; at most 23 can"):
        pack_masks(np.zeros((24, 2, 2), np.uint8))


def test_all_faults_of_a_table_are_told_at_once() -> None:
    given = {"a": [], "b ": [1, "x", 0], "b": [2, 2], "c": ["core"], "d": [9], "e": [4], "": ["background"]}
    with pytest.raises(DataError) as error:
        read_regions(given, {1: "edema", 2: "core", 4: "unsure"}, 4)
    assert str(error.value) == (
        "data.regions has 10 faults.\n"
        "  two regions are named 'b'; each needs a name of its own.\n"
        "  a region has no name.\n"
        "  'a': it is empty; it needs a class at least.\n"
        "  'b ': no label 'x'. Known: 1, 2, 4, core, edema, unsure.\n"
        "  'b ': it holds the background, which is what lies outside of all regions.\n"
        "  'b': it holds 2 twice.\n"
        "  'd': no label 9. Known: 1, 2, 4, core, edema, unsure.\n"
        "  'e': it holds 4, whose pixels count nowhere.\n"
        "  '': it holds the background, which is what lies outside of all regions.\n"
        "  'c' and 'b' hold the same labels; they are one region.\n"
        "  Seen: labels 1 (edema), 2 (core), 4 (unsure)\n"
        "  Try:  [data.regions]\n"
        '        "whole tumour" = [1, 2, 3]   # label values, or names of classes'
    )
    with pytest.raises(DataError, match="it names no region"):
        read_regions({}, {1: "edema"})
    assert read_regions({"x": ["edema", 2]}, {1: "edema", 2: "core"}) == {"x": (1, 2)}


def test_raw_values_become_class_numbers_and_regions_of_them() -> None:
    """As BraTS had them until 2022: 1, 2 and 4."""
    known = manifest({1: "necrosis", 2: "edema", 4: "enhancing"}, ignore=7)
    labels = prepared_labels(known, (), {"whole": [1, "edema", 4], "core": ["necrosis", 4], "enhancing": [4]})
    assert labels.classes == ("whole", "core", "enhancing") and labels.num_classes == 4 and labels.ignore_index == 7
    assert labels.regions == {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}
    raw = np.array([0, 1, 2, 4, 7], np.uint8)
    assert labels.table[raw].tolist() == [0, 1, 2, 3, 7]
    masks = region_masks(labels.table[raw], labels.regions, labels.ignore_index)
    assert masks.tolist() == [[0, 1, 1, 1, 7], [0, 1, 0, 1, 7], [0, 0, 0, 1, 7]]
    assert [sorted(labels.numbers(value)) for value in (0, 1, 2, 4, 7)] == [[0], [1, 2], [1], [1, 2, 3], []]


def test_what_is_ignored_among_regions() -> None:
    known = manifest({1: "edema", 2: "core", 3: "unsure"})
    table = {"whole": ["edema", "core"], "core": [2]}
    assert prepared_labels(known, (), table, None, 7).ignore_index == 7
    assert prepared_labels(known, (), table, "unsure").ignore_index == 3
    assert prepared_labels(known, (), table, None, -100).ignore_index == -100
    assert prepared_labels(known, (), table, -5).table[np.array([0, 1, 2], np.uint8)].tolist() == [0, 1, 2]
    assert prepared_labels(known, (), table, -5).table[np.array([65531], np.uint16)].tolist() == [0]
    with pytest.raises(DataError, match="'x': it holds 'unsure', whose pixels count nowhere"):
        prepared_labels(known, (), {"x": ["unsure", 1]}, 3)


def test_regions_of_the_data_are_taken_where_the_recipe_names_none() -> None:
    known = manifest({}, regions={"whole": (1, 2), "core": (2,)})
    assert prepared_labels(known, ()).regions == {"whole": (1, 2), "core": (2,)}
    named = manifest({1: "edema", 2: "core"}, regions={"whole": (1, 2), "core": (2,)})
    with pytest.raises(DataError, match="the recipe names classes and the prepared data name regions that overlap"):
        prepared_labels(named, ("edema",))
    assert prepared_labels(named, ("edema",), {}).classes == ("background", "edema")
    with pytest.raises(DataError, match=r"data\.classes and data\.regions are both given"):
        prepared_labels(named, ("edema",), {"x": [1]})
    with pytest.raises(DataError, match=r"data\.classes is missing") as error:
        prepared_labels(manifest({1: "edema"}), ())
    assert 'data.classes = ["edema"]' in str(error.value)


@pytest.mark.parametrize(
    ("of_data", "of_recipe", "of_loss", "index"),
    [
        (None, None, None, None),
        (9, None, None, 9),
        (9, None, 9, 9),
        (9, 7, None, 7),
        (None, "unsure", None, 3),
        (1, None, None, 255),  # would be the number of a class
        (1, None, 255, 255),
        (None, None, 9, 9),
    ],
)
def test_one_rule_leads_from_the_ignored_label_to_the_loss(
    of_data: int | None, of_recipe: Any, of_loss: int | None, index: int | None
) -> None:
    known = manifest({1: "scar", 2: "liver", 3: "unsure"}, ignore=of_data)
    labels = prepared_labels(known, ("liver",), None, of_recipe, of_loss)
    assert labels.ignore_index == index
    raw = {9: 9, 7: 7, 3: 3, 255: 1}.get(index or 0)
    assert labels.table[np.array([0, 2, raw or 0])].tolist() == [0, 1, index or 0]


def test_two_ignored_labels_are_both_named() -> None:
    known = manifest({1: "liver"}, ignore=3)
    with pytest.raises(DataError) as error:
        prepared_labels(known, ("liver",), ignore_index=255)
    assert str(error.value) == (
        "pixels that count nowhere have label 3 in the data and 255 in loss.ignore_index; the first is kept.\n"
        "  Seen: data.ignore = 3 (of the recipe, or of the data themselves), loss.ignore_index = 255\n"
        "  Try:  data.ignore=3 loss.ignore_index=   # the second left out: the first says it"
    )
    with pytest.raises(DataError, match=r"label 1 is 'liver' in data\.classes; data\.ignore leaves it out"):
        prepared_labels(manifest({1: "liver"}, ignore=1), ("liver",))
    with pytest.raises(DataError, match=r"data\.ignore: the prepared data have no label 'livre'. Nearest: \"liver\""):
        prepared_labels(known, ("liver",), ignore="livre")


def slices(**options: Any) -> Slices:
    label = np.random.default_rng(0).integers(0, 4, (4, 8, 8))
    return Slices(np.zeros((4, 1, 8, 8), np.float32), label, list("abcd"), num_classes=4, **options)


def test_items_hold_masks_and_augmentation_moves_class_numbers() -> None:
    seen = []

    def flip(image: Any, label: Any) -> Any:
        seen.append(label.shape)
        return image.flip(-1), label.flip(-1)

    plain, flipped = slices(regions=TUMOUR), slices(regions=TUMOUR, augment=flip)
    assert plain[1][1].shape == (3, 8, 8) and plain.multilabel
    assert np.array_equal(plain[1][1], region_masks(plain.labels[1], TUMOUR))
    assert flipped[1][1].equal(plain[1][1].flip(-1)) and seen == [(8, 8)]
    masks = np.stack([region_masks(label, TUMOUR) for label in plain.labels])
    own = Slices(plain.images, masks, list("abcd"), num_classes=3, multilabel=True, augment=flip)
    assert own[1][1].equal(flipped[1][1])


def test_splits_of_regions() -> None:
    one = slices()
    classes = ("background", "edema", "necrosis", "enhancing")
    splits = Splits(one, one, one, classes, 1)
    made = splits.with_regions({"whole": ["edema", "necrosis", 3], "core": ["necrosis", 3]})
    assert made.multilabel and made.classes == ("whole", "core") and made.train[0][1].shape == (2, 8, 8)
    assert not splits.multilabel and one[0][1].shape == (8, 8), "the data as they were are left alone"
    with pytest.raises(DataError, match=r"no label 'tumour'"):
        splits.with_regions({"whole": ["tumour"]})
    with pytest.raises(DataError, match="some sets have one class a pixel, others masks"):
        Splits(made.train, one, one, ("whole", "core"), 1, regions=made.regions)
    with pytest.raises(DataError, match="label 1 cannot be ignored: masks of regions are 0 outside and 1 inside"):
        Splits(one, one, one, classes, 1, ignore_index=1).with_regions({"core": [2]})
    with pytest.raises(DataError, match="classes and regions have different names"):
        Splits(made.train, made.val, made.test, classes, 1, regions=made.regions)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.full((2, 2, 2), 255), "hint masks hold 255; 1 is inside a region and 0 outside"),
        (np.full((2, 2, 2), 3), "masks hold 3; 1 is inside a region and 0 outside"),
        (np.zeros((3, 2, 2)), "the label has 3 masks; there are 2 regions"),
        (np.array([[[9, 1]], [[9, 9]]]), "some pixels hold 9, which counts nowhere, in a part of the masks only"),
        (np.full((2, 2, 2), 0.5), "class numbers must be integers"),
    ],
)
def test_masks_that_are_none_are_refused(masks: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        check_masks(masks, 2, "p.png", 9)
    assert message.removeprefix("hint ") in str(error.value) and str(error.value).startswith("p.png: ")
    assert ("masks == 255" in str(error.value)) == message.startswith("hint ")


@pytest.mark.parametrize(
    ("values", "classes", "hints"),
    [
        ([0, 255], 2, ["label = (label == 255)", "loss.ignore_index=255"]),
        ([0, 1, 255], 2, ["loss.ignore_index=255"]),
        ([0, 3], 2, ["label = (label == 3)", "4 classes"]),
        ([0, 1, 2], 2, ["3 classes"]),
        ([0, 1, 7, 255], 3, ["8 classes", "loss.ignore_index=255"]),
        ([0, 1, 2, -1], 3, ["loss.ignore_index=-1"]),
        ([0, 128, 255], 2, ["129 classes", "loss.ignore_index=255"]),
    ],
)
def test_no_hint_loses_what_somebody_drew(values: list[int], classes: int, hints: list[str]) -> None:
    with pytest.raises(DataError) as error:
        check_label(np.array(values), classes, "p.png")
    lines = str(error.value).partition("Try:  ")[2].splitlines()
    assert [line.strip() for line in lines] == [line for line in map(str.strip, lines) if any(h in line for h in hints)]
    assert len(lines) == len(hints)
