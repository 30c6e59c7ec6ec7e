"""The compiled kernel and its cache: what is found there is loaded only if it is whole and ours; odd compilers."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lomix_search.mixture.loss import dispatch as engines
from lomix_search.mixture.loss.backends import compiler, kernel_cache

pytestmark = pytest.mark.skipif(
    isinstance(kernel_cache.library(), str) or sys.platform != "linux", reason="no C++ compiler here"
)
Set = Callable[[str, object], None]

TINY = """#!/bin/sh
# stands for a compiler: what it "compiles" is a library that was compiled before
echo run >> {log}
while [ "$1" != -o ]; do shift; done
cp {library} "$2"
"""


@pytest.fixture
def set_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Set]:
    """Forget the loaded kernel, and have a cache of this test's own and a compiler that takes no time."""
    real = kernel_cache.library()
    assert isinstance(real, ctypes.CDLL)
    (tmp_path / "real.so").write_bytes(Path(real._name).read_bytes())
    compiler = tmp_path / "c++"
    compiler.write_text(TINY.format(log=tmp_path / "log", library=tmp_path / "real.so"))
    compiler.chmod(0o755)

    def put(name: str, value: object) -> None:
        monkeypatch.setenv(name, str(value))
        kernel_cache.library.cache_clear()

    put("LOMIX_CACHE", tmp_path / "cache")
    put("CXX", compiler)
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    yield put
    monkeypatch.undo()
    kernel_cache.library.cache_clear()


def loaded() -> Path:
    """Load the kernel anew, as another process would, and return where it was found."""
    kernel_cache.library.cache_clear()
    library = kernel_cache.library()
    assert isinstance(library, ctypes.CDLL), library
    return Path(library._name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "log").read_text().splitlines())


def other_library(tmp_path: Path) -> bytes:
    """Return a library that leaves a file where it is loaded."""
    (tmp_path / "evil.c").write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) static void f(void) {{ fopen("{tmp_path}/evil", "w"); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "evil.so"), str(tmp_path / "evil.c")], check=True)
    return (tmp_path / "evil.so").read_bytes()


def test_it_is_compiled_once_and_then_found(set_: Set, tmp_path: Path) -> None:
    first = loaded()
    assert first.parent == tmp_path / "cache"
    assert (first.stat().st_mode & 0o777, first.parent.stat().st_mode & 0o777) == (0o644, 0o700)
    stamp = first.stat().st_mtime_ns
    assert loaded() == first and first.stat().st_mtime_ns == stamp
    assert runs(tmp_path) == 1
    assert names(tmp_path / "cache") == [first.name]
    assert engines.choose_engine("auto", "cpu") == "native"
    threads = torch.get_num_threads()
    assert engines.engine_report() == f"native: C++ kernel, {threads} threads, kept in {tmp_path / 'cache'}"


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "zeros", "folder"])
def test_a_damaged_library_is_never_loaded_but_made_anew(set_: Set, tmp_path: Path, damage: str) -> None:
    """A library that was cut ends the process with SIGBUS as it is touched: for ever, if it is loaded again."""
    path = loaded()
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        middle = len(whole) // 2
        path.write_bytes({
            "cut": whole[:5000],
            "empty": b"",
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "zeros": whole[:middle] + bytes(len(whole) - middle),
        }[damage])  # fmt: skip
    again = loaded()
    assert again.read_bytes() == whole
    assert runs(tmp_path) == 2
    assert loaded() == again
    assert runs(tmp_path) == 2


