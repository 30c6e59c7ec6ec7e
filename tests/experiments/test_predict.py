"""New images come out as evaluation has them, on their own grid, with the user's own label values."""

import importlib.util
import json
import os
import resource
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image
from support.brain import MODALITIES, REGIONS, write_brain
from support.commands import call, failing
from support.dicom_files import series
from support.grid_files import save_meta, save_nrrd
from support.nifti_files import header
from support.raw_folders import AFFINE, nifti_folders, picture_folders, run_layout, run_on
from support.undrawn import undrawn
from support.workers import Worker
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.readers.image import find_images, read_image
from lomix_search.data.readers.nifti import read_nifti_label
from lomix_search.errors import DataError, RunError
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.predict.predict_images import predict_images
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe


class Done(NamedTuple):
    """A run, its raw images, and where evaluation left its predictions."""

    run: Path
    images: Path
    predictions: Path


def done(home: Path, images: Path, masks: Path) -> Done:
    run = run_on(home, images, masks)
    evaluate_run(run)
    shutil.rmtree(home / "data")  # what the run was trained on is gone
    return Done(run, images, run / "evaluation/final/predictions")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Done:
    home = tmp_path_factory.mktemp("volumes")
    return done(home, *nifti_folders(home))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Done:
    home = tmp_path_factory.mktemp("pictures")
    return done(home, *picture_folders(home))


@pytest.mark.slow
def test_volumes_come_out_as_evaluation_has_them(volumes: Done, tmp_path: Path) -> None:
    found = predict_images(volumes.run, volumes.images, tmp_path / "out", probabilities=True)
    assert found.done == tuple(f"p{i}" for i in range(6)) and not found.faults and not found.skipped
    expected = sorted(volumes.predictions.glob("*.nii.gz"))
    for path in expected:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    for name in found.done:
        raw, made = (nib.load(folder / f"{name}.nii.gz") for folder in (volumes.images, tmp_path / "out"))
        label = np.asarray(made.dataobj)
        assert raw.shape == made.shape and label.dtype == np.uint8 and set(np.unique(label)) <= {0, 2, 7}
        np.testing.assert_array_equal(made.affine, raw.affine)
        assert made.header["qform_code"] == raw.header["qform_code"] and made.header.get_xyzt_units()[0] == "mm"
        scores = nib.load(tmp_path / "out" / f"{name}_probabilities.nii.gz")
        assert scores.shape == (*raw.shape, 3) and scores.get_data_dtype() == np.float32
        np.testing.assert_array_equal(scores.affine, raw.affine)
        values = np.asarray(scores.dataobj)
        np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(np.array([0, 2, 7])[values.argmax(-1)], label)
    assert expected and any(2 in np.asarray(nib.load(path).dataobj) for path in expected), "it learned something"


@pytest.mark.slow
def test_pictures_come_out_as_evaluation_has_them(pictures: Done, tmp_path: Path) -> None:
    found = predict_images(pictures.run, pictures.images, tmp_path / "out", probabilities=True, batch_size=1)
    assert len(found.done) == 6
    expected = sorted(pictures.predictions.glob("*.png"))
    for path in expected:
        with Image.open(tmp_path / "out" / path.name) as one, Image.open(path) as other:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    bad = predict_images(pictures.run, nifti_folders(tmp_path / "volumes", 1)[0], tmp_path / "bad").faults
    assert "the network was trained on pictures, and this is a volume" in bad["p0"]
    with Image.open(tmp_path / "out/c 5.png") as made, Image.open(pictures.images / "c 5.png") as raw:
        assert made.size == raw.size and made.mode == "L" and set(np.unique(np.asarray(made))) == {0, 255}
        with np.load(tmp_path / "out/c 5_probabilities.npz") as file:
            scores = file["probabilities"]
        np.testing.assert_array_equal(np.asarray(made) > 0, scores.argmax(0) > 0)
    assert len(expected) >= 1


