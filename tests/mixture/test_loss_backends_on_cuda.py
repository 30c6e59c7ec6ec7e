"""Which engine a GPU gets, and why: what is asked of the machine is answered here, as no GPU is at hand."""

import inspect
import os
import shutil
from pathlib import Path

import pytest
import torch

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss, module
from lomix_search.mixture.loss.backends import on_cuda
from lomix_search.mixture.loss.dispatch import choose_engine, cuda_report

REFERENCE_ROW = 48 * 6 * 9 * 224 * 224


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch):
    """Versions of packages are read as if triton were older than any that we know."""
    monkeypatch.setattr(on_cuda, "version", lambda name: "3.1.0")
    on_cuda._unfit_triton.cache_clear()
    yield
    on_cuda._unfit_triton.cache_clear()


@pytest.mark.parametrize(("gib", "engine"), [(40, "reference"), (2, "tiled"), (None, "reference")])
def test_without_triton_the_reference_is_taken_while_it_fits(
    gib: int | None, engine: str, without_triton: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 maps of the reference row took 1,859 MiB on an H100; at most half of the free memory is taken."""
    monkeypatch.setattr(on_cuda, "free_memory", lambda: None if gib is None else gib * 2**30)
    assert choose_engine("auto", "cuda", 4, 9, values=REFERENCE_ROW) == engine
    report = cuda_report(4, 9, REFERENCE_ROW)
    assert report.startswith(f"{engine}: plain PyTorch, ")
    assert report.endswith("cannot run: triton 3.1.0 is too old, 3.2 or later is needed")


def test_an_engine_asked_for_by_name_says_what_is_missing(without_triton: None) -> None:
    with pytest.raises(LossError, match=r'engine "triton" cannot run on cuda: triton 3\.1\.0 is too old'):
        choose_engine("triton", "cuda", 4, 9)


def test_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cuda, "_unfit_triton", lambda: "")
    assert choose_engine("auto", "cuda", 8, 64) == "triton"
    assert choose_engine("auto", "cuda", 9, 64) == choose_engine("auto", "cuda", 8, 65) == "reference"
    assert cuda_report(8, 64).startswith("triton: ")
    assert cuda_report(4, 100).endswith("it takes up to 8 maps of up to 64 classes, not 4 of 100")


@pytest.fixture
def another_gpu(monkeypatch: pytest.MonkeyPatch):
    """A GPU whose generation a test chooses, with a Triton whose first kernel runs on the CPU's interpreter only."""
    found: dict[str, object] = {"capability": (9, 0), "first": ""}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: found["capability"])
    monkeypatch.setattr(on_cuda, "_unfit_triton", lambda: "")
    monkeypatch.setattr(on_cuda, "version", lambda name: "3.2.0")
    monkeypatch.setattr(on_cuda, "free_memory", lambda: None)
    monkeypatch.setattr(on_cuda, "_first_run", lambda: found["first"])
    on_cuda._unfit_gpu.cache_clear()
    yield found
    on_cuda._unfit_gpu.cache_clear()


def test_a_gpu_of_another_generation_falls_back_and_says_why(another_gpu: dict[str, object]) -> None:
    another_gpu["capability"] = (6, 1)
    assert cuda_report(4, 9).endswith("cannot run: Some GPU has compute capability 6.1, 7.0 is needed")
    on_cuda._unfit_gpu.cache_clear()
    another_gpu.update(capability=(12, 0), first="PTXASError: ptxas fatal: Value 'sm_120' is not defined")
    assert choose_engine("auto", "cuda", 4, 9) == "reference"
    assert cuda_report(4, 9).endswith(
        "cannot run: a first kernel failed with triton 3.2.0 (Some GPU has compute capability 12.0): "
        "PTXASError: ptxas fatal: Value 'sm_120' is not defined"
    )
    on_cuda._unfit_gpu.cache_clear()
    another_gpu["first"] = ""
    assert choose_engine("auto", "cuda", 4, 9) == "triton"


def test_the_loss_itself_goes_tile_by_tile_where_the_maps_do_not_fit(
    without_triton: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks with the size of its maps, as ``lomix doctor`` does."""
    asked: list[dict[str, object]] = []
    chosen = inspect.signature(choose_engine)

    def noted(*given: object) -> str:
        asked.append(chosen.bind(*given).arguments)
        return "reference"

    monkeypatch.setattr(module, "choose_engine", noted)
    for multilabel, shape in ((False, (2, 5, 6)), (True, (2, 3, 5, 6))):
        loss = MixtureLoss("lomix", 2, 3, multilabel=multilabel)
        loss([torch.zeros(2, 3, 5, 6)] * 2, torch.zeros(shape, dtype=torch.long))
    assert [given["values"] for given in asked] == [len(loss.maps) * 2 * 3 * 5 * 6] * 2


def test_its_launcher_wants_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cuda, "version", lambda name: "3.6.0")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    on_cuda._unfit_triton.cache_clear()
    try:
        assert on_cuda.missing_triton("cuda", 4, 9) == "Triton needs a C compiler once, for its launcher: gcc or clang"
    finally:
        on_cuda._unfit_triton.cache_clear()


def test_what_is_compiled_is_kept_elsewhere_where_the_usual_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    on_cuda.private_cache_if_needed()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "file" / "cache"))
    on_cuda.private_cache_if_needed()
    private = Path(os.environ["TRITON_CACHE_DIR"])
    assert private.stat().st_mode & 0o777 == 0o700
    private.rmdir()
