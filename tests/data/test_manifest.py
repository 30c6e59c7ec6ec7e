"""The manifest: a fingerprint of the data alone, and no name that leads out of the folder."""

import json
import shutil
from pathlib import Path

import pytest
from support.own_layout import TEN, case, written, written_ten

from lomix_search.data.manifest import read_manifest
from lomix_search.errors import DataError


def test_fingerprint_is_of_the_data_alone(tmp_path: Path) -> None:
    first = read_manifest(written_ten(tmp_path))
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


EVIL = ["../outside", "/tmp/outside", "a/../../b", "", ".", "a//b", "a\\b", "a\nb", ".unfinished.x", "a/"]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    out = written_ten(tmp_path)
    content = json.loads((out / "manifest.json").read_text())
    content["cases"][0]["name"] = name
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is no name of a case"):
        read_manifest(out)
    with pytest.raises(DataError, match="cannot be told apart by their names"):
        written(tmp_path / "2", **{name: case(0)}) if (tmp_path / "2").mkdir() is None else None
    assert not (tmp_path / "outside").exists()


def test_a_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    out = written_ten(tmp_path)
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
    out = written_ten(tmp_path)
    content = json.loads((out / "manifest.json").read_text())
    content["cases"].append(content["cases"][3])
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="c3 is there twice"):
        read_manifest(out)
