"""A study's journal after kills in the midst of a line, full disks and damage: nothing whole is lost, all goes on."""

import json
import os
import resource
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from support.tiny_recipe import write_tiny
from support.workers import Worker
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.errors import RunError
from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.storage import read_storage


def opened(folder: Path) -> optuna.Study:
    """Open or make the study of a folder, as the library does."""
    made = (folder / "journal.log").exists()
    storage = read_storage(None, folder).open()
    return (optuna.load_study if made else optuna.create_study)(study_name="s", storage=storage)


def finished(folder: Path, count: int) -> Path:
    study = opened(folder)
    for i in range(count):
        trial = study.ask()
        trial.set_user_attr("note", f"a {i}")
        study.tell(trial, i / 10)
    return folder / "journal.log"


def values(journal: Path) -> list[float | None]:
    """Read a journal with Optuna's own reader, which bears no broken line."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return [trial.value for trial in study.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("whole"), 3)


def test_a_journal_cut_off_at_any_byte_of_its_last_line_goes_on(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    last = content[:-1].rfind(b"\n") + 1  # of the line that ends the third trial
    ends = [*range(last, last + 3), *range(len(content) - 3, len(content) + 1)]
    for cut in sorted({*ends, *range(last, len(content), 9)}):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.log").write_bytes(content[:cut])
        torn = last < cut < len(content) - 1  # all but its end of line makes it whole
        assert [t.value for t in opened(folder).trials][:2] == [0.0, 0.1]  # reading changes nothing
        assert (folder / "journal.log").read_bytes() == content[:cut]
        study = opened(folder)
        if torn:
            with pytest.warns(UserWarning, match=rf"cut off after {cut - last} bytes .* in journal.log.torn"):
                trial = study.ask()
        else:
            trial = study.ask()
        study.tell(trial, 0.7)
        third = 0.2 if cut >= len(content) - 1 else None
        assert values(folder / "journal.log") == [0.0, 0.1, third, 0.7]
        aside = folder / "journal.log.torn"
        assert (aside.read_bytes() if aside.exists() else b"") == (content[last:cut] + b"\n" if torn else b"")
        assert (folder / "journal.log").read_bytes().startswith(content[:last])
        shutil.rmtree(folder)


@pytest.mark.slow
def test_every_command_bears_a_line_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_tiny(tmp_path / "recipe")
    run(["tune", "recipe", "--trials", "2", "--folder", "study", "search.steps=1"])
    with Path("study/journal.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","stu')
    for command in (
        ["tune", "best", "study"],
        ["report", "study"],
        ["runs", "study"],
        ["tune", "best", "study/journal.log"],
    ):
        run(command)
    said = run(["tune", str(recipe), "--trials", "3", "--folder", "study", "--resume", "search.steps=1"])
    assert "was cut off after 33 bytes" in said and "3 complete" in said
    assert Path("study/journal.log.torn").read_bytes() == b'{"op_code":4,"worker_id":"x","stu\n'


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_kill_9_inside_an_append_holds_nobody_up_even_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's own lock is a link to "study/journal.log", which leads nowhere from there: it was never freed."""
    monkeypatch.chdir(tmp_path)
    journal = finished(Path("study"), 1)
    before = journal.read_bytes()
    assert forked(lambda: (die_in_the_next_append(), finished(Path("study"), 1))) == signal.SIGKILL
    torn = journal.read_bytes()[len(before) :]
    assert torn.startswith(b'{"op_code":4') and not torn.endswith(b"\n")
    assert forked(lambda: (signal.alarm(20), warnings.simplefilter("ignore"), finished(Path("study"), 1))) == 0
    assert values(journal) == [0.0, 0.0]
    assert Path("study/journal.log.torn").read_bytes() == torn + b"\n"


def die_in_the_next_append() -> None:
    """Let this process be killed with the lock in its hand and half a line on disk."""

    def dying(handle: int) -> None:
        os.ftruncate(handle, os.fstat(handle).st_size - 20)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = dying


def forked(act: Callable[[], object]) -> int:
    """Run a function in a process of its own; return how that ended."""
    if (pid := os.fork()) == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def test_locks_left_by_earlier_versions_hold_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "journal.log.lock").symlink_to("runs/study/journal.log")  # relative, and of a process long gone
    assert values(finished(tmp_path, 1)) == [0.0]


