"""Tracked runs and trials: what goes out, under which names, and that nothing else does."""

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from support.tiny_recipe import tiny
from support.wandb_files import config_of, histories, records, runs

import lomix_search as lomix
from lomix_search.cli.common import tracked as tracked_options
from lomix_search.errors import MissingExtraError, RecipeError
from lomix_search.experiments import tracking as tracked_module
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.tracking import trackers_of
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.trackers import Wandb, read_lines

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SMALL = ["space.name=deep_supervision", "search.steps=4", "search.validate_every=2", "network.args.width=8"]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


class Broken:
    def log(self, step: int, values: object) -> None:
        raise ConnectionError("no network")

    def files(self, paths: Sequence[Path]) -> None: ...

    def close(self) -> None: ...


def test_a_missing_package_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError) as caught:
        run_recipe(tiny(tmp_path / "recipe", ["track.tensorboard=true"]), tmp_path / "run")
    assert str(caught.value).splitlines()[0] == "tensorboard is needed here and is not installed."
    assert str(caught.value).splitlines()[-1] == '  Try:  pip install "lomix-search[tensorboard]"'
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_breaks_in_mid_run_costs_no_run(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="tracker Broken failed in log"):
        outcome = run_recipe(tiny(tmp_path / "recipe", SMALL), tmp_path / "run", trackers=[Broken()], score_test=False)
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