def test_a_library_put_in_its_place_is_not_loaded(set_: Set, tmp_path: Path) -> None:
    path, evil = loaded(), other_library(tmp_path)
    stem = path.name.rpartition("-")[0]
    whole = path.read_bytes()
    for name in (path.name, f"{stem}.so", f"{stem}-{'0' * 64}.so"):
        (path.parent / name).unlink(missing_ok=True)  # what is loaded must not change: the process would end by SIGBUS
        (path.parent / name).write_bytes(evil)
    assert loaded().read_bytes() == whole
    assert not (tmp_path / "evil").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_others_own_or_may_write_is_not_loaded(set_: Set, tmp_path: Path) -> None:
    """Not even where the checksum is right: who can name a file can compute it."""
    path, evil = loaded(), other_library(tmp_path)
    planted = path.parent / f"{path.name.rpartition('-')[0]}-{kernel_cache._digest(evil)}.so"
    whole = path.read_bytes()
    path.unlink()
    for owner, mode in ((65534, 0o644), (0, 0o666), (0, 0o664)):
        planted.write_bytes(evil)
        planted.chmod(mode)
        os.chown(planted, owner, owner)
        found = loaded()
        assert found != planted and found.read_bytes() == whole
        found.unlink()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["open to all", "open to the group", "parent open to all", "of another user"])
def test_a_folder_that_others_can_write_to_is_left_alone(set_: Set, tmp_path: Path, kind: str) -> None:
    loaded()
    folder = tmp_path / "cache"
    if kind == "of another user":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(folder, 65534, 65534)
    elif kind == "parent open to all":
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        shutil.copytree(folder, tmp_path / "open" / "cache")
        set_("LOMIX_CACHE", folder := tmp_path / "open" / "cache")
    else:
        folder.chmod(0o777 if kind == "open to all" else 0o770)
    before = names(folder)
    own = loaded()
    assert own.parent == tmp_path / f"lomix_search-{os.geteuid()}"  # among the temporary files
    assert (names(folder), own.parent.stat().st_mode & 0o777) == (before, 0o700)
    assert loaded() == own
    assert runs(tmp_path) == 2


def test_without_a_home_it_is_kept_among_the_temporary_files(
    set_: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOMIX_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kernel_cache.os.path, "expanduser", lambda path: path)  # of a user that has no entry either
    assert loaded().parent == tmp_path / f"lomix_search-{os.geteuid()}"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    assert loaded().parent == tmp_path / f"lomix_search-{os.geteuid()}"
    assert runs(tmp_path) == 1


