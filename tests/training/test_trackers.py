"""Trackers: JSON lines that resume, real wandb runs and TensorBoard files read back, failures that cost nothing."""

import json
import re
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.wandb_files import config_of, histories, runs

from lomix_search.experiments.listing import _validations, last_step
from lomix_search.training.trackers import (
    JsonLines,
    TensorBoard,
    Tracker,
    Trackers,
    Wandb,
    check_tracker,
    opened,
    read_lines,
)
from lomix_search.training.trackers.check_tracker import TrackerFault

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("start", [lambda folder: JsonLines(folder / "metrics.jsonl", 1), TensorBoard])
def test_what_a_search_gives_is_taken(start: Callable[[Path], Tracker], tmp_path: Path) -> None:
    check_tracker(start, tmp_path)


def test_a_tracker_that_is_not_fit_is_told_what_it_fails_at(tmp_path: Path) -> None:
    with pytest.raises(TrackerFault) as caught:
        check_tracker(lambda _: Broken(), tmp_path)
    assert str(caught.value) == "log(step=1, …) fails with ConnectionError.\n  Seen: no network"


def test_json_lines_hold_what_was_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Trackers([JsonLines(path)]) as log:
        log.log(1, {"loss": 0.5, "weights": [1.0, float("nan")]})
        log.log(2, {"loss": float("inf")})
    assert read_lines(path) == [
        {"step": 1, "loss": 0.5, "weights": [1.0, None]},
        {"step": 2, "loss": None},
    ]


def test_resuming_drops_later_lines_and_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)) + '{"step": 4, "lo')
    tracker = JsonLines(path, step=2)
    tracker.log(3, {"again": 1})
    tracker.close()
    assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": 1}]


class Broken:
    def log(self, step: int, values: object) -> None:
        raise ConnectionError("no network")

    def files(self, paths: Sequence[Path]) -> None: ...

    def close(self) -> None: ...


def test_a_failing_tracker_is_dropped_and_the_others_go_on(tmp_path: Path) -> None:
    with Trackers([Broken(), JsonLines(tmp_path / "m.jsonl")]) as log:
        for step, said in enumerate(("is tried again (1 of 3", "is tried again (2 of 3", "is dropped: Conn"), 1):
            with pytest.warns(UserWarning, match=re.escape(f"tracker Broken failed in log and {said}")):
                log.log(step, {"loss": 1.0})
        log.log(4, {"loss": 2.0})
    assert [line["step"] for line in read_lines(tmp_path / "m.jsonl")] == [1, 2, 3, 4]


class Flaky(Broken):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def log(self, step: int, values: object) -> None:
        if step % 2:
            raise ConnectionError("no network")
        self.seen.append(step)


@pytest.mark.filterwarnings("ignore:tracker Flaky failed")
def test_a_tracker_that_fails_now_and_then_is_kept() -> None:
    flaky = Flaky()
    with Trackers([flaky]) as log:
        for step in range(20):
            log.log(step, {"loss": 1.0})
    assert flaky.seen == list(range(0, 20, 2))


def test_lines_that_could_not_be_written_are_written_later(tmp_path: Path) -> None:
    """A real limit on the size of files: the kernel takes a part of a line and then refuses."""
    path = tmp_path / "metrics.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker = JsonLines(path)
    tracker.log(1, {"loss": 1.0})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.warns(
            UserWarning, match=r"metrics.jsonl: the line of step 2 could not be written \(File too large"
        ):
            tracker.log(2, {"loss": 2.0})
        tracker.log(3, {"loss": 3.0})  # said once
        assert path.read_bytes().count(b"\n") == 1 and path.read_bytes().endswith(b"\n")  # nothing half-written
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    tracker.log(4, {"loss": 4.0})
    tracker.close()
    assert [(line["step"], line["loss"]) for line in read_lines(path)] == [(i, float(i)) for i in (1, 2, 3, 4)]


