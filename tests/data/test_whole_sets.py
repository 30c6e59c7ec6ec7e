"""What a prepared folder holds is what was written to it; what is odd about a data set is told by name."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support import twins
from support.commands import failing
from support.preparing import go, settings
from torch.utils.data import DataLoader

from lomix_search.data import manifest as manifests
from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.intensities import scale_intensities
from lomix_search.data.kinds import prepared, prepared_arrays
from lomix_search.data.manifest import read_manifest, verify
from lomix_search.data.prepare import prepare_layout
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.errors import DataError, MissingExtraError
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

CUBE = np.zeros((3, 1, 32, 32), np.float32)


def cases(**made: Case | Callable[[], Case]) -> DatasetLayout:
    """A layout of cases that are at hand; their files are empty of meaning."""

    def find(raw: Path) -> list[Source]:
        raw.mkdir(exist_ok=True)
        for name in made:
            (raw / f"{name.replace('/', '_')}.raw").write_text(name)
        return [
            Source(
                name, name, "", (raw / f"{name.replace('/', '_')}.raw",), case if callable(case) else lambda c=case: c
            )
            for name, case in made.items()
        ]

    return DatasetLayout("own", find, {1: "one", 2: "two"}, "mr", 32)


def case(seed: int, boxes: tuple[int, ...] = (1, 2), image: Any = None) -> Case:
    rng, label = np.random.default_rng(seed), np.zeros((3, 32, 32), np.uint8)
    for value in boxes:
        y, x = rng.integers(2, 20, 2)
        label[:, y : y + 4 + value, x : x + 7] = value
    noise = rng.normal(50, 9, (3, 1, 32, 32)) if image is None else image
    return Case(f"case{seed}", noise.astype(np.float32), label, (2.0, 1.0, 1.0))


def written(tmp_path: Path, **made: Any) -> Path:
    prepare_layout(cases(**made), tmp_path / "raw", tmp_path / "out", progress=False, workers=2)
    return tmp_path / "out"


def flip(path: Path, place: int = -1) -> None:
    """Turn one bit of a file, and leave its times as they were."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


TEN = {f"c{i}": case(i) for i in range(10)}


