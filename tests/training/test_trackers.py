"""Trackers: JSON lines that resume, real wandb runs and TensorBoard files read back, failures that cost nothing."""

import json
import platform
import re
import resource
import signal
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from support.tiny_recipe import tiny

import lomix_search as lomix
from lomix_search.cli.common import tracked as tracked_options
from lomix_search.errors import MissingExtraError, RecipeError
from lomix_search.experiments import tracking as tracked_module
from lomix_search.experiments.listing import _validations, last_step
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.tracking import trackers_of
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.trackers import JsonLines, TensorBoard, Tracker, Trackers, Wandb, opened, read_lines

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


SMALL = ["space.name=deep_supervision", "search.steps=4", "search.validate_every=2", "network.args.width=8"]


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


def split(file: Path) -> list[bytes]:
    """Split an offline run's file (LevelDB's log format behind a 7-byte head) into its records.

    wandb has no reader of its own in Python any more; its own program uploads the file.
    """
    data, place, found, parts = file.read_bytes(), 7, [], []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block too short for a head is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(b"".join(parts))
            parts = []
    return found


def records(folder: Path) -> list[Any]:
    """Read every record of a folder's offline runs by wandb's own schema."""
    from wandb.proto import wandb_internal_pb2 as pb

    files = sorted(folder.rglob("run-*.wandb"))
    return [pb.Record.FromString(record) for file in files for record in split(file)]


