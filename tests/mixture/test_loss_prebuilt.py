"""The kernels that wheels bring: loaded only if whole, the fastest that the processor can run, before any compiler."""

import ctypes
import hashlib
import sys
from pathlib import Path

import pytest

from lomix_search.mixture.loss import dispatch
from lomix_search.mixture.loss.backends import kernel_cache, prebuilt

pytestmark = pytest.mark.skipif(
    isinstance(kernel_cache.library(), str) or sys.platform != "linux", reason="no C++ compiler here"
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A wheel's folder with its kernels, and no compiler."""
    loaded = kernel_cache.library()
    assert isinstance(loaded, ctypes.CDLL)
    content = Path(loaded._name).read_bytes()
    for kind in prebuilt.KINDS:
        made = content + kind.encode()  # what stands behind a library is not read
        (tmp_path / f"kernel-{kind}-{hashlib.sha256(made).hexdigest()}.so").write_bytes(made)
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def test_the_fastest_that_runs_here_is_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    basic = prebuilt.prebuilt_kernel("baseline")
    assert basic is not None and prebuilt.prebuilt_kind(basic) == "baseline"
    flags = Path("/proc/cpuinfo").read_text().split()
    assert basic.lomix_level() == (2 if "avx512vl" in flags else 1 if "avx2" in flags else 0)
    for most, kind in enumerate(prebuilt.KINDS):
        found = prebuilt.prebuilt_kernel(kind)
        assert found is not None
        assert prebuilt.prebuilt_kind(found) == prebuilt.KINDS[min(most, basic.lomix_level())]
    monkeypatch.setattr(dispatch, "library", lambda: basic)
    assert dispatch.engine_report().endswith("threads, prebuilt for any processor")


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_one_is_not_loaded(folder: Path, damage: str) -> None:
    for path in folder.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:5000] if damage == "cut" else whole[:-1] + b"x")
    assert prebuilt.prebuilt_kernel() is None


def test_it_comes_before_the_compiler_unless_told_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, expected in (("", True), ("baseline", True), ("compile", False)):
        monkeypatch.setenv("LOMIX_NATIVE", wanted)
        found = kernel_cache.library.__wrapped__()
        assert isinstance(found, ctypes.CDLL) == expected, found
