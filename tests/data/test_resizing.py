"""One geometry there and back: nothing moves, nothing new comes up, and evaluation sees what training saw."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from support import twins
from support.tiny_recipe import tiny
from torch.nn import functional as F

from lomix_search.data.case import Case
from lomix_search.data.dataset import Splits
from lomix_search.data.kinds import prepared
from lomix_search.data.manifest import read_manifest, sha256, verify
from lomix_search.data.prepare import prepare
from lomix_search.data.resizing import resize_images, resize_labels, resize_scores
from lomix_search.errors import RecipeError
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions, predict_case
from lomix_search.evaluation.score_items import score_items
from lomix_search.recipe.recipe import Recipe

SIZES = [((640, 640), (140, 140)), ((301, 400), (224, 160)), ((96, 130), (224, 352)), ((333, 64), (128, 127))]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [(90, 151), (20, 170), (30, 31)])
def test_scores_are_the_same_to_the_last_bit_on_any_number_of_threads(
    size: tuple[int, int], corners: bool, channels: int
) -> None:
    scores = torch.randn(2, channels, 40, 52, generator=torch.Generator().manual_seed(0))
    scores = scores.contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = resize_scores(scores, size, corners=corners)
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            assert torch.equal(resize_scores(scores, size, corners=corners), alone)
    finally:
        torch.set_num_threads(threads)


def blobs(size: tuple[int, int], sigma: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian blobs (n, 1, rows, columns) and where their centres lie, in pixels from the border."""
    places = np.array([(r, c) for r, c in ((0.25, 0.6), (0.77, 0.22))]) * size
    rows, columns = (np.arange(n) + 0.5 for n in size)
    one = np.exp(-((rows - places[:, :1]) ** 2) / 2 / sigma[0] ** 2)
    other = np.exp(-((columns - places[:, 1:]) ** 2) / 2 / sigma[1] ** 2)
    return (one[:, :, None] * other[:, None, :])[:, None].astype(np.float32), places


def centroids(images: np.ndarray) -> np.ndarray:
    """Centre of mass of each image, in pixels from the border."""
    return np.array([np.array(ndimage.center_of_mass(one.astype(float))) + 0.5 for one in images])


@pytest.mark.parametrize("picture", [False, True])
@pytest.mark.parametrize(("native", "size"), SIZES)
def test_blobs_come_back_to_their_place(native: tuple[int, int], size: tuple[int, int], picture: bool) -> None:
    sigma = tuple(0.05 * n for n in native)
    images, places = blobs(native, sigma)
    small = resize_images(images, size, picture=picture)
    moved = centroids(small[:, 0]) / size * native
    np.testing.assert_allclose(moved, places, atol=0.05)
    back = resize_scores(torch.from_numpy(small), native)
    assert back.shape == images.shape
    np.testing.assert_allclose(centroids(back.numpy()[:, 0]), places, atol=0.05)
    assert np.corrcoef(back.numpy().ravel(), images.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("native", "size"), [*SIZES, ((64, 80), (32, 40)), ((512, 384), (256, 96))])
def test_label_maps_come_back_to_their_place(native: tuple[int, int], size: tuple[int, int]) -> None:
    """Many edges at all positions: on average neither side wins, there alone as well as there and back."""
    rng = np.random.default_rng(0)
    edges = rng.uniform(0.1, 0.9, (2000, 2)) * native
    centres = [np.arange(n) + 0.5 for n in native]
    for axis in (0, 1):
        steps = (centres[axis] > edges[:, axis, None]).astype(np.uint8)  # background below the edge, 1 above it
        labels = np.repeat(steps[:, :, None], 4, 2) if axis == 0 else np.repeat(steps[:, None, :], 4, 1)
        wanted = (size[0], 4) if axis == 0 else (4, size[1])
        small = resize_labels(labels, wanted)
        whole = resize_labels(small, labels.shape[1:])
        pixel = native[axis] / size[axis]
        for made, unit in ((small, pixel), (whole, 1.0)):
            place = (made.shape[1 + axis] - made.any(2 - axis).sum(1)) * unit
            assert abs((place - edges[:, axis]).mean()) < 0.05 * max(1, pixel / 4)
            assert np.abs(place - edges[:, axis]).max() <= pixel + 0.5