def test_no_place_at_all_is_said(set_: Set, tmp_path: Path) -> None:
    """Files stand where the folders should be."""
    (tmp_path / "cache").write_text("")
    (tmp_path / f"lomix_search-{os.geteuid()}").write_text("")
    kernel_cache.library.cache_clear()
    assert engines.choose_engine("auto", "cpu") == "tiled"
    assert kernel_cache.library() == (
        f"no place to keep it: {tmp_path}/cache: File exists; {tmp_path}/lomix_search-{os.geteuid()}: File exists"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("script", "reason"), [
    (r"printf 'Fehler: f\374r\n' >&2; exit 1", "failed: Fehler: f\ufffdr"),
    ("echo; echo '   '; exit 1", "returned non-zero exit status 1."),
    ("kill -9 $$", "died with <Signals.SIGKILL: 9>."),
    ("exit 0", "failed: [Errno 2] No such file or directory"),
    ("exec sleep 60", "timed out after 1 seconds"),
    ("sleep 60 & sleep 60", "timed out after 1 seconds"),
])  # fmt: skip
def test_a_compiler_that_fails_in_whatever_way(
    set_: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(compiler, "TIMEOUT", 1)
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    set_("CXX", broken)
    begun = time.monotonic()
    assert reason in engines.engine_report()
    assert time.monotonic() - begun < 30
    assert engines.choose_engine("auto", "cpu") == "tiled"
    assert not names(tmp_path / "cache")
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(broken) not in running  # what it had started went with it


def test_a_library_that_cannot_be_loaded_is_not_kept(set_: Set, tmp_path: Path) -> None:
    (tmp_path / "real.so").write_bytes(b"no library")
    assert "no place to keep it" in str(kernel_cache.library())
    assert not names(tmp_path / "cache")


def test_what_a_killed_process_left_is_swept_after_a_day(set_: Set, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    old, new = tmp_path / "cache" / ".kernel-1.so.abc", tmp_path / "cache" / ".kernel-2.so.def"
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    loaded()
    assert (old.exists(), new.exists()) == (False, True)


TOGETHER = """
import ctypes, os, sys, time
from pathlib import Path
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.backends import kernel_cache
assert kernel_cache.library.cache_info().currsize == 0
Path(sys.argv[1], f"ready {os.getpid()}").touch()
while not os.path.exists(f"{sys.argv[1]}/go"):
    time.sleep(0.001)
assert isinstance(kernel_cache.library(), ctypes.CDLL), kernel_cache.library()
"""


@pytest.mark.slow
def test_importing_compiles_nothing_and_processes_that_start_together_share_one(set_: Set, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until = time.monotonic() + 300
    while len(list(tmp_path.glob("ready *"))) < len(started) and all(one.poll() is None for one in started):
        assert time.monotonic() < until
        time.sleep(0.1)
    (tmp_path / "go").write_text("")
    for one in started:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    assert len(names(tmp_path / "cache")) == 1
    assert loaded().parent == tmp_path / "cache"


WITHOUT_AVX = """
import time, torch
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.backends import compiler
compiler.TUNE = (("-march=x86-64", "-ffp-contract=fast"),)  # SSE2 alone
torch.set_num_threads(1)
for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
    torch.manual_seed(0)
    loss = MixtureLoss("lomix", 4, 9).to(dtype)
    maps = [torch.randn(2, 9, 48, 48, dtype=dtype, requires_grad=True) for _ in range(4)]
    labels = torch.randint(9, (2, 48, 48))
    found, seconds = {}, {}
    for engine in ("native", "tiled", "reference"):
        loss.engine = engine
        for _ in range(3):
            begun = time.process_time()
            total = loss(maps, labels)
            found[engine] = total, *torch.autograd.grad(total, maps)
            spent = time.process_time() - begun
            seconds[engine] = min(spent, seconds.get(engine, spent))
    for one, other in zip(found["native"], found["reference"]):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert min(seconds, key=seconds.get) == "native", seconds
"""


@pytest.mark.slow  # it compiles
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86")
def test_without_avx_it_is_right_and_still_the_fastest(
    set_: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it may be chosen there: vectors of 32 bytes made it slower than plain PyTorch."""
    monkeypatch.delenv("CXX")
    subprocess.run([sys.executable, "-c", WITHOUT_AVX], check=True)
    assert len(names(tmp_path / "cache")) == 1


ZIG = """# stands for the package: what it "compiles" is a library that was compiled before
import os, shutil, sys
assert sys.argv[1] == "c++" and os.environ["ZIG_GLOBAL_CACHE_DIR"], sys.argv
open({log!r}, "a").write("run\\n")
shutil.copy({library!r}, sys.argv[sys.argv.index("-o") + 1])
"""


def test_without_a_compiler_the_package_ziglang_is_one(
    set_: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, log = tmp_path / "packages", tmp_path / "log"
    (packages / "ziglang").mkdir(parents=True)
    (packages / "ziglang" / "__main__.py").write_text(ZIG.format(log=str(log), library=str(tmp_path / "real.so")))
    (packages / "ziglang-1.dist-info").mkdir()
    (packages / "ziglang-1.dist-info" / "METADATA").write_text("Name: ziglang\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(packages))
    for name, value in {"CXX": "", "PATH": tmp_path / "nowhere", "PYTHONPATH": packages}.items():
        set_(name, value)
    assert loaded().parent == loaded().parent == tmp_path / "cache" and len(log.read_text().split()) == 1
    (tmp_path / "cache").chmod(0o777)  # others could have put it there
    assert loaded().parent != tmp_path / "cache" and len(log.read_text().split()) == 2
