"""Preprocessed files: their values as stored, every fault named, nothing outside the file read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.nifti_files import refused

from lomix_search.data.readers.npz_h5 import read_h5, read_npz


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def _liar(path: Path) -> None:
    """An array whose header claims 32767³ values."""
    import io
    import zipfile

    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (32767,) * 3})
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("image", "label"):
            archive.writestr(f"{key}.npy", content.getvalue() + b"\0" * 64)


VOLUME = np.ones((2, 3, 4), np.float32)
NPZ: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no label": (lambda p: np.savez(p, image=VOLUME), "has no label"),
    "other case": (lambda p: np.savez(p, Image=VOLUME, Label=VOLUME), "has no image and no label"),
    "objects": (lambda p: np.savez(p, image=VOLUME, label=np.array([Evil()], object)), "never loaded"),
    "strings": (lambda p: np.savez(p, image=np.array(["a"]), label=VOLUME), "one real number"),
    "complex": (lambda p: np.savez(p, image=VOLUME * 1j, label=VOLUME), "complex"),
    "records": (lambda p: np.savez(p, image=np.zeros(3, [("a", "f4")]), label=VOLUME), "records"),
    "swapped": (lambda p: np.savez(p, image=VOLUME, label=VOLUME * 0.3), "labels must be whole"),
    "shapes": (lambda p: np.savez(p, image=VOLUME, label=VOLUME[1:]), "different shapes"),
    "a slice": (lambda p: np.savez(p, image=VOLUME[0], label=VOLUME[0]), "a volume has 3 axes"),
    "channels": (lambda p: np.savez(p, image=VOLUME[None], label=VOLUME[None]), "a volume has 3 axes"),
    "nothing": (lambda p: np.savez(p, image=VOLUME[:0], label=VOLUME[:0]), "a volume has 3 axes"),
    "npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\0v\0"), "cannot be read"),
    "a header of 32767³": (_liar, "cannot be read"),
    "cut": (lambda p: (np.savez(p, image=VOLUME, label=VOLUME), p.write_bytes(p.read_bytes()[:300])), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", NPZ)
def test_npz_faults_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    NPZ[name][0](path)
    text = refused(read_npz, path, "image", 3)
    assert NPZ[name][1] in text and str(path) in text.splitlines()[0], text
    assert not (tmp_path / "evil").exists()


def _h5(**content: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path.parent / "other.h5", "w") as other:
            other["image"] = VOLUME
        (path.parent / "secret.bin").write_bytes(VOLUME.tobytes())
        with h5py.File(path, "w") as file:
            for key, value in ({"image": VOLUME, "label": VOLUME} | content).items():
                if callable(value):
                    value(file, key)
                elif value is not None:
                    file[key] = value

    return write


def _virtual(file: Any, key: str) -> None:
    layout = h5py.VirtualLayout(VOLUME.shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "image", VOLUME.shape)
    file.create_virtual_dataset(key, layout)


H5: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no label": (_h5(label=None), "has no label"),
    "external link": (_h5(image=h5py.ExternalLink("other.h5", "/image")), "is a link"),
    "soft link": (_h5(image=h5py.SoftLink("/label")), "is a link"),
    "broken link": (_h5(label=h5py.ExternalLink("/etc/passwd", "/label")), "is a link"),
    "virtual": (_h5(image=_virtual), "lies in other files"),
    "raw storage": (
        _h5(
            image=lambda f, k: f.create_dataset(k, VOLUME.shape, "f4", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])
        ),
        "lies in other files",
    ),
    "a group": (_h5(label=lambda f, k: f.create_group(k)), "no array"),
    "text": (_h5(image="hello"), "one real number"),
    "objects": (_h5(image=lambda f, k: f.create_dataset(k, (3,), h5py.vlen_dtype(np.int32))), "never loaded"),
    "complex": (_h5(image=VOLUME * 1j), "complex"),
    "shapes": (_h5(label=VOLUME[1:]), "different shapes"),
    "fractions": (_h5(label=VOLUME * 0.5), "labels must be whole"),
    "a number": (_h5(image=np.float32(1), label=np.float32(1)), "a volume has 3 axes"),
    "nothing": (_h5(image=h5py.Empty("f4")), ""),
    "never written": (_h5(image=lambda f, k: f.create_dataset(k, (32767,) * 3, "f4", chunks=True)), "never written"),
    "text file": (lambda p: p.write_text("hello"), "cannot be read"),
    "cut": (lambda p: (_h5()(p), p.write_bytes(p.read_bytes()[:1000])), "cannot be read"),
}


@pytest.mark.parametrize("name", H5)
def test_h5_faults_are_named_and_other_files_never_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    H5[name][0](path)
    text = refused(read_h5, path)
    assert H5[name][1] in text and str(path) in text.splitlines()[0], text


def test_npz_and_h5_keep_their_values(tmp_path: Path) -> None:
    label = np.arange(24, dtype=np.int64).reshape(2, 3, 4) * 100
    np.savez(tmp_path / "a.npz", image=VOLUME.astype(np.float16), label=label)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = VOLUME
        file.create_dataset("label", data=label, compression="gzip")
    for image, read in (read_npz(tmp_path / "a.npz", "image", 3), read_h5(tmp_path / "a.h5")):
        np.testing.assert_array_equal(read, label)
        assert image.dtype == np.float32