# -- checksums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["image_32.npy", "label_32.npy", "image.npy", "label.npy"])
@pytest.mark.parametrize("how", ["bit", "header", "cut", "replaced", "missing"])
def test_a_damaged_array_is_named_when_it_is_read(file: str, how: str, tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    splits = prepared.load_prepared(settings(out, ("one", "two")))
    path = out / "cases" / splits.test.case(0) / file
    if how in ("bit", "header"):
        flip(path, -1 if how == "bit" else 60)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "replaced":
        np.save(path, np.load(path) * 0)
    else:
        path.unlink()
    with pytest.raises(DataError) as error:
        [splits.test[i] for i in range(3)] if "_32" in file else list(splits.volumes["test"])
    assert str(path) in str(error.value) and "prepare again" in str(error.value)
    assert len(verify(out)) == 1 and str(path) in verify(out)[0]
    (again,) = [e for e in go_again(tmp_path).cases if e.name == splits.test.case(0)]
    assert verify(out) == [] and again == {e.name: e for e in read_manifest(out).cases}[again.name]
    splits.test[0], list(splits.volumes["test"])


def go_again(tmp_path: Path) -> Any:
    return prepare_layout(cases(**TEN), tmp_path / "raw", tmp_path / "out", progress=False, workers=2)


def test_a_damaged_array_is_named_by_a_worker(tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    train = prepared.load_prepared(settings(out, ("one", "two"))).train
    flip(out / "cases" / train.case(0) / "image_32.npy")
    loader = DataLoader(train, batch_size=3, num_workers=1, multiprocessing_context=multiprocessing.get_context("fork"))
    with pytest.raises(DataError, match=r"image_32\.npy was changed or damaged after it was prepared"):
        list(loader)


def test_each_file_is_hashed_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, hashed = prepared.load_prepared(settings(written(tmp_path, **TEN), ("one", "two"))).train, []
    hash_file = manifests.sha256
    monkeypatch.setattr(manifests, "sha256", lambda path: hashed.append(path) or hash_file(path))
    for _ in range(3):
        prepared_arrays._mapped.cache_clear()  # also where more files are used than stay open
        _ = [train[i] for i in range(len(train))]
    assert len(hashed) == len(set(hashed)) == 2 * len(set(train.cases))


def test_data_prepared_again_in_the_same_process_are_read_anew(tmp_path: Path) -> None:
    """Not from the memory map of what was there before."""
    out = written(tmp_path, **TEN)
    first = prepared.load_prepared(settings(out, ("one", "two")))
    before = {case.name: case.image for case in first.volumes["val"]}
    shutil.rmtree(out / "cases")
    layout = cases(**{name: case(50 + i) for i, name in enumerate(TEN)})
    prepare_layout(layout, tmp_path / "raw", out, progress=False)
    for one in prepared.load_prepared(settings(out, ("one", "two"))).volumes["val"]:
        assert not np.array_equal(one.image, before[one.name])
        np.testing.assert_array_equal(one.image, np.load(out / "cases" / one.name / "image.npy").astype(np.float32))
    with pytest.raises(DataError, match="was prepared anew after this data set was opened"):
        list(first.volumes["val"])


def test_fingerprint_is_of_the_data_alone(tmp_path: Path) -> None:
    first = read_manifest(written(tmp_path, **TEN))
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    moved = read_manifest(tmp_path / "elsewhere")
    assert moved.fingerprint == first.fingerprint == read_manifest(written(tmp_path, **TEN)).fingerprint
    fewer = first.model_copy(update={"cases": first.cases[:-1]})
    entry = first.cases[0]
    others = [{"patient": "x"}, {"files": {**entry.files, "label.npy": "0"}}, {"spacing": (1.0, 1.0, 1.0)}]
    changed = [first.model_copy(update={"cases": (entry.model_copy(update=o), *first.cases[1:])}) for o in others]
    renamed = first.model_copy(update={"labels": {1: "two", 2: "one"}})
    prints = {m.fingerprint for m in (first, fewer, renamed, *changed)}
    assert len(prints) == 6
    untouched = first.model_copy(
        update={"cases": (entry.model_copy(update={"reading": "", "sources": {}}), *first.cases[1:])}
    )
    assert untouched.fingerprint == first.fingerprint


def test_folders_of_earlier_versions_still_open(tmp_path: Path) -> None:
    """Without the readers' version, and without checksums: they are read, and `validate` says what is not known."""
    out = written(tmp_path, **TEN)
    path = out / "manifest.json"
    content = json.loads(path.read_text())
    for number, entry in enumerate(content["cases"]):
        del entry["reading"]
        if number < 2:
            entry["files"] = {}
    path.write_text(json.dumps(content))
    splits = prepared.load_prepared(settings(out, ("one", "two")))
    assert len([splits.train[i] for i in range(len(splits.train))]) == 24 and len(list(splits.volumes["test"])) == 1
    found = validated(out, tmp_path)
    assert "c0, c1: no checksum of the arrays is on file; a damaged file would not be noticed." in found.warnings
    assert any(w.startswith("c0, c1, c2, c3, c4 and 5 more: prepared by an earlier version") for w in found.warnings)
    assert found.faults == ()


EVIL = ["../outside", "/tmp/outside", "a/../../b", "", ".", "a//b", "a\\b", "a\nb", ".unfinished.x", "a/"]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    content = json.loads((out / "manifest.json").read_text())
    content["cases"][0]["name"] = name
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is no name of a case"):
        read_manifest(out)
    with pytest.raises(DataError, match="cannot be told apart by their names"):
        written(tmp_path / "2", **{name: case(0)}) if (tmp_path / "2").mkdir() is None else None
    assert not (tmp_path / "outside").exists()


def test_a_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    content = json.loads((out / "manifest.json").read_text())
    content["cases"][0]["files"]["../../../x"] = "0"
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is no name of a case"):
        read_manifest(out)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "[]", "null", '{"version": 1}', "\xff"])
def test_a_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_manifest_with_a_case_twice_is_refused(tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    content = json.loads((out / "manifest.json").read_text())
    content["cases"].append(content["cases"][3])
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="c3 is there twice"):
        read_manifest(out)