def test_lines_that_are_lost_at_the_end_are_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    tracker = JsonLines(tmp_path / "metrics.jsonl")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))
    try:
        with pytest.warns(UserWarning, match="tried with the next"):
            tracker.log(1, {"loss": 1.0})
        with pytest.warns(UserWarning, match=r"the last 1 lines could not be written \(File too large\) and are lost"):
            tracker.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


BAD_LINES = (
    b'{"step": 2, "train/lo', b"\xff\xfe broken", b"[1, 2]", b"null", b'{"step": "2"}', b'{"loss": 1.0}',
    b'{"step": true}', b'{"step": -1}', b"", b"[" * 100_000,
    b'{"step": 1' + b"0" * 400 + b"}", b'{"step": 2.5}', b"\x00" * 4096,
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LINES, ids=lambda line: repr(line[:20]))
def test_a_line_that_is_none_hides_no_other(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "val/dice": 0.5}\n' + bad + b'\n{"step": 3, "val/dice": 0.75}\n')
    assert [line["step"] for line in read_lines(path)] == [1, 3]
    assert list(_validations(path)) == [0.5, 0.75] and last_step(path) == 3
    path.write_bytes(path.read_bytes() + bad)
    assert last_step(path) == 3
    tracker = JsonLines(path, step=2)
    tracker.log(3, {"again": 1})
    tracker.close()
    assert read_lines(path) == [{"step": 1, "val/dice": 0.5}, {"step": 3, "again": 1}]


def test_values_of_another_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    odd = {
        "val/dice": "<b>",
        "train/loss": [1, "x"],
        "train/lr": 10**400,
        "mixture/total": True,
        "train/skipped": "why",
    }
    path.write_text(json.dumps({"step": 1, "mixture/weights": [0.5, None], "mine": "words"} | odd) + "\n")
    expected = {"step": 1, "mixture/weights": [0.5, None], "mine": "words", "train/skipped": "why"}
    assert read_lines(path) == [expected]


@pytest.mark.slow
def test_a_resumed_offline_wandb_run_is_two_parts_of_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)  # offline: never used
    folder = tmp_path / "my_run"
    folder.mkdir()
    for start in (1, 3):  # the second is the resumed run
        tracker = Wandb(
            folder, config={"search": {"steps": 4}}, group="a study", maps=["P1", "add(1,2)"], name="a title"
        )
        with Trackers([tracker]) as log:
            for step in (start, start + 1):
                log.log(step, {"train/loss": 1.0 / step, "mixture/weights": [0.5, 0.25], "other": [7.0]})
        time.sleep(1.1)  # wandb names a run's folder by the second
    parts = list((folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2, "wandb writes a part for each start"
    rows, known = histories(folder), runs(folder)
    assert [row["train/loss"] for row in rows] == [1.0, 0.5, 1 / 3, 0.25]
    assert [row["_step"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["mixture/weights/P1"] == 0.5 and rows[0]["mixture/weights/add(1,2)"] == 0.25
    assert rows[0]["other/0"] == 7.0
    assert {run.run_id for run in known} == {(folder / "wandb_id").read_text().strip()}
    assert {run.display_name for run in known} == {"a title"} and {run.run_group for run in known} == {"a study"}
    assert {run.host for run in known} == {"undisclosed"}
    assert config_of(known[0])["search"] == {"steps": 4}


def test_tensorboard_hides_what_a_killed_part_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps, loss in ((0, (1, 2, 3), 1.0), (2, (3, 4), 2.0)):
        with Trackers([TensorBoard(tmp_path, step=start)]) as log:
            for step in steps:
                log.log(step, {"train/loss": loss, "mixture/weights": [0.5, 0.25]})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert events.Scalars("mixture/weights/1")[0].value == 0.25


def test_a_tracker_that_cannot_start_is_left_out() -> None:
    def broken() -> Tracker:
        raise ConnectionError("no network")

    with pytest.warns(UserWarning, match=r"tracker Wandb could not start and is left out: ConnectionError"):
        assert opened({"Wandb": broken}) == []
