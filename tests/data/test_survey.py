"""What all images of a dataset have in common decides how they are prepared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.twins import organs, save_nifti

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.manifest import Preparation, read_manifest
from lomix_search.data.prepare import prepare_layout
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.survey import VolumeFacts, plan_slices, target_spacing, volume_facts
from lomix_search.errors import DataError


def layout(raw: Path, **more: object) -> DatasetLayout:
    def find(folder: Path) -> list[Source]:
        found = []
        for path in sorted(folder.glob("c*.nii")):
            label = folder / f"l{path.name[1:]}"
            read = lambda p=path, q=label: read_nifti_pair(p.stem, p, q)  # noqa: E731
            found.append(Source(path.stem, path.stem, "", (path, label), read))
        return found

    return DatasetLayout("twin", find, {1: "one", 2: "two"}, **{"intensity": "mr", "size": 0, "dims": 3, **more})


def write(
    folder: Path, name: str, shape: tuple[int, ...] = (12, 10, 8), zooms: tuple[float, ...] = (1, 1, 1), low: int = 40
) -> None:
    rng = np.random.default_rng(len(name))
    label = organs(rng, shape, 2)
    affine = np.diag([-zooms[0], -zooms[1], zooms[2], 1.0])
    save_nifti(folder / f"c{name}.nii", (rng.normal(low, 5, shape) + 60 * label).astype(np.float32), affine)
    save_nifti(folder / f"l{name}.nii", label, affine)


def test_volumes_get_the_median_spacing_and_a_manifest_that_says_how(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number, zooms in enumerate([(1, 1, 2), (1, 1, 2), (0.5, 0.5, 1)]):
        write(raw, str(number), zooms=zooms)
    manifest = prepare_layout(layout(raw), raw, out, progress=False)
    assert manifest == read_manifest(out) and manifest.size == 0
    assert manifest.preparation.spacing == (2, 1, 1) and manifest.preparation.channels == 1
    assert manifest.preparation.scaling_of(0).kind == "zscore"
    shapes = [np.load(out / "cases" / f"c{n}" / "image_volume.npy").shape for n in range(3)]
    assert shapes == [(8, 1, 10, 12), (8, 1, 10, 12), (4, 1, 5, 6)]
    label, places = (np.load(out / "cases" / "c2" / f"{name}.npy") for name in ("label_volume", "foreground"))
    assert set(np.unique(label)) <= {0, 1, 2} and len(places) == (label > 0).sum()
    assert all(label[tuple(place[1:])] == place[0] for place in places)


def test_a_ct_is_measured_in_the_foreground_of_all(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name, low=-60)
    how = prepare_layout(layout(tmp_path, modalities=("CT",)), tmp_path, tmp_path / "out", progress=False).preparation
    fixed = how.scaling_of(0)
    assert fixed.kind == "foreground" and how.modalities == ("CT",)
    assert -40 < fixed.window[0] < 10 < 50 < fixed.window[1] < 90 and 0 < fixed.mean < 60  # type: ignore[index]
    again = prepare_layout(layout(tmp_path, modalities=("CT",)), tmp_path, tmp_path / "out", progress=False)
    assert again.preparation == how


def test_nothing_is_fitted_to_cases_that_their_folder_calls_test(tmp_path: Path) -> None:
    write(tmp_path, "a")
    given = layout(tmp_path, modalities=("CT",))
    source = given.find(tmp_path)[0]
    assert volume_facts(source, given).foreground.size > 0
    assert volume_facts(replace(source, group="test"), given).foreground.size == 0


def test_slices_far_apart_keep_the_finest_tenth_of_their_distances() -> None:
    def facts(spacing: tuple[float, ...]) -> VolumeFacts:
        return VolumeFacts("a", "a", (10, 1, 200, 200), spacing, 0, np.zeros((1, 0), np.float32))

    assert target_spacing([facts((s, 1.0, 1.0)) for s in (4.0, 5.0, 6.0, 7.0, 8.0)]) == (4.4, 1, 1)
    assert target_spacing([facts((s, 1.0, 1.0)) for s in (1.0, 2.0, 3.0)]) == (2, 1, 1)
    assert target_spacing([facts((1.0, 1.0, s)) for s in (4.0, 5.0, 6.0, 7.0, 8.0)]) == (1, 1, 6)  # not few of them


@pytest.mark.parametrize(
    ("write_odd", "message"),
    [
        (lambda f: write(f, "z", shape=(12, 10, 1)), r"cz\.nii: a single slice; volumes are needed"),
        (
            lambda f: save_nifti(f / "c0.nii", np.full((12, 10, 8), 3.0, np.float32), np.diag([-1, -1, 1.0, 1])),
            "every voxel is 3",
        ),
        (lambda f: write(f, "z", zooms=(1e-3, 1, 1)), r"cz\.nii: the header's spacing or unit is wrong"),
    ],
)
def test_odd_volumes_are_refused_by_name_and_no_manifest_is_written(
    tmp_path: Path, write_odd: object, message: str
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in "01":
        write(raw, name)
    write_odd(raw)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        prepare_layout(layout(raw), raw, out, progress=False)
    assert not (out / "manifest.json").exists()


def test_folders_of_earlier_versions_tell_how_they_were_prepared(tmp_path: Path) -> None:
    write(tmp_path, "a", low=-500)
    of_slices = layout(tmp_path, dims=2, size=16, intensity="ct", window=(-1000.0, 400.0))
    manifest = prepare_layout(of_slices, tmp_path, tmp_path / "out", progress=False)
    scaling = {"kind": "ct", "window": (-1000, 400)}
    assert manifest.preparation == Preparation.model_validate({"size": 16, "channels": 1, "intensity": [scaling]})
    old = manifest.model_copy(update={"prepared": None})
    assert old.preparation == manifest.preparation


def test_modalities_of_slices_are_scaled_each_in_its_way(tmp_path: Path) -> None:
    how = plan_slices(layout(tmp_path, dims=2, modalities=("CT", "PET")), 16)
    assert [s.kind for s in how.intensity] == ["ct", "mr"]
