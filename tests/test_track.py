"""Trackers: JSON lines that resume, a real offline wandb run read back, failures that cost nothing."""

import json
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lomix_search.track import JsonLines, Trackers, Wandb, read_lines

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


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
        with pytest.warns(UserWarning, match=r"tracker Broken failed in log and is dropped: ConnectionError"):
            log.log(1, {"loss": 1.0})
        log.log(2, {"loss": 2.0})
    assert [line["step"] for line in read_lines(tmp_path / "m.jsonl")] == [1, 2]


def wandb_records(file: Path) -> list[bytes]:
    """Split an offline run's file (LevelDB's log format behind a 7-byte head) into its records."""
    data, place, records, parts = file.read_bytes(), 7, [], []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block too short for a head is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(b"".join(parts))
            parts = []
    return records


def read_wandb(folder: Path) -> tuple[list[dict[str, object]], dict[str, object], list[object]]:
    """Read a folder's offline runs: (history rows, config, run records)."""
    from wandb.proto import wandb_internal_pb2 as pb

    rows, config, runs = [], {}, []
    for file in sorted(folder.rglob("run-*.wandb")):
        for record in map(pb.Record.FromString, wandb_records(file)):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                rows.append({(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item})
            elif kind == "run":
                runs.append(record.run)
                config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
    return rows, config, runs


def test_a_real_offline_wandb_run_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)  # offline: never used
    folder = tmp_path / "my_run"
    folder.mkdir()
    for start in (1, 3):  # the second is the resumed run
        with Trackers([Wandb(folder, project="lomix", config={"search": {"steps": 4}})]) as log:
            for step in (start, start + 1):
                log.log(step, {"train/loss": 1.0 / step, "mixture/weights": [0.5, 0.25]})
        time.sleep(1.1)  # wandb names a run's folder by the second
    rows, config, runs = read_wandb(folder)
    assert [row["train/loss"] for row in rows] == [1.0, 0.5, 1 / 3, 0.25]
    assert rows[0]["mixture/weights/0"] == 0.5 and rows[0]["mixture/weights/1"] == 0.25
    assert config["search"] == {"steps": 4}
    assert {run.run_id for run in runs} == {(folder / "wandb_id").read_text().strip()}
    assert {run.display_name for run in runs} == {"my_run"}
    assert {run.host for run in runs} == {"undisclosed"}
