"""What stands in the way of a run folder: another run, a full or closed disk, a lock that is none."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.forked import in_child
from support.runs import run, same
from support.shapes import Shapes
from torch import Tensor

from lomix_search.errors import RunError
from lomix_search.experiments.figures import new_figure, save_figure
from lomix_search.training import run_folder as lock
from lomix_search.training.checkpoint import latest_checkpoint
from lomix_search.utils.files import write_bytes


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        said = in_child(lambda: run(tmp_path) and None)
        with lock.hold(tmp_path):  # twice in one thread is once
            pass
        assert (tmp_path / "lock").exists()
    assert said == (
        f"{tmp_path} is in use: another process runs in it.\n"
        f"  Seen: process {os.getpid()} on {os.uname().nodename}\n"
        "  Try:  wait until it ends, or take another folder: --folder runs/another"
    )
    assert not (tmp_path / "lock").exists() and not (tmp_path / "checkpoints").exists()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    """Not even where a child of its own, such as a data worker, lives on."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock.hold(tmp_path):
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
                os._exit(0)
            os.write(writing, f"{worker}\n".encode())
            time.sleep(60)
    with os.fdopen(reading) as pipe:
        worker = int(pipe.readline())
    assert in_child(lambda: lock.hold(tmp_path).__enter__()).startswith(f"{tmp_path} is in use")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        with lock.hold(tmp_path):
            assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} ")
    finally:
        os.kill(worker, signal.SIGKILL)


def test_leftovers_of_a_killed_process_are_swept_away(tmp_path: Path) -> None:
    run(tmp_path, steps=3)
    (tmp_path / "evaluation").mkdir()
    stale = [
        tmp_path / ".mixture.json.ab_12xyz",
        tmp_path / "checkpoints/.step_00000006.pt.abcdefgh",
    ]  # as before
    stale += [tmp_path / f"{name}.abcd_123.part" for name in (".seen.npz", ".wandb_id", "evaluation/.scores.csv")]
    kept = [tmp_path / ".notes", tmp_path / "checkpoints/.step_00000006.pt", tmp_path / "scores.abcd_123.part"]
    for path in (*stale, *kept):
        path.write_text("x")
    run(tmp_path, steps=3, resume=True)
    assert not any(path.exists() for path in stale) and all(path.exists() for path in kept)


def test_a_kill_inside_a_write_leaves_what_the_sweep_knows(tmp_path: Path) -> None:
    """The name of a file that is being written is taken from a real, killed write."""
    pid = os.fork()
    if pid == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_bytes(tmp_path / "anything.xyz", b"x")
    os.waitpid(pid, 0)
    (left,) = tmp_path.iterdir()
    lock.sweep(tmp_path, age=3600)  # another process may be writing it
    assert left.exists()
    lock.sweep(tmp_path)
    assert not left.exists()


VICTIM = "export PATH=/usr/bin\n"


@pytest.mark.parametrize("kind", ("symbolic", "dangling", "hard", "other", "fifo", "folder"))
def test_a_lock_that_is_none_is_not_written_to(tmp_path: Path, kind: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "run/lock"
    path.parent.mkdir()
    if kind != "dangling":
        victim.write_text(VICTIM)
    makers: dict[str, Callable[[], object]] = {
        "symbolic": lambda: path.symlink_to(victim),
        "dangling": lambda: path.symlink_to(victim),
        "hard": lambda: path.hardlink_to(victim),
        "other": lambda: path.write_text(VICTIM),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    makers[kind]()
    with pytest.raises(RunError) as caught, lock.hold(path.parent):
        pass
    assert str(caught.value).startswith(f"{path} is not the lock of a run")
    assert victim.read_text() == VICTIM if kind != "dangling" else not victim.exists()
    assert kind != "other" or path.read_text() == VICTIM
    assert os.path.lexists(path)


def test_a_picture_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text(VICTIM)
    for name in ("weights.png", ".weights.png"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    save_figure(new_figure(1, 1), tmp_path / "weights.png")
    assert (tmp_path / "victim").read_text() == VICTIM
    assert (tmp_path / "weights.png").read_bytes().startswith(b"\x89PNG")


def limited(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    run(folder, resume=True)


@pytest.mark.slow
def test_a_file_that_cannot_grow_is_a_clear_error_and_the_run_goes_on_later(whole: Path, tmp_path: Path) -> None:
    said = in_child(lambda: limited(tmp_path / "a"))
    assert said.startswith(f"{tmp_path}/a/checkpoints/step_00000000.pt cannot be written: File too large.\n  Seen: ")
    assert said.splitlines()[2] == (
        "  Try:  free some space, then the same command with --resume; what was written before is whole"
    )
    assert not list((tmp_path / "a/checkpoints").iterdir())
    run(tmp_path / "a", resume=True)
    same(tmp_path / "a", whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for little more than two checkpoints."""
    run(tmp_path / "measured", steps=3)
    size = sum(path.stat().st_size for path in (tmp_path / "measured").rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={2 * size // 1024}k", "lomix", str(disk)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tracker JsonLines failed")
def test_a_full_disk_stops_the_run_with_whole_files(whole: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"

    class Filling(Shapes):
        read = 0

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            self.read += 1
            if self.read == 18:  # in the fifth step
                with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"\0" * 512)
            return super().__getitem__(index)

    folder = small_disk / "run"
    with pytest.raises(
        RunError, match=r"step_0000000\d.pt cannot be written: No space left on device\.\n  Seen: 0\.0 MiB"
    ):
        run(folder, Filling())
    state = latest_checkpoint(folder / "checkpoints")
    assert state is not None and state["step"] == 3
    assert not [path for path in folder.rglob(".*")]
    filler.unlink()
    run(folder, resume=True)
    same(folder, whole)


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o755)
    (tmp_path / "closed").chmod(0o555)

    def as_anybody() -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        run(tmp_path / "closed")

    for path in tmp_path.parents:  # pytest's own folders are closed to others
        if path.owner() == "root" and path.stat().st_uid == os.getuid() and len(path.parts) > 2:
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    said = in_child(as_anybody)
    assert said.startswith(f"{tmp_path}/closed/lock cannot be written: Permission denied.\n  Seen: ")
    assert said.splitlines()[2] == "  Try:  another folder: --folder runs/another"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"/file cannot be written: File exists\."):
        run(tmp_path / "file")