def test_labels_stay_the_labels_they_are() -> None:
    rng = np.random.default_rng(0)
    for kind in (np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32):
        labels = rng.choice([0, 3, np.iinfo(kind).max], (2, 37, 50)).astype(kind)
        made = resize_labels(labels, (64, 21))
        assert made.dtype == kind and made.shape == (2, 64, 21) and set(np.unique(made)) == set(np.unique(labels))


@pytest.mark.parametrize(("old", "new"), [(9, 5), (5, 9), (301, 224), (7, 21), (33, 100), (21, 7), (51, 49), (1, 4)])
def test_labels_agree_with_other_libraries(old: int, new: int) -> None:
    """Pillow and PyTorch take the pixel that holds the centre; only ties, of which these sizes have none, differ."""
    labels = np.random.default_rng(0).integers(0, 250, (1, old, old), np.uint8)
    made = resize_labels(labels, (new, new))[0]
    np.testing.assert_array_equal(
        made, np.asarray(Image.fromarray(labels[0]).resize((new, new), Image.Resampling.NEAREST))
    )
    exact = F.interpolate(torch.from_numpy(labels)[None].double(), (new, new), mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(made, exact.numpy())


@pytest.mark.parametrize("picture", [False, True])
@pytest.mark.parametrize(("native", "size"), SIZES[1:])
def test_images_agree_with_pillow(native: tuple[int, int], size: tuple[int, int], picture: bool) -> None:
    """On noise, where the filter, its width and its place all show."""
    images = np.random.default_rng(0).integers(0, 256, (1, 3, *native), np.uint8)
    how = Image.Resampling.BILINEAR if picture else Image.Resampling.BICUBIC

    def pillow(planes: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(Image.fromarray(plane).resize(size[::-1], how)) for plane in planes])

    floats = images.astype(np.float32)
    ours = resize_images(floats, size, picture=picture)[0]
    np.testing.assert_allclose(ours, pillow(floats[0]), atol=1e-2)
    whole = resize_images(images, size, picture=picture)[0]
    assert whole.dtype == np.uint8 and np.abs(whole - ours.clip(0, 255)).max() < 0.51
    if picture:  # of bytes, Pillow rounds between rows and columns
        assert np.abs(whole.astype(int) - pillow(images[0])).max() <= 1


