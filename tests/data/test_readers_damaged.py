"""Files with changed or missing bytes are read, or refused by one error; nothing else is ever raised."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support import own_folders as own

from lomix_search.data.folders.dataset_json import read_dataset_json
from lomix_search.data.folders.reading import read_own
from lomix_search.data.readers.image import read_image
from lomix_search.data.readers.label import names_in, read_label
from lomix_search.errors import LomixError

CT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "core": [1, 2]}}


def label_of_series(path: Path) -> object:
    image = Path(path.parent)
    return names_in(path), read_label(path, read_image(image), [path], {"liver": 1, "tumour": 2})


FILES: dict[str, tuple[Callable[[Path], Path], str, Callable[[Path], object]]] = {
    "NRRD": (own.nrrd_folder, "images/p0.nrrd", read_image),
    "MetaImage": (own.metaimage_folder, "images/p0.mha", read_image),
    "TIFF": (own.tiff_folder, "images/p0.tif", read_image),
    "NIfTI": (lambda root: own.nnunet(root, CT, count=1), "imagesTr/p0_0000.nii.gz", read_image),
    "dataset.json": (lambda root: own.nnunet(root, CT, count=1), "dataset.json", read_dataset_json),
    "SEG": (lambda root: own.dicom_folder(root, "SEG", 1), "p0/label.dcm", label_of_series),
    "RTSTRUCT": (lambda root: own.dicom_folder(root, "RTSTRUCT", 1), "p0/label.dcm", label_of_series),
    "npz": (own.preprocessed, "nnUNetPlans_3d_fullres/p0.npz", lambda p: read_own("p0", ((p,), p), {})),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_error(name: str, tmp_path: Path) -> None:
    make, file, read = FILES[name]
    path, draw, refused = make(tmp_path / "d") / file, random.Random(0), 0
    whole = path.read_bytes()
    read(path)
    for turn in range(40):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 3, 10))):
            content[draw.randrange(len(content) if turn % 2 else min(600, len(content)))] = draw.randrange(256)
        path.write_bytes(content if turn % 8 else content[: draw.randrange(len(content))])
        try:
            read(path)
        except LomixError as error:
            refused += 1
            assert path.name in str(error) or path.parent.name in str(error)
    assert refused