def test_it_goes_on_where_it_was_killed(volumes: Done, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_images(volumes.run, volumes.images, out)
    whole = {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}
    (out / "p1.nii.gz").unlink()
    (out / ".unfinished.abc").mkdir()  # as kill -9 leaves it
    (out / ".unfinished.abc/p1.nii.gz").write_bytes(b"half")
    newer = (out / "p3.nii.gz").stat().st_mtime + 5
    images = Path(shutil.copytree(volumes.images, tmp_path / "images"))
    os.utime(images / "p3.nii.gz", (newer, newer))
    found = predict_images(volumes.run, images, out)
    assert found.done == ("p1", "p3") and len(found.skipped) == 4
    assert {path.name: path.read_bytes() for path in out.glob("*.nii.gz")} == whole
    assert sorted(path.name for path in out.iterdir()) == sorted([*whole, "predictions.json"])
    said = json.loads((out / "predictions.json").read_text())["settings"]
    assert said["runs"] == ["run"] and said["flips"] is False and said["classes"][0] == "background"


@pytest.mark.slow
def test_predictions_of_another_run_or_setting_are_not_mixed(volumes: Done, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_images(volumes.run, volumes.images / "p0.nii.gz", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for options, said in (
        ({"flips": True}, "flips: False before, True now"),
        ({"network": "best"}, "network: final before, best now"),
        ({"probabilities": True}, "probabilities: False before, True now"),
    ):
        with pytest.raises(RunError, match="holds predictions of another run or by other settings") as caught:
            predict_images(volumes.run, volumes.images, out, **options)
        assert said in str(caught.value)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_bad_images_do_not_stop_the_others(volumes: Done, tmp_path: Path) -> None:
    images = tmp_path / "in"
    (images / "sub").mkdir(parents=True)
    shutil.copy(volumes.images / "p0.nii.gz", images / "sub/good.nii.gz")
    (images / "cut.nii.gz").write_bytes((volumes.images / "p1.nii.gz").read_bytes()[:500])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(images / "photo.png")
    raw = nib.load(volumes.images / "p2.nii.gz")
    values = np.asarray(raw.dataobj)
    nib.save(nib.Nifti1Image(np.stack([values, values], -1), AFFINE), images / "two.nii.gz")
    nib.save(nib.Nifti1Image(np.where(values > 300, 40, -1000).astype(np.int16), AFFINE), images / "ct.nii.gz")
    nib.save(nib.Nifti1Image(np.where(values > 300, np.nan, 1).astype(np.float32), AFFINE), images / "nan.nii.gz")
    np.save(images / "sub/array.npy", values)
    result = CliRunner().invoke(app, ["predict", str(volumes.run), str(images), str(tmp_path / "out")])
    assert result.exit_code == 1 and "5 of 6 images failed" in result.output and "1 predicted" in result.output
    for said in (
        "cut.nii.gz cannot be read", "photo.png: the network was trained on volumes, and this is a picture",
        "two.nii.gz: 2 channels; the others have 1", "ct.nii.gz: a CT, by its values", "nan.nii.gz: NaN or infinite",
        "not read, by its kind: 1 of .npy, e.g. sub/array.npy",
    ):  # fmt: skip
        assert said in " ".join(result.output.split()), said
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["good.nii.gz", "predictions.json"]


@pytest.mark.slow
def test_what_cannot_be_predicted_is_refused_before_anything_is_written(
    volumes: Done, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, images, out = (str(path) for path in (volumes.run, volumes.images, tmp_path / "out"))
    for words, said in (
        ((run, images), "lomix predict RUN IMAGES OUT"),
        ((run, str(tmp_path / "none"), out), "does not exist"),
        ((str(tmp_path), images, out), "holds no finished run"),
        ((run, images, images + "/out"), "would be taken for images"),
        ((run, images + "/p0.nii.gz", images), "a prediction could take its place"),
        ((run, images, out, "--overlap", "1"), "outside [0, 1)"),
        ((run, images, out, "--overlap", "0.5"), "predicts whole slices, without windows"),
        ((run, images, out, "--batch-size", "0"), "at least 1"),
        ((run, images, out, "--device", "abacus"), "there is no such device"),
        ((run, str(home / "one"), images, out), "cannot predict together: they differ in classes"),
        ((str(home / "one"), images, out), "its images come from a function of your own, data.kind = 'data'"),
    ):
        assert said in failing(capfd, "predict", *words), said
    assert not (tmp_path / "out").exists() and not (volumes.images / "out").exists()
    own = Path(shutil.copytree(volumes.images.parent / "masks", tmp_path / "own"))
    assert "holds files that predictions would replace" in failing(capfd, "predict", run, images, str(own))
    assert sorted(path.name for path in own.iterdir()) == [f"p{i}.nii.gz" for i in range(6)]
    (tmp_path / "twice").mkdir()
    for name in ("a", "a_probabilities"):
        shutil.copy(volumes.images / "p0.nii.gz", tmp_path / f"twice/{name}.nii.gz")
    with pytest.raises(DataError, match="would both be"):
        predict_images(volumes.run, tmp_path / "twice", tmp_path / "out2", probabilities=True)


@pytest.mark.slow
def test_runs_together_are_the_mean_of_their_probabilities(volumes: Done, tmp_path: Path) -> None:
    home = tmp_path / "other"
    images, masks = nifti_folders(home, 4)
    other = run_on(home, images, masks, "search.seed=3", "search.steps=6")
    (other / "data.json").unlink()  # as a run of an earlier version: its data are looked at
    one = volumes.images / "p1.nii.gz"
    said = call("predict", str(volumes.run), str(other), str(one), str(tmp_path / "both"), "--probabilities")
    assert "1 predicted" in said
    for run in (volumes.run, other):
        predict_images(run, one, tmp_path / run.parent.name, probabilities=True)
    both, first, second = (
        np.asarray(nib.load(tmp_path / name / "p1_probabilities.nii.gz").dataobj)
        for name in ("both", volumes.run.parent.name, "other")
    )
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-6)
    assert np.abs(first - second).max() > 0.05


def test_other_formats_come_out_alike(volumes: Done, tmp_path: Path) -> None:
    values = np.asarray(nib.load(volumes.images / "p1.nii.gz").dataobj).astype(np.int16)
    images, affine = tmp_path / "in", np.diag([-0.8, -0.9, 4.0, 1.0])
    (images / "patient/scan").mkdir(parents=True)
    nib.save(nib.Nifti1Image(values, affine), images / "nifti.nii")
    save_nrrd(images / "nrrd.nrrd", values, affine)
    save_meta(images / "meta.mha", values, affine)
    series(images / "patient/scan", values.transpose(2, 1, 0), step=4.0, pixel=(0.9, 0.8))
    pages = [Image.fromarray(page.astype(np.uint16)) for page in values.transpose(2, 1, 0)]
    pages[0].save(images / "pages.tif", save_all=True, append_images=pages[1:])
    found = predict_images(volumes.run, images, tmp_path / "out")
    assert found.done == ("meta", "nifti", "nrrd", "pages", "patient/scan") and not found.faults
    made = {name: nib.load(tmp_path / f"out/{name}.nii.gz") for name in found.done}
    labels = {name: np.asarray(file.dataobj) for name, file in made.items()}
    assert len(np.unique(labels["nifti"])) > 1
    for name in found.done:
        np.testing.assert_array_equal(labels[name], labels["nifti"], err_msg=name)
        if name != "pages":  # a TIFF says no spacing
            np.testing.assert_allclose(made[name].header.get_zooms(), (0.8, 0.9, 4.0), rtol=1e-4)


def test_a_full_disk_ends_it_and_leaves_nothing_half_written(
    volumes: Done, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    said = failing(capfd, "predict", str(volumes.run), str(volumes.images), str(tmp_path / "file"))
    assert "cannot be written" in said and (tmp_path / "file").read_text() == "mine"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RunError, match=r"p0_probabilities.nii.gz cannot be written: File too large") as caught:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            predict_images(volumes.run, volumes.images, tmp_path / "full", probabilities=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "the same command again" in str(caught.value)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["predictions.json"]


@pytest.mark.slow  # a process of its own
def test_ctrl_c_leaves_whole_files_and_it_goes_on(volumes: Done, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(300):
        (images / f"i{number:03d}.nii.gz").symlink_to(volumes.images / f"p{number % 6}.nii.gz")
    running = Worker("predict", str(volumes.run), str(images), str(out))
    deadline = time.monotonic() + 120
    while not [*out.glob("*.nii.gz")]:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)
    made = [*out.glob("*.nii.gz")]
    assert running.returncode == 130 and "Traceback" not in said and 0 < len(made) < 300
    assert all(np.asarray(nib.load(path).dataobj).shape for path in made), "every file is whole"
    found = predict_images(volumes.run, images, out)
    assert set(found.skipped) == {path.name.removesuffix(".nii.gz") for path in made} and not found.faults
    assert len(found.done) == 300 - len(made) and not [*out.glob(".unfinished*")]


@pytest.mark.slow
def test_volumes_of_three_dimensions_come_out_as_evaluation_has_them(tmp_path: Path) -> None:
    images, masks = nifti_folders(tmp_path, slices=9)
    for number in (4, 5):  # another spacing, which evaluation and prediction must bring to that of training and back
        for folder in (images, masks):
            file = nib.load(folder / f"p{number}.nii.gz")
            affine = AFFINE * [[1.3], [0.8], [0.7], [1]]
            nib.save(nib.Nifti1Image(np.asarray(file.dataobj), affine), folder / f"p{number}.nii.gz")
    run = run_on(tmp_path, images, masks, "evaluate.flips=true", dims=3)
    for subset in ("test", "val"):
        evaluate_run(run, subset=subset)
    shutil.rmtree(tmp_path / "data")
    assert len(predict_images(run, images, tmp_path / "out").done) == 6
    expected = [*run.glob("evaluation/*/predictions/*.nii.gz")]
    for path in expected:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(expected) >= 3 and any(len(np.unique(np.asarray(nib.load(path).dataobj))) > 1 for path in expected)
    (tmp_path / "bad").mkdir()
    flat = np.arange(64, dtype=np.int16).reshape(8, 8, 1)
    nib.save(nib.Nifti1Image(flat, AFFINE), tmp_path / "bad/flat.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), AFFINE), tmp_path / "bad/constant.nii.gz")
    pages = [Image.fromarray(np.full((8, 8), i, np.uint16)) for i in range(8)]
    pages[0].save(tmp_path / "bad/pages.tif", save_all=True, append_images=pages[1:])
    header(tmp_path / "bad/no.nii.gz", srow_x=[0, 0, 0, 0], srow_y=[0, 0, 0, 0])
    faults = predict_images(run, tmp_path / "bad", tmp_path / "out2").faults
    assert (
        "a single slice; volumes are needed" in faults["flat"]
        and "every pixel is 1; nothing can be seen" in faults["constant"]
    )
    assert "spacing or unit is wrong" in faults["no"]
    assert "pages.tif: it has no spacing, and the others have one" in faults["pages"]


@pytest.mark.slow
def test_regions_in_channels_of_their_own_files_come_out_as_evaluation_has_them(tmp_path: Path) -> None:
    raw = write_brain(tmp_path / "raw")
    found = find_images(raw / "imagesTr")

    def read(name: str, files: tuple[Path, ...], label: Path) -> Case:
        image = read_image(files)
        return Case(name, image.image, read_nifti_label(label)[0], image.spacing, image.origin)

    def find(_: Path) -> list[Source]:
        pairs = [(name, files, raw / f"labelsTr/{name}.nii.gz") for name, files in found.items()]
        return [Source(n, n, "", (*files, label), partial(read, n, files, label)) for n, files, label in pairs]

    labels = {1: "edema", 2: "core alone", 3: "enhancing"}
    layout = DatasetLayout("brain", find, labels, "mr", 32, modalities=MODALITIES, regions=REGIONS)
    run = run_layout(tmp_path, layout, {}, {"channels": 4, "classes": 3})
    evaluate_run(run)
    made = predict_images(run, raw / "imagesTr", tmp_path / "out", probabilities=True)
    assert len(made.done) == 8 and not made.faults
    expected = [*run.glob("evaluation/final/predictions/*.nii.gz")]
    for path in expected:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
        assert set(np.unique(np.asarray(nib.load(path).dataobj))) <= {0, 1, 2, 3}
    scores = np.asarray(nib.load(tmp_path / "out/head_000_probabilities.nii.gz").dataobj)
    label = np.asarray(nib.load(tmp_path / "out/head_000.nii.gz").dataobj)
    assert scores.shape == (*label.shape, 3) and len(expected) >= 2
    np.testing.assert_array_equal(label == 3, scores[..., 2] > 0.5)
    assert not predict_images(run, raw / "imagesTr", tmp_path / "out", probabilities=True).done
    lone = predict_images(run, raw / "imagesTr/head_000_0001.nii.gz", tmp_path / "lone").faults
    assert "1 channels; the others have 4 (T1, T1c, T2, FLAIR)" in next(iter(lone.values()))


@pytest.mark.slow
def test_the_embedded_ct_comes_out_of_its_file_as_evaluation_has_it(tmp_path: Path) -> None:
    slices = [*range(16, 22)]
    small = ["network.args.features=[4, 4, 8, 8, 8, 4]", "search.steps=40", "optimizer.lr=0.01"]
    with undrawn():
        run_recipe(load_recipe("chest_ct", [*small, "space.name=deep_supervision"]), tmp_path / "run")
    evaluate_run(tmp_path / "run")
    (expected,) = (tmp_path / "run/evaluation/final/predictions").glob("*.nii.gz")
    ct = Path(str(importlib.util.find_spec("slicerio").origin)).parent / "data/CTChest4.nrrd"
    assert predict_images(tmp_path / "run", ct, tmp_path / "out").done == ("CTChest4",)
    whole, spacing, _ = read_nifti_label(tmp_path / "out/CTChest4.nii.gz")
    held, of_held, _ = read_nifti_label(expected)
    assert whole.shape == (34, 128, 128) and spacing == pytest.approx(of_held, rel=1e-3)
    np.testing.assert_array_equal(whole[slices], held)
    assert len(np.unique(held)) > 2
    head = nrrd.read_header(str(ct))
    made = nib.load(tmp_path / "out/CTChest4.nii.gz").affine
    lps = np.diag([-1, -1, 1, 1]) @ made
    np.testing.assert_allclose(lps[:3, :3].T, head["space directions"], rtol=1e-5)
    np.testing.assert_allclose(lps[:3, 3], head["space origin"], rtol=1e-5)
