"""Prepared arrays: damage is named when it is read, and what was prepared anew is read anew."""

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.own_layout import TEN, case, cases, flip, validated, written_ten
from support.preparing import settings
from torch.utils.data import DataLoader

from lomix_search.data import manifest as manifests
from lomix_search.data.kinds import prepared, prepared_arrays
from lomix_search.data.manifest import read_manifest, verify
from lomix_search.data.prepare import prepare_layout
from lomix_search.errors import DataError

DAMAGED = [("bit", file) for file in ("image_32.npy", "label_32.npy", "image.npy", "label.npy")]
DAMAGED += [(how, file) for how in ("header", "cut", "replaced", "missing") for file in ("image_32.npy", "label.npy")]


@pytest.mark.parametrize(("how", "file"), DAMAGED)
def test_a_damaged_array_is_named_when_it_is_read(file: str, how: str, tmp_path: Path) -> None:
    out = written_ten(tmp_path)
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


@pytest.mark.slow  # the loader waits five seconds for a worker that an error leaves behind
def test_a_damaged_array_is_named_by_a_worker(tmp_path: Path) -> None:
    out = written_ten(tmp_path)
    train = prepared.load_prepared(settings(out, ("one", "two"))).train
    flip(out / "cases" / train.case(0) / "image_32.npy")
    loader = DataLoader(train, batch_size=3, num_workers=1, multiprocessing_context=multiprocessing.get_context("fork"))
    with pytest.raises(DataError, match=r"image_32\.npy was changed or damaged after it was prepared"):
        list(loader)


def test_each_file_is_hashed_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, hashed = prepared.load_prepared(settings(written_ten(tmp_path), ("one", "two"))).train, []
    hash_file = manifests.sha256
    monkeypatch.setattr(manifests, "sha256", lambda path: hashed.append(path) or hash_file(path))
    for _ in range(3):
        prepared_arrays._mapped.cache_clear()  # also where more files are used than stay open
        _ = [train[i] for i in range(len(train))]
    assert len(hashed) == len(set(hashed)) == 2 * len(set(train.cases))


def test_data_prepared_again_in_the_same_process_are_read_anew(tmp_path: Path) -> None:
    """Not from the memory map of what was there before."""
    out = written_ten(tmp_path)
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


def test_folders_of_earlier_versions_still_open(tmp_path: Path) -> None:
    """Without the readers' version, and without checksums: they are read, and `validate` says what is not known."""
    out = written_ten(tmp_path)
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


def test_a_manifest_that_claims_more_slices_than_there_are(tmp_path: Path) -> None:
    out = written_ten(tmp_path)
    content = json.loads((out / "manifest.json").read_text())
    for entry in content["cases"]:
        entry["shape"][0] = 10**12
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json says 1000000000000 slices"):
        prepared.load_prepared(settings(out, ("one", "two")))