def histories(folder: Path) -> list[dict[str, Any]]:
    return [
        {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    ]


def runs(folder: Path) -> list[Any]:
    return [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"]


def config_of(run: Any) -> dict[str, Any]:
    return {i.key: json.loads(i.value_json) for i in run.config.update}


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


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial, tracked by both, whose recipe, data, mixture and study lie in folders called after a patient."""
    home = tmp_path_factory.mktemp("patient_mueller")
    (home / "own_ops.py").write_text("")
    (home / "space.toml").write_text(
        f'name = "own"\noperators_file = "{home}/own_ops.py"\n[[operator]]\nname = "add"\n'
    )
    recipe = tiny(home / "mueller_recipe", [*SMALL, f"space.name={home / 'space.toml'}"])
    run_recipe(recipe, home / "mueller_first", score_test=False)
    fixed = [*SMALL, "weighting.name=fixed", f"weighting.mixture={home / 'mueller_first/mixture.json'}"]
    both = ["track.wandb=true", "track.tensorboard=true", f"space.name={home / 'space.toml'}"]
    lomix.tune(tiny(home / "mueller_recipe", [*fixed, *both]), 1, folder=home / "mueller_study")
    return home / "mueller_study/trial_0000"


def test_a_tracked_run_names_no_path_case_person_or_machine(tracked: Path) -> None:
    (run,) = {run.run_id: run for run in runs(tracked)}.values()
    config = config_of(run)
    assert (
        config["network"] == {"build": "build", "width": 8}
        and config["data"]["kind"] == "own"
        and config["data"]["wait"] == 0.0
    )
    assert config["weighting"] == {"name": "fixed"} and config["search"]["steps"] == 4
    told = json.dumps(config) + str(run)
    for secret in ("mueller", str(tracked.parent), "case1", "/tmp", str(Path.home()), "parts.py", sys.executable):
        assert secret not in told, secret
    assert run.host == "undisclosed" and platform.node() not in json.dumps(config)
    # The whole file, artifact and all: nothing of the recipe's folders, of cases or of the machine.
    for file in tracked.rglob("run-*.wandb"):
        content = file.read_bytes()
        for secret in (b"mueller", b"case1", platform.node().encode() + b"\n", sys.executable.encode()):
            assert secret not in content, secret
    sent = {path.name for path in tracked.rglob("wandb/offline-run-*/files/**/*") if path.is_file()}
    assert all(name.startswith(("heat_map_", "predictions_")) for name in sent), sent
    assert run.display_name == "custom-fixed-seed0" and config["name"] == "custom"


def test_a_tracked_mixture_names_no_folder(tracked: Path) -> None:
    (artifact,) = (r.artifact for r in records(tracked) if r.WhichOneof("record_type") == "artifact")
    (entry,) = artifact.manifest.contents
    sent = json.loads(Path(entry.local_path).read_text())  # what wandb sync would upload
    assert "mueller" not in json.dumps(sent) and "recipe" not in sent["provenance"]
    assert sent["space"]["operators_file"] == "own_ops.py"
    assert sent["maps"] == json.loads((tracked / "mixture.json").read_text())["maps"]
    assert b"mueller_recipe" not in b"".join(file.read_bytes() for file in (tracked / "tensorboard").iterdir())


def test_who_asks_for_names_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[object, ...]] = []
    monkeypatch.setattr(tracked_module, "Wandb", lambda *given: told.append(given) or Wandb.__new__(Wandb))
    asked = ["track.wandb=true", "track.name=a title", "track.group=a group"]
    trackers_of(tiny(tmp_path / "r", asked), tmp_path, [], "study-1")
    trackers_of(load_recipe("chest_ct", ["track.wandb=true"]), tmp_path, [], "study-1")
    assert [(given[4], given[6]) for given in told] == [("a group", "a title"), ("study-1", "chest_ct-softplus-seed0")]


def test_wandb_gets_the_study_histories_pictures_and_the_mixture(tracked: Path) -> None:
    study = optuna.load_study(
        study_name=None,
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(tracked.parent / "journal.log"))),
    )
    assert {run.run_group for run in runs(tracked)} == {study.user_attrs["group"]}
    rows = histories(tracked)
    trained = [row for row in rows if "train/loss" in row]
    assert len(trained) == 4
    assert {"mixture/weights/P1", "mixture/weights/P2", "mixture/per_map/P2"} < set(trained[0])
    pictures = {key.removesuffix("/path") for row in rows for key in row if key.endswith("/path")}
    assert pictures == {"heat_map", "predictions"}
    (artifact,) = (r.artifact for r in records(tracked) if r.WhichOneof("record_type") == "artifact")
    assert artifact.type == "mixture" and [entry.path for entry in artifact.manifest.contents] == ["mixture.json"]


def test_tensorboard_files_are_read_back(tracked: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked / "tensorboard")).Reload()
    lines = [line for line in read_lines(tracked / "metrics.jsonl") if "train/loss" in line]
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [event.value for event in losses] == pytest.approx([line["train/loss"] for line in lines])
    weights = [event.value for event in events.Scalars("mixture/weights/P2")]
    assert weights == pytest.approx([line["mixture/weights"][1] for line in lines])
    assert set(events.Tags()["images"]) == {"heat_map", "predictions"}
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "lomix-mixture" in texts["mixture/text_summary"] and '"width": 8' in texts["settings/text_summary"]
    assert not any("mueller" in text or "case1" in text for text in texts.values())


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


def test_a_missing_package_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError) as caught:
        run_recipe(tiny(tmp_path / "recipe", ["track.tensorboard=true"]), tmp_path / "run")
    assert str(caught.value).splitlines()[0] == "tensorboard is needed here and is not installed."
    assert str(caught.value).splitlines()[-1] == '  Try:  pip install "lomix-search[tensorboard]"'
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_breaks_in_mid_run_costs_no_run(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="tracker Broken failed in log"):
        outcome = run_recipe(tiny(tmp_path / "recipe", SMALL), tmp_path / "run", trackers=[Broken()])
    assert outcome.result.mixture.maps and len(read_lines(tmp_path / "run/metrics.jsonl")) == 6


def test_track_options() -> None:
    assert tracked_options("wandb, tensorboard", True) == [
        "track.wandb=true", "track.tensorboard=true", "track.online=true",
    ]  # fmt: skip
    assert tracked_options(None, False) == []
    with pytest.raises(RecipeError) as caught:
        tracked_options("wandb,tensorbord", False)
    assert str(caught.value) == (
        '--track tensorbord: unknown. Nearest: "tensorboard". Known: tensorboard, wandb.\n'
        "  Try:  --track wandb,tensorboard"
    )
    with pytest.raises(RecipeError) as caught:
        tracked_options("tensorboard", True)
    assert str(caught.value) == "--online goes with --track wandb.\n  Try:  --track wandb --online"