def test_a_file_that_cannot_grow_leaves_no_half_line(tmp_path: Path) -> None:
    journal = finished(tmp_path, 1)
    size, said = journal.stat().st_size, tmp_path / "said"
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        study = opened(tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
        try:
            study.ask()
        except BaseException as error:
            os.write(os.open(said, os.O_CREAT | os.O_WRONLY), f"{type(error).__name__}: {error}".encode()[:200])
        os._exit(0)
    os.waitpid(pid, 0)
    assert said.read_text().startswith(f"RunError: {journal} cannot be written: File too large.")
    assert journal.stat().st_size == size
    assert values(finished(tmp_path, 1)) == [0.0, 0.0]


def finish(worker: Worker) -> None:
    said = worker.communicate()
    assert worker.returncode == 0, said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=2m", "lomix", str(disk)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_study_on_a_full_disk_ends_with_its_name_and_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    recipe, filler = write_tiny(tmp_path / "recipe"), small_disk / "filler"
    text = (recipe / "parts.py").read_text()
    filling = f"""
        import pathlib
        if pathlib.Path({str(tmp_path / "now")!r}).exists() and not pathlib.Path({str(filler)!r}).exists():
            with open({str(filler)!r}, "wb", buffering=0) as file:
                try:
                    while file.write(b"0" * 100):
                        pass
                except OSError:
                    pass
        return image, label
"""
    (recipe / "parts.py").write_text(text.replace("\n        return image, label\n", filling))
    given = ["tune", str(recipe), "--folder", str(small_disk / "study"), "search.steps=2", "--resume", "--trials"]
    finish(Worker(*given, "1"))
    (tmp_path / "now").touch()
    full = Worker(*given, "3")
    said = full.communicate()
    assert full.returncode == 2 and "cannot be written: No space left on device" in said, said
    for line in (small_disk / "study/journal.log").read_bytes().splitlines():
        json.loads(line)
    filler.unlink()
    (tmp_path / "now").unlink()
    finish(Worker(*given, "3"))
    study, _ = open_study(small_disk / "study")
    assert [t.state.name for t in study.trials if t.state.name == "COMPLETE"] == ["COMPLETE"] * 3
    assert not [t for t in study.trials if "reason" in t.user_attrs]


def test_a_line_glued_to_one_that_was_cut_off_is_read(whole: Path, tmp_path: Path) -> None:
    """What earlier versions left behind."""
    lines = whole.read_bytes().splitlines(keepends=True)
    for half in (b'{"op_code":4,"worker', b'{"op_code":', b"{", b"\0\0\0", lines[-1][:-1]):
        (tmp_path / "journal.log").write_bytes(b"".join([*lines[:-1], half + lines[-1]]))
        assert [t.value for t in opened(tmp_path).trials] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("broken", [b"", b"{}", b"[1]", b"7", b"\xff\xfe", b'{"op_code":4', b"[" * 5000, b"null"])
def test_a_broken_line_in_the_middle_is_named(broken: bytes, whole: Path, tmp_path: Path) -> None:
    lines = whole.read_bytes().splitlines()
    (tmp_path / "journal.log").write_bytes(b"\n".join([*lines[:3], broken, *lines[3:]]) + b"\n")
    (tmp_path / "study.json").write_text('{"study": "s", "storage": "journal.log"}')
    for act in (lambda: opened(tmp_path), lambda: open_study(tmp_path), lambda: open_study(tmp_path / "journal.log")):
        with pytest.raises(RunError, match=rf"^line 4 of {tmp_path}/journal.log is broken;"):
            act()


@pytest.mark.parametrize(
    "line", [b'{"op_code":99}', b'{"op_code":4}', b'{"op_code":"x"}', b'{"op_code":4,"study_id":[]}']
)
def test_lines_that_make_no_sense_are_no_traceback(line: bytes, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(whole.read_bytes() + line + b"\n")
    with pytest.raises(RunError, match=r"journal.log is no journal of Optuna, or damaged\."):
        open_study(tmp_path)


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"study": 1, "storage": 2}'])
def test_a_damaged_note_is_named(note: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(whole.read_bytes())
    (tmp_path / "study.json").write_text(note)
    with pytest.raises(RunError, match=r"study\.json"):
        open_study(tmp_path)


def test_many_processes_append_whole_lines(tmp_path: Path) -> None:
    opened(tmp_path)
    pids = []
    for i in range(4):
        if (pid := os.fork()) == 0:
            study = opened(tmp_path)
            for j in range(25):
                study.set_user_attr(f"{i}-{j}", "x" * 100)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert len(opened(tmp_path).user_attrs) == 100


def test_a_journal_that_a_stopped_process_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    from lomix_search.experiments.tune import journal

    monkeypatch.setattr(journal, "_LONGEST", 0.2)
    path = finished(tmp_path, 1)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match=r"journal.log has been held by another process for 0 seconds"):
            opened(tmp_path).set_user_attr("a", 1)
    opened(tmp_path).set_user_attr("a", 1)


def test_a_file_system_without_locks_gets_a_link_that_a_dead_process_cannot_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / "journal.log.lock").symlink_to("runs/study/journal.log")
    assert values(finished(tmp_path, 2)) == [0.0, 0.1]
    assert not os.path.lexists(tmp_path / "journal.log.lock")
