"""Which mask belongs to which image, by their names."""

from pathlib import Path

import pytest

from lomix_search.data.masks.pairing import Pairs, find_pairs, pair_up, pair_within
from lomix_search.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


PAIRED: dict[str, tuple[list[str], list[str], dict[str, tuple[str, str]]]] = {
    "the same names": (["p1_ct.png"], ["p1_ct.png"], {"p1": ("p1_ct.png", "p1_ct.png")}),
    "endings of both": (["p1_image.png"], ["p1_seg.png"], {"p1": ("p1_image.png", "p1_seg.png")}),
    "CT and MR": (
        ["p1_ct.nii.gz", "p1_mri.nii.gz"],
        ["p1_ct_seg.nii.gz", "p1_mri_seg.nii.gz"],
        {"p1_ct": ("p1_ct.nii.gz", "p1_ct_seg.nii.gz"), "p1_mri": ("p1_mri.nii.gz", "p1_mri_seg.nii.gz")},
    ),
    "upper case": (["A.PNG", "B.NII.GZ"], ["A_mask.png", "B.nii"], {
        "A": ("A.PNG", "A_mask.png"), "B": ("B.NII.GZ", "B.nii")}),
    "subfolders": (["x/1.png", "y/1.png"], ["x/1.png", "y/1_gt.bmp"], {
        "x/1": ("x/1.png", "x/1.png"), "y/1": ("y/1.png", "y/1_gt.bmp")}),
    "Unicode": (["é.png"], ["e\u0301_mask.png"], {"é": ("é.png", "e\u0301_mask.png")}),
    "left behind": (["a.png", "._a.png", "Thumbs.db", ".cache/b.png"], ["a.png", ".DS_Store"], {
        "a": ("a.png", "a.png")}),
    "a number of its own": (["c_0001.png", "c_0002.png"], ["c_0001_mask.png", "c_0002.png"], {
        "c_0001": ("c_0001.png", "c_0001_mask.png"), "c_0002": ("c_0002.png", "c_0002.png")}),
    "an ending of the user's own": (["p1_T1w.nii", "p2_T1w.nii"], ["p1_T1w_hippo.nii", "p2_T1w_hippo.nii"], {
        "p1_T1w": ("p1_T1w.nii", "p1_T1w_hippo.nii"), "p2_T1w": ("p2_T1w.nii", "p2_T1w_hippo.nii")}),
    "endings of the user's own": (["1-venous.png", "2-venous.png"], ["1 liver.png", "2 liver.png"], {
        "1-venous": ("1-venous.png", "1 liver.png"), "2-venous": ("2-venous.png", "2 liver.png")}),
    "BIDS": (["sub-01_T1w.nii", "sub-02_T1w.nii"], ["sub-01_space-T1w_dseg.nii", "sub-02_space-T1w_dseg.nii"], {
        "sub-01_T1w": ("sub-01_T1w.nii", "sub-01_space-T1w_dseg.nii"),
        "sub-02_T1w": ("sub-02_T1w.nii", "sub-02_space-T1w_dseg.nii")}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRED)
def test_pairs(name: str, tmp_path: Path) -> None:
    of_images, of_masks, wanted = PAIRED[name]
    images, masks = touch(tmp_path / "i", *of_images), touch(tmp_path / "m", *of_masks)
    assert find_pairs(images, masks) == {n: ((images / i,), masks / m) for n, (i, m) in wanted.items()}


UNPAIRED: dict[str, tuple[list[str], list[str], list[str]]] = {
    "one mask for two": (["p1_ct.png", "p1_mri.png"], ["p1_seg.png"], ["m/p1_seg.png is the mask of 2 images: p1_ct"]),
    "a channel is missing": (
        ["p_0000.nii", "p_0001.nii", "q_0000.nii"], ["p.nii", "q.nii"],
        ["i/q_0000.nii: its image lacks the channel 0001"],
    ),
    "a picture's sequences": (["p_t1.png", "p_t2.png"], ["p.png"], ["m/p.png is the mask of 2 images: p_t1.png, p_t2"]),
    "two masks for one": (["a.png"], ["a_mask.png", "a_mask_1.png"], ["i/a.png has 2 masks: a_mask.png, a_mask_1.png"]),
    "jpg and png": (["a.jpg", "a.png"], ["a.png"], ["i/a.jpg and a.png have one name"]),
    "masks of one name": (["a.png"], ["a.bmp", "a.png"], ["m/a.bmp and a.png have one name"]),
    "two forms of Unicode": (["é.png", "e\u0301.png"], ["é.png"], ["have one name"]),
    "alone": (["a.png", "b.png"], ["a.png", "c.png"], ["i/b.png has no mask", "m/c.png has no image"]),
    "another kind": (["a.png", "b.gif"], ["a.png", "b.npy"], ["i/b.gif is of a kind", "m/b.npy is of a kind"]),
    "volume and picture": (["a.nii.gz"], ["a.png"], ["are a volume and a picture"]),
    "an ending of the user's own, and one is missing": (
        ["p1.png", "p2.png", "p3.png"], ["p1_tumour.png", "p3_tumour.png"], ["i/p2.png has no mask"]),
    "an ending that fits some": (
        ["p1.png", "p2.png"], ["p1_tumour.png", "q2_tumour.png"], ["p1.png has no mask", "p1_tumour.png has no image"]),
    "another folder": (["x/a.png"], ["y/a.png"], ["i/x/a.png has no mask", "m/y/a.png has no image"]),
    "nothing": ([], ["notes.txt"], ["no file that is read here"]),
}  # fmt: skip


def test_it_is_said_which_endings_were_left_out(tmp_path: Path) -> None:
    for kind, ending in (("scans", "_T1w"), ("segmentations", "_T1w_hippo")):
        touch(tmp_path / kind, *(f"Patient_{n:02d}{ending}.nii.gz" for n in range(3)))
    found = pair_within(tmp_path)
    assert len(found.pairs) == 3 and not found.faults
    assert found.note == "paired by what is left of their names: images end in _T1w, masks end in _T1w_hippo"


@pytest.mark.parametrize("name", UNPAIRED)
def test_what_does_not_pair_up_is_named(name: str, tmp_path: Path) -> None:
    of_images, of_masks, wanted = UNPAIRED[name]
    (tmp_path / "i").mkdir()
    images, masks = touch(tmp_path / "i", *of_images), touch(tmp_path / "m", *of_masks)
    with pytest.raises(DataError) as error:
        find_pairs(images, masks)
    assert all(words in str(error.value) for words in wanted), str(error.value)


def test_one_folder_in_the_other(tmp_path: Path) -> None:
    images, masks = touch(tmp_path, "a.png", "b.png"), touch(tmp_path / "masks", "a.png", "b_mask.png")
    assert list(find_pairs(images, masks)) == ["a", "b"]
    (tmp_path / "masks" / "c.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"c\.png and .*c\.png are one file"):
        find_pairs(images, masks)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    images, masks = touch(tmp_path / "i", "x/a.png"), touch(tmp_path / "m", "x/a.png")
    (tmp_path / "i" / "x" / "round").symlink_to(tmp_path / "i")
    touch(tmp_path / "far", "b.png")
    for folder in (images, masks):
        (folder / "y").symlink_to(tmp_path / "far")
    with pytest.raises(DataError, match=r"b\.png and .*b\.png are one file"):
        find_pairs(images, masks)
    (masks / "y").unlink()
    touch(masks, "y/b.png")
    assert list(find_pairs(images, masks)) == ["x/a", "y/b"]


def names(found: Pairs) -> dict[str, tuple[str, str]]:
    return {n: (" ".join(path.name for path in images), mask.name) for n, (images, mask) in found.pairs.items()}


WITHIN: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "endings": (
        "a.png a_mask.png b.png b-seg.tif",
        {"a": ("a.png", "a_mask.png"), "b": ("b.png", "b-seg.tif")},
    ),
    "beginnings": (
        "img_7.png mask_7.png image_8.png seg_8.png",
        {"img_7": ("img_7.png", "mask_7.png"), "image_8": ("image_8.png", "seg_8.png")},
    ),
    "photos with masks that keep values": (
        "a.jpg a.png b.JPEG b.png",
        {"a": ("a.jpg", "a.png"), "b": ("b.JPEG", "b.png")},
    ),
    "exact names first": (
        "images/a.png images/img_a.png masks/a.png masks/img_a_mask.png",
        {"a": ("a.png", "a.png"), "img_a": ("img_a.png", "img_a_mask.png")},
    ),
    "folders below those of sets": (
        "train/images/1.png train/masks/1.png test/images/1.png test/gt/1.png",
        {"test/1": ("1.png", "1.png"), "train/1": ("1.png", "1.png")},
    ),
    "a folder a patient": (
        "p1/image.nii.gz p1/label.nii.gz p2/ct.nii p2/seg.nii",
        {"p1": ("image.nii.gz", "label.nii.gz"), "p2": ("ct.nii", "seg.nii")},
    ),
    "images and labels of a patient": (
        "p1/images/a.mha p1/labels/a.mha p2/images/b.mha p2/labels/b.mha",
        {"p1/a": ("a.mha", "a.mha"), "p2/b": ("b.mha", "b.mha")},
    ),
    "sequences": (
        "B1/B1_t1.nii B1/B1_flair.nii B1/B1_seg.nii B2/B2_flair.nii B2/B2_t1.nii B2/B2_seg.nii",
        {"B1/B1": ("B1_flair.nii B1_t1.nii", "B1_seg.nii"), "B2/B2": ("B2_flair.nii B2_t1.nii", "B2_seg.nii")},
    ),
    "sequences alone": (
        "p/t1.nrrd p/t2.nrrd p/mask.seg.nrrd",
        {"p": ("t1.nrrd t2.nrrd", "mask.seg.nrrd")},
    ),
    "segments beside their volume": (
        "a.nrrd a.seg.nrrd b.nrrd b.seg.nrrd",
        {"a": ("a.nrrd", "a.seg.nrrd"), "b": ("b.nrrd", "b.seg.nrrd")},
    ),
    "test images without labels": (
        "imagesTr/a_0000.nii.gz labelsTr/a.nii.gz imagesTs/b_0000.nii.gz",
        {"a": ("a_0000.nii.gz", "a.nii.gz")},
    ),
    "numbers that are those of frames": (
        "images/v_0000.png images/v_0001.png masks/v_0000.png masks/v_0001.png",
        {"v": ("v_0000.png", "v_0000.png"), "v_0001": ("v_0001.png", "v_0001.png")},
    ),
}


@pytest.mark.parametrize("name", WITHIN)
def test_images_and_masks_in_one_folder(name: str, tmp_path: Path) -> None:
    files, wanted = WITHIN[name]
    found = pair_within(touch(tmp_path, *files.split()))
    found.check()
    assert names(found) == wanted


def test_channels_of_one_image_are_one_image(tmp_path: Path) -> None:
    files = ["p_0001.nii.gz", "p_0000.nii.gz", "q_0000.nii.gz", "q_0001.nii.gz"]
    found = pair_up(touch(tmp_path / "i", *files), touch(tmp_path / "m", "p.nii.gz", "q.nii.gz"))
    assert names(found) == {n: (f"{n}_0000.nii.gz {n}_0001.nii.gz", f"{n}.nii.gz") for n in "pq"}
    assert found.channels == ("0000", "0001") and found.images == 4
