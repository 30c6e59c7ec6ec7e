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
    """A wheel's folder with two kernels, and no compiler."""
    loaded = kernel_cache.library()
    assert isinstance(loaded, ctypes.CDLL)
    content = Path(loaded._name).read_bytes()
    for kind in ("baseline", "avx2"):
        made = content + kind.encode()  # what stands behind a library is not read
        (tmp_path / f"kernel-{kind}-{hashlib.sha256(made).hexdigest()}.so").write_bytes(made)
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def test_the_fastest_that_runs_here_is_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, basic = prebuilt.prebuilt_kernel(), prebuilt.prebuilt_kernel(baseline=True)
    assert found is not None and basic is not None
    assert prebuilt.prebuilt_kind(basic) == "baseline"
    assert prebuilt.prebuilt_kind(found) == ("avx2" if basic.lomix_has_avx2() else "baseline")
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
