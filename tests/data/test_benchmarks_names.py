"""File names of the benchmarks: two of one name, other forms, a name that is the current folder."""

from pathlib import Path

import nibabel as nib
import pytest
from PIL import Image
from support import twins
from support.nifti_files import refused
from support.picture_files import DISC, PICTURE, noise, rgb, save
from support.preparing import PATIENTS, fails, go

from lomix_search.data.benchmarks.acdc import find_acdc
from lomix_search.data.prepare import prepare
from lomix_search.errors import DataError


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003"], size=32)
    (raw / "again").mkdir()
    again = raw / "again" / "img0003.nii.gz"
    again.write_bytes((raw / "img" / "img0003.nii.gz").read_bytes())
    assert fails("synapse", raw, tmp_path / "out") == (
        f"{again} and {raw}/img/img0003.nii.gz are of one name; it must be clear which is meant.\n"
        "  Try:  move one of them away"
    )
    again.rename(raw / "img" / "img3.nii.gz")
    assert "are of one name" in fails("synapse", raw, tmp_path / "out")


def test_plain_and_packed_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    raw = twins.acdc_raw(tmp_path / "raw", PATIENTS[:2])
    label = raw / "training" / "patient001" / "patient001_frame01_gt.nii.gz"
    nib.save(nib.load(label), label.with_suffix(""))
    text = fails("acdc", raw, tmp_path / "out")
    assert text.startswith("prepare acdc: 1 of 3 cases failed") and "are of one name" in text


def test_every_acdc_npz_is_read(tmp_path: Path) -> None:
    """Volumes named with and without a line between; a name of another form is told, not dropped."""
    raw = twins.acdc_npz(tmp_path / "raw")
    names = {source.name for source in find_acdc(raw)}
    assert len(names) == 12 and {f"{p}_{phase}" for p in twins.ACDC.test[:2] for phase in ("ED", "ES")} <= names
    (raw / "test" / "case_777_whole.npz").write_bytes(b"")
    assert "case_777_whole.npz" in refused(find_acdc, raw)


def test_slices_of_one_number_in_two_folders_are_refused(tmp_path: Path) -> None:
    raw = twins.acdc_npz(tmp_path / "raw")
    path = next((raw / "train").glob("*sliceED_1.npz"))
    (raw / "valid" / path.name).write_bytes(path.read_bytes())
    assert "are of one name" in refused(find_acdc, raw)
    path.unlink()
    text = fails("acdc", raw, tmp_path / "out")
    assert "lie in several folders" in text and "1 of 12 cases failed" in text


def test_a_dicom_folder_may_be_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = twins.nodules_raw(tmp_path / "raw", patients=1)
    monkeypatch.chdir(raw / "pat_1")
    assert [e.name for e in go("chest_nodules", Path(), tmp_path / "out").cases] == ["pat_1"]


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