def test_a_manifest_that_claims_more_slices_than_there_are(tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    content = json.loads((out / "manifest.json").read_text())
    for entry in content["cases"]:
        entry["shape"][0] = 10**12
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json says 1000000000000 slices"):
        prepared.load_prepared(settings(out, ("one", "two")))


# -- preparing again ---------------------------------------------------------------------------------------------------


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    raw, out = twins.isic_raw(tmp_path / "raw"), tmp_path / "out"
    go("isic2018", raw, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}
    flip(out / "cases" / "ISIC_0000001" / "image.npy")
    (out / "cases" / "ISIC_0000002" / "case.json").write_text("{")
    path = out / "cases" / "ISIC_0000004" / "case.json"
    path.write_text(path.read_text().replace('"reading": "2', '"reading": "1'))
    Image.new("L", (50, 36), 255).save(next(raw.rglob("ISIC_0000003_segmentation.png")))
    go("isic2018", raw, out)
    changed = {p.parent.name for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert changed == {f"ISIC_000000{n}" for n in (1, 2, 3, 4)} and verify(out) == []


def test_another_patient_or_reading_is_noticed(tmp_path: Path) -> None:
    def layout(patient: str, reading: str, value: int) -> DatasetLayout:
        made = case(0)
        label = np.where(made.label > 0, value, 0).astype(np.uint8)
        source = Source("a", patient, "", (tmp_path / "a.raw",), lambda: Case("a", made.image, label), reading)
        return DatasetLayout("own", lambda raw: [source], {1: "one", 2: "two"}, "mr", 32)

    (tmp_path / "a.raw").write_text("a")
    for patient, reading, value in (("p", "", 1), ("q", "", 1), ("q", "masks as classes", 2)):
        made = prepare_layout(layout(patient, reading, value), tmp_path, tmp_path / "out", progress=False)
        (entry,) = made.cases
        assert entry.patient == patient and set(entry.labels) == {0, value}


@pytest.mark.parametrize(
    "error", [ValueError("odd"), IndexError("3"), MemoryError("35 TiB"), TypeError("no"), OSError("io")]
)
def test_whatever_one_case_does_the_others_are_kept(error: Exception, tmp_path: Path) -> None:
    def bad() -> Case:
        raise error

    with pytest.raises(DataError) as told:
        written(tmp_path, a=case(1), b=bad, c=case(2), d=lambda: case(3, (1, 5)))
    lines = str(told.value).splitlines()
    assert lines[0] == f"prepare own: 2 of 4 cases failed; the other 2 are kept in {tmp_path}/out."
    assert any(f"b ({tmp_path}/raw/b.raw) cannot be prepared." in line for line in lines)
    assert any(f"{type(error).__name__}: {error}" in line for line in lines)
    assert any("unknown label 5" in line for line in lines)
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["a", "c"]


def test_a_missing_extra_ends_at_once(tmp_path: Path) -> None:
    def bad() -> Case:
        raise MissingExtraError("h5py is needed here and is not installed.")

    with pytest.raises(MissingExtraError):
        written(tmp_path, a=case(1), b=bad)


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a/b' would lie inside 'a'"):
        written(tmp_path, **{"a": case(0), "a/b": case(1)})
    source = Source("a", "a", "", (), lambda: case(0))
    twice = DatasetLayout("own", lambda raw: [source, source], {}, "mr", 32)
    with pytest.raises(DataError, match="'a' is there twice"):
        prepare_layout(twice, tmp_path, tmp_path / "out", progress=False)


def test_prepare_ends_with_an_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003"], size=32)
    (raw / "img" / "img0003.nii.gz").write_bytes(b"")
    error = failing(capfd, "prepare", "synapse", str(raw), str(tmp_path / "out"), "--size", "32")
    assert "img0003.nii.gz is empty" in error and "Traceback" not in error
    assert (tmp_path / "out" / "cases" / "case0001" / "case.json").exists()


# -- what validate finds -----------------------------------------------------------------------------------------------

RECIPE = """
[data]
kind = "prepared"
root = "{root}"
classes = ["one", "two"]
size = 32

[network]
build = "monai.networks.nets:BasicUNet"

[network.args]
spatial_dims = 2
out_channels = 3
features = [4, 4, 4, 4, 4, 4]

[space]
name = "lomix"
"""


def validated(root: Path, tmp_path: Path, *overrides: str) -> Any:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(root=root))
    return validate_recipe(load_recipe(path, list(overrides)), network=False)


def test_nothing_is_said_of_data_that_are_well(tmp_path: Path) -> None:
    found = validated(written(tmp_path, **TEN), tmp_path)
    assert found.faults == () and found.warnings == (
        "one patient validates; what is chosen by it may not hold for others.",
    )


def test_odd_cases_are_told_by_name(tmp_path: Path) -> None:
    made = TEN | {
        "c1": case(1, image=CUBE + 7),  # constant
        "c2": Case("c2", case(2).label[:, None] * 40.0 + 3, case(2).label, (2.0, 1.0, 1.0)),  # image and mask are one
        "c3": case(3, ()),  # empty
        "c4": case(4, (1,)),  # lacks a class
        "c5": Case("c5", case(6).image, case(5).label, (2.0, 1.0, 1.0)),  # the same image as c6
        "c7": Case("c7", case(7).image, case(8).label, (2.0, 1.0, 1.0)),  # the same mask as c8
    }
    out = written(tmp_path, **made)
    part = {
        n: p for p in ("train", "val", "test") for n in getattr(prepared.splits_of(settings(out, ("one", "two")))[1], p)
    }
    warnings = validated(out, tmp_path).warnings
    assert f"c1 ({part['c1']}): the image has one value; nothing can be seen in it." in warnings
    assert f"c2 ({part['c2']}): image and label are one picture; there is nothing to learn." in warnings
    assert f"c3 ({part['c3']}): the label is empty." in warnings
    assert f"class 'two' is lacking in 1 of 10 cases: c4 ({part['c4']})." in warnings
    told = "what is learned from one is tested on the other" if part["c5"] != part["c6"] else "one counts twice"
    assert any(w.startswith("c5 (") and f"c6 ({part['c6']}) have the same image; {told}." in w for w in warnings)
    assert "c7, c8: different images have the same label, to the pixel." in warnings
    assert len(warnings) == 7 + sum(w.startswith("one patient validates") for w in warnings), warnings


def test_a_class_that_no_case_has(tmp_path: Path) -> None:
    made = {f"c{i}": case(i, (1,)) for i in range(10)}
    assert "class 'two' is in no case of any set." in validated(written(tmp_path, **made), tmp_path).warnings


def test_damaged_files_are_faults(tmp_path: Path) -> None:
    out = written(tmp_path, **TEN)
    flip(out / "cases" / "c3" / "image.npy")
    flip(out / "cases" / "c4" / "label.npy", 20)
    assert validated(out, tmp_path).faults == (
        f"{out}/cases/c3/image.npy was changed after it was prepared",
        f"{out}/cases/c4/label.npy was changed after it was prepared",
    )


def test_the_same_slice_on_both_sides_of_a_split_of_items(tmp_path: Path) -> None:
    """For data of a user's own code too: every item is read once, without augmentation."""
    (tmp_path / "parts.py").write_text(
        """
import numpy as np
from lomix_search.data.dataset import Slices, Splits

def data():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (9, 16, 16))
    images = draw.normal(0, 1, (9, 1, 16, 16)).astype(np.float32)
    images[7], images[5], labels[3] = images[0], 4.0, 0
    def wild(image, label):
        raise RuntimeError("augmented")
    def part(start, stop, augment=None):
        names = [f"case{i}" for i in range(start, stop)]
        return Slices(images[start:stop], labels[start:stop], names, num_classes=3, augment=augment)
    return Splits(part(0, 6, wild), part(6, 8), part(8, 9), ("background", "a", "b"), 1)
"""
    )
    (tmp_path / "recipe.toml").write_text(
        '[data]\nkind = "parts.py:data"\n[network]\nbuild = "monai.networks.nets:BasicUNet"\n[space]\nname = "lomix"\n'
    )
    warnings = validate_recipe(load_recipe(tmp_path / "recipe.toml"), network=False).warnings
    assert "case5 (train): the image has one value; nothing can be seen in it." in warnings
    assert "case3 (train): the label is empty." in warnings
    both = "case0, item 0 (train), case7, item 1 (val) have the same image"
    assert f"{both}; what is learned from one is tested on the other." in warnings


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_acdc_is_read_as_it_is_and_its_twins_are_told(tmp_path: Path) -> None:
    """Native sizes, labels as stored, percentiles of each volume; patients 074 and 076 have the same images."""
    files, raw = Path(os.environ["LOMIX_DATA"]) / "acdc", tmp_path / "raw"
    raw.mkdir()
    for number in (3, 73, 74, 75, 76, 100):
        for path in files.glob(f"case_{number:03d}_volume*.npz"):
            (raw / path.name).symlink_to(path)
    manifest = go("acdc", raw, tmp_path / "out", size=224)
    assert len(manifest.cases) == 12 and verify(tmp_path / "out") == []
    for entry in manifest.cases:
        stored = np.load(raw / f"case_{entry.patient[-3:]}_volume{entry.name[-2:]}.npz")
        image, label = (np.load(tmp_path / "out" / "cases" / entry.name / f"{of}.npy") for of in ("image", "label"))
        low, high = np.percentile(stored["img"], (0.5, 99.5))
        np.testing.assert_array_equal(label, stored["label"])
        np.testing.assert_allclose(image[:, 0], ((stored["img"] - low) / (high - low)).clip(0, 1), atol=1e-3)
    warnings = validate_recipe(
        load_recipe("acdc", [f"data.root={tmp_path / 'out'}", "data.split=random"]), network=False
    )
    for phase in ("ED", "ES"):
        assert any(f"patient074_{phase} (" in w and f"patient076_{phase} (" in w for w in warnings.warnings)


@pytest.mark.realdata
def test_hippocampus_agrees_with_nibabel(tmp_path: Path) -> None:
    """Every image and label on its own canonical grid, whatever its range of intensities."""
    root = Path(os.environ["LOMIX_DATA"]) / "hippocampus"
    for image in sorted((root / "images").glob("*.nii.gz"))[::13]:
        made = read_nifti_pair("a", image, root / "labels" / image.name)
        for path, values in ((image, made.image[:, 0]), (root / "labels" / image.name, made.label)):
            canonical = nib.as_closest_canonical(nib.load(path)).get_fdata()[::-1, ::-1].transpose(2, 1, 0)
            np.testing.assert_array_equal(values, canonical)
        scaled = scale_intensities(made.image, "mr", image).astype(float)
        assert scaled.min() == 0 and scaled.max() == 1 and scaled.std() > 0.05
