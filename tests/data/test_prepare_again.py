"""Preparing again: only what changed is made anew, whatever one case does the others are kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import twins
from support.commands import failing
from support.own_layout import case, flip, written
from support.preparing import go

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.manifest import verify
from lomix_search.data.prepare import prepare_layout
from lomix_search.errors import DataError, MissingExtraError


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