@pytest.mark.parametrize(("native", "size"), SIZES[:3])  # of two middle pixels, one middle pixel takes either
def test_mirrored_in_is_mirrored_out(native: tuple[int, int], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, label = rng.random((1, 1, *native), np.float32), rng.integers(0, 9, (1, *native), np.uint8)
    for axis in (-1, -2):
        made = resize_images(np.flip(image, axis), size, picture=False)
        np.testing.assert_allclose(made, np.flip(resize_images(image, size, picture=False), axis), atol=1e-4)
        np.testing.assert_array_equal(
            resize_labels(np.flip(label, axis), size), np.flip(resize_labels(label, size), axis)
        )


def test_what_has_the_size_is_left_alone() -> None:
    image = np.random.default_rng(0).random((2, 1, 5, 7)).astype(np.float16)
    assert resize_images(image, (5, 7), picture=False) is image
    assert (
        resize_labels(image[:, 0], (5, 7)) is not None
        and resize_images(image, (9, 9), picture=False).dtype == np.float16
    )


@pytest.mark.parametrize(("old", "new"), [(64, 32), (36, 224), (224, 36), (40, 33), (5, 1), (1, 5)])
def test_corners_as_earlier_versions_laid_them(old: int, new: int) -> None:
    """The way back for folders that were prepared before: scipy's zoom, as it was."""
    labels = np.random.default_rng(0).integers(0, 250, (1, old, old), np.uint8)
    made = resize_labels(labels, (new, new), corners=True)[0]
    np.testing.assert_array_equal(made, ndimage.zoom(labels[0], new / old, order=0))
    scores = torch.from_numpy(labels[None].astype(np.float32))
    back = resize_scores(scores, (new, new), corners=True)[0, 0].numpy()
    np.testing.assert_allclose(back, ndimage.zoom(labels[0].astype(np.float32), new / old, order=1), atol=1e-2)


# -- what a network sees -----------------------------------------------------------------------------------------------


class Seeing(torch.nn.Module):
    """Keeps what it is given, and says foreground where it is bright."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold, self.seen = threshold, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        bright = 50 * (x.mean(1, keepdim=True) - self.threshold)
        return torch.cat([-bright, bright], 1)


def noisy_polyps(root: Path, size: tuple[int, int] = (190, 230)) -> Path:
    """Bright lesions under noise that averages away, as the issue's: each pixel alone says little."""
    rng = np.random.default_rng(0)
    for i in range(8):
        rows, columns = np.mgrid[: size[0], : size[1]]
        mask = np.hypot(rows - rng.uniform(60, 120), columns - rng.uniform(60, 160)) < 45
        image = (90 + 70 * mask[..., None] + rng.normal(0, 60, (*size, 3))).clip(0, 255).astype(np.uint8)
        folder = root / ("TrainDataset" if i < 5 else "TestDataset/Kvasir")
        for name, pixels in (("images", image), ("masks", mask.astype(np.uint8) * 255)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return root


SYNAPSE, ACDC = [f"case000{i}" for i in range(1, 5)], [f"patient00{i}" for i in range(1, 5)]
RAW: dict[str, tuple[str, Callable[[Path], Path], tuple[str, ...], str]] = {
    "polyp": ("polyp", noisy_polyps, ("polyp",), "imagenet"),
    "synapse": ("synapse", lambda root: twins.synapse_raw(root, SYNAPSE, size=70), ("liver", "spleen"), "none"),
    "acdc": (
        "acdc",
        lambda root: twins.acdc_raw(root, ACDC),
        ("myocardium",),
        "none",
    ),
}


def opened(name: str, folder: Path, size: int = 48) -> Splits:
    benchmark, write, classes, normalize = RAW[name]
    if not (folder / "out" / "manifest.json").exists():
        prepare(benchmark, write(folder / "raw"), folder / "out", size=size, workers=1, progress=False)
    keys = {"augment": "none", "normalize": normalize, "test_fraction": 0.3}
    return prepared.load_prepared(prepared.PreparedSettings(root=str(folder / "out"), classes=classes, **keys))


def seen_in_evaluation(splits: Splits, size: int = 48, how: str = "linear", whole: bool = True) -> torch.Tensor:
    network = Seeing()
    for case in splits.volumes["test"]:
        predict_case(network, case if whole else replace(case, small=None), InferenceOptions(size, how, batch_size=3))  # type: ignore[arg-type]
    return torch.cat(network.seen)


@pytest.mark.parametrize("name", RAW)
def test_evaluation_feeds_what_training_saw(name: str, tmp_path: Path) -> None:
    splits = opened(name, tmp_path)
    trained = torch.stack([splits.test[i][0] for i in range(len(splits.test))])
    assert torch.equal(seen_in_evaluation(splits), trained)
    again = seen_in_evaluation(splits, whole=False)  # by the same rule, from the finished native image
    np.testing.assert_allclose(again, trained, atol=2e-2)
    assert np.corrcoef(again.numpy().ravel(), trained.numpy().ravel())[0, 1] > 0.9999


@pytest.mark.slow
def test_a_noisy_picture_set_scores_the_same_everywhere(tmp_path: Path) -> None:
    """0.972 in training and 0.500 in evaluation it was: the network met the noise without the filter it had learned."""
    splits = opened("polyp", tmp_path, 112)
    network = Seeing(threshold=0.0)  # halfway in normalised values
    image, label = (
        torch.stack(part) for part in zip(*(splits.train[i] for i in range(len(splits.train))), strict=True)
    )
    bright = image.mean(1)
    network.threshold = float((bright[label == 1].mean() + bright[label == 0].mean()) / 2)
    trained = score_items(network, splits.test, splits.classes).mean
    found = evaluate(network, splits.volumes["test"], splits.classes, how=InferenceOptions(112), progress=False)
    assert trained > 0.9 and found.mean("dice") == pytest.approx(trained, abs=0.01)


def as_before(folder: Path, size: int = 48) -> None:
    """Turn a prepared folder into what earlier versions wrote: scipy's zoom, and no word on it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["cases"]:
        case = folder / "cases" / entry["name"]
        for file, order in (("image", 3), ("label", 0)):
            native = np.load(case / f"{file}.npy")
            factors = [1] * (native.ndim - 2) + [size / n for n in native.shape[-2:]]
            small = ndimage.zoom(native.astype(np.float32), factors, order=order).astype(native.dtype)
            np.save(case / f"{file}_{size}.npy", small)
            entry["files"][f"{file}_{size}.npy"] = sha256(case / f"{file}_{size}.npy")
        for key in ("resize", "reading"):
            entry.pop(key, None)
        (case / "case.json").write_text(json.dumps(entry))
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["linear", "nearest"])
def test_folders_of_earlier_versions_keep_their_rule(how: str, tmp_path: Path) -> None:
    """What a network learned from them it meets again, and its predictions go back the way they came."""
    opened("synapse", tmp_path)
    as_before(tmp_path / "out")
    splits = opened("synapse", tmp_path)
    assert verify(tmp_path / "out") == []
    trained = torch.stack([splits.test[i][0] for i in range(len(splits.test))])
    assert torch.equal(seen_in_evaluation(splits, how=how), trained)
    case = splits.volumes["test"][0]
    assert case.corners
    ramp = np.broadcast_to(np.linspace(-0.5, 1.5, 70, dtype=np.float32), case.image.shape)
    small = ndimage.zoom(ramp, (1, 1, 48 / 70, 48 / 70), order=3)
    found = predict_case(Seeing(), Case("ramp", ramp, case.label, small=small, corners=True), InferenceOptions(48, how))  # type: ignore[arg-type]
    edges = 70 - found.label.sum(-1)
    assert np.abs(edges - 35).max() <= (1 if how == "nearest" else 0)


@pytest.mark.slow
def test_folders_of_earlier_versions_are_made_anew_by_prepare(tmp_path: Path) -> None:
    opened("synapse", tmp_path)
    wanted = {entry.name: entry.files for entry in read_manifest(tmp_path / "out").cases}
    as_before(tmp_path / "out")
    assert {entry.name: entry.files for entry in read_manifest(tmp_path / "out").cases} != wanted
    prepare("synapse", tmp_path / "raw", tmp_path / "out", size=48, workers=1, progress=False)
    assert {entry.name: entry.files for entry in read_manifest(tmp_path / "out").cases} == wanted


# -- slices that are not square ----------------------------------------------------------------------------------------

OBLONG = """
import numpy as np

from lomix_search.data.dataset import Slices, Splits
from lomix_search.data.case import Case


def data(shape, native):
    rng = np.random.default_rng(0)
    images, labels = rng.random((4, 1, *shape), np.float32), np.zeros((4, *shape), np.uint8)
    part = Slices(images, labels, list("abcd"), num_classes=2)
    label = np.zeros(native, np.uint8)
    label[:, native[1] // 4 : native[1] // 2, native[2] // 8 : native[2] // 4] = 1
    case = Case("a", label[:, None].astype(np.float32), label)
    return Splits(part, part, part, ("background", "a"), 1, volumes={"test": [case]})
"""


def oblong(folder: Path, shape: list[int], native: list[int]) -> tuple[Recipe, Splits]:
    recipe = tiny(
        folder, [f"data.kind={folder / 'oblong.py'}:data", "data.wait=", f"data.shape={shape}", f"data.native={native}"]
    )
    (folder / "oblong.py").write_text(OBLONG)
    return recipe, recipe.build_data()


@pytest.mark.parametrize("native", [[3, 24, 40], [3, 48, 80], [3, 96, 64], [2, 21, 90]])
def test_slices_that_are_not_square_keep_rows_and_columns(native: list[int], tmp_path: Path) -> None:
    (tmp_path / "oblong.py").write_text(OBLONG)
    recipe, splits = oblong(tmp_path, [24, 40], native)
    network = Seeing()
    found = recipe.score(network, splits, progress=False)
    assert {tuple(x.shape[2:]) for x in network.seen} == {(24, 40)}
    assert found.mean("dice") == 1 if native[1:] == [24, 40] else found.mean("dice") > 0.8


def test_blocks_need_a_window(tmp_path: Path) -> None:
    (tmp_path / "oblong.py").write_text(OBLONG)
    recipe, splits = oblong(tmp_path, [8, 24, 40], [16, 24, 40])
    with pytest.raises(RecipeError) as error:
        recipe.score(Seeing(), splits, progress=False)
    assert str(error.value) == (
        "the network is trained on blocks of 8 × 24 × 40; whole cases need a sliding window.\n"
        "  Try:  evaluate.window=[8, 24, 40]"
    )
    found = recipe.override({"evaluate.window": [8, 24, 40]}).score(Seeing(), splits, progress=False)
    assert found.mean("dice") == 1
