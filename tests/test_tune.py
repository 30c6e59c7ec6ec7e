"""The outer search on real studies: declared ranges, own values first, failures recorded, resuming."""

from pathlib import Path

import optuna
import pytest

import lomix_search as lomix
from lomix_search.errors import RecipeError, RunError
from lomix_search.recipe import Recipe, load_recipe

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SMALL = [
    "network.args.features=[4, 4, 8, 8, 8, 4]",
    "space.name=last_layer",
    "search.steps=2",
    "search.batch_size=2",
    "data.augment=none",
]


def recipe(*more: str) -> Recipe:
    return load_recipe("chest_ct", [*SMALL, *more])


def test_a_study_runs_resumes_and_writes_the_best_recipe(tmp_path: Path) -> None:
    study = lomix.tune(recipe(), 2, folder=tmp_path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert study.trials[0].params["optimizer.lr"] == recipe().optimizer.lr  # the recipe's own values come first
    assert set(study.trials[0].params) == {"optimizer.lr", "loss.dice", "data.augment"}
    assert study.trials[1].params["optimizer.lr"] != study.trials[0].params["optimizer.lr"]
    before = [trial.params for trial in study.trials]
    with pytest.raises(RunError, match="holds a study already"):
        lomix.tune(recipe(), 3, folder=tmp_path)
    again = lomix.tune(recipe(), 3, folder=tmp_path, resume=True)
    assert len(again.trials) == 3
    assert [trial.params for trial in again.trials[:2]] == before
    best = load_recipe(tmp_path / "best.toml")
    assert best.optimizer.lr == again.best_trial.params["optimizer.lr"]
    assert (tmp_path / "trial_0002" / "mixture.json").exists()


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    bad = recipe().override({"tune.ranges": {"network.args.out_channels": {"choices": [6, 5]}}})
    study = lomix.tune(bad, 4, folder=tmp_path)
    states = {trial.params["network.args.out_channels"]: trial.state.name for trial in study.trials}
    assert states[6] == "COMPLETE" and states.get(5, "FAIL") == "FAIL"
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert len(study.trials) == 4 and failed
    assert "LossError" in failed[0].user_attrs["reason"]


def test_a_trial_broken_off_is_run_again_and_counted_once(tmp_path: Path) -> None:
    lomix.tune(recipe(), 1, folder=tmp_path)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name="chest_ct", storage=storage)
    broken = study.ask()  # a process that died in mid-trial leaves this behind
    broken.suggest_float("optimizer.lr", 3e-4, 1e-2, log=True)
    again = lomix.tune(recipe(), 2, folder=tmp_path, resume=True)
    states = [trial.state.name for trial in again.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert again.trials[2].params["optimizer.lr"] == pytest.approx(broken.params["optimizer.lr"])


def test_a_recipe_without_ranges(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'recipe "chest_ct" declares nothing to tune\.\n  Try:  \[tune\.ranges'):
        lomix.tune(recipe("tune.ranges={}"), 1, folder=tmp_path)
