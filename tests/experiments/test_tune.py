"""The outer search on real studies: it starts, prunes, counts, fails, resumes and ends as the recipe says."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from support.tiny_recipe import tiny, write_tiny

import lomix_search as lomix
from lomix_search.cli.common import app, console
from lomix_search.errors import RunError
from lomix_search.experiments.tune.best import best_trials
from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.trial_watch import TrialWatch
from lomix_search.recipe.recipe import Recipe, load_recipe

LR = "tune.ranges={'optimizer.lr' = {low = 1e-4, high = 1e-1, log = true}}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "study"


def tune(recipe: Recipe, trials: int, home: Path, **more: object) -> optuna.Study:
    return lomix.tune(recipe, trials, folder=home, **more)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_a_study_starts_with_own_and_paper_values_and_leaves_recipes_and_pictures(tmp_path: Path, home: Path) -> None:
    recipe = tiny(tmp_path / "recipe", ['tune.first=[{"optimizer.lr" = 0.05}]'])
    study = tune(recipe, 4, home)
    assert states(study) == ["COMPLETE"] * 4
    own, paper, first, drawn = (trial.params for trial in study.trials)
    assert own == {"optimizer.lr": 0.03, "loss.dice": 0.7}
    assert paper == {"optimizer.lr": 1e-4, "loss.dice": 0.7}
    assert first["optimizer.lr"] == 0.05 and first["loss.dice"] not in (0.7, drawn["loss.dice"])
    best = load_recipe(home / "best.toml")
    assert best.optimizer.lr == study.best_trial.params["optimizer.lr"]
    assert best.about.startswith(f'trial {study.best_trial.number} of the study "recipe": val.dice.best 0.')
    assert {path.name for path in home.glob("*.png")} == {"history.png", "curves.png"}
    assert all(path.stat().st_size > 5000 for path in home.glob("*.png"))
    seen = study.trials[0]
    assert seen.user_attrs["map_pixels"] == pytest.approx(len(json_of(home)["maps"]) * 4 * 256 / 1e6)
    assert sorted(seen.intermediate_values) == [2, 4]
    assert seen.value == pytest.approx(max(seen.intermediate_values.values()))
    again = load_recipe(home / "trial_0003/recipe.toml")
    assert (again.optimizer.lr, again.loss.dice) == (drawn["optimizer.lr"], drawn["loss.dice"])


def json_of(home: Path) -> dict[str, list[object]]:
    content: dict[str, list[object]] = json.loads((home / "trial_0000/mixture.json").read_text())
    return content


@pytest.mark.slow  # three studies
def test_a_resumed_study_draws_what_an_unbroken_one_draws(tmp_path: Path, home: Path) -> None:
    recipe = tiny(tmp_path / "recipe", ["tune.sampler={startup_trials = 2}", "search.steps=1"])
    whole = tune(recipe, 4, tmp_path / "whole")
    tune(recipe, 2, home)
    with pytest.raises(RunError) as caught:
        tune(recipe, 4, home)
    assert str(caught.value) == (
        f"{home} holds a study already.\n  Try:  add --resume to go on with it\n        or --folder ANOTHER"
    )
    resumed = tune(recipe, 4, home, resume=True)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]
    assert [t.value for t in resumed.trials] == [t.value for t in whole.trials]
    other = recipe.override({"search.seed": 1})
    assert tune(other, 3, tmp_path / "other").trials[2].params != whole.trials[2].params


@pytest.mark.slow
def test_every_kind_of_failure_is_recorded_with_its_reason_and_the_study_goes_on(tmp_path: Path, home: Path) -> None:
    points = [{"network.args.width": 13}, {"network.args.width": 10**6}, {"optimizer.lr": 1e30}]
    changes = {"optimizer.lr": 0.03, "network.args.width": 4}
    ranges = {"optimizer.lr": {"choices": [0.03, 1e30]}, "network.args.width": {"choices": [4, 5, 13, 10**6]}}
    changes |= {"tune.ranges": ranges, "tune.first": [changes | point for point in points]}
    study = tune(tiny(tmp_path / "recipe").override(changes | {"search.skip_not_finite": 0}), 4, home)
    assert states(study) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    crash, memory, nan = (trial.user_attrs["reason"] for trial in study.trials[1:])
    assert crash == "ZeroDivisionError: thirteen"
    assert memory.startswith("out of memory: ") and "memory" in memory[15:]
    assert nan.startswith("not finite: RunError: the loss is not finite at step")
    assert 'raise ZeroDivisionError("thirteen")' in (home / "trial_0001/error.txt").read_text()
    assert load_recipe(home / "best.toml").network.args["width"] == 4


def test_a_study_in_which_all_fails_says_why(tmp_path: Path, home: Path) -> None:
    recipe = tiny(tmp_path / "recipe", ["network.args.width=13", LR])
    with pytest.raises(RunError) as caught:
        tune(recipe, 2, home)
    assert str(caught.value) == (
        "every trial of the study failed.\n"
        "  Seen: trial 0: ZeroDivisionError: thirteen\n"
        "        trial 1: ZeroDivisionError: thirteen\n"
        "  Try:  lomix tune status STUDY   # says why each failed"
    )


@pytest.mark.slow
def test_the_median_pruner_ends_hopeless_trials(tmp_path: Path, home: Path) -> None:
    changes = {"tune.pruner": {"name": "median", "startup_trials": 2}, "search.steps": 12, "search.validate_every": 4}
    first = [{"optimizer.lr": lr} for lr in (0.02, 1e-12, 1e-13)]  # after the recipe's own 0.03
    ranges = {"optimizer.lr": {"choices": [0.03, *(point["optimizer.lr"] for point in first)]}}
    recipe = tiny(tmp_path / "recipe").override({**changes, "tune.ranges": ranges, "tune.first": first})
    study = tune(recipe, 4, home)
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert all(trial.last_step < 12 for trial in study.trials[2:])
    assert not (home / "trial_0002/mixture.json").exists()


@pytest.mark.slow
def test_hyperband_prunes_too(tmp_path: Path, home: Path) -> None:
    changes = {"tune.pruner": {"name": "hyperband"}, "search.steps": 24, "search.validate_every": 8}
    rates = [1e-12, 0.02, 1e-13, 1e-14, 1e-15]  # trials 2 and 5 meet in the bracket that looks after 8 steps
    ranges, first = {"optimizer.lr": {"choices": [0.03, *rates]}}, [{"optimizer.lr": rate} for rate in rates]
    recipe = tiny(tmp_path / "recipe").override({**changes, "tune.ranges": ranges, "tune.first": first})
    study = tune(recipe, 6, home)
    assert states(study) == [*["COMPLETE"] * 5, "PRUNED"] and study.trials[5].last_step == 8


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_two_goals_give_a_front_and_its_pictures(tmp_path: Path, home: Path) -> None:
    ranges = {"network.args.width": {"low": 2, "high": 16, "step": 2, "int": True}, "space.operators": SUBSETS}
    recipe = tiny(tmp_path / "recipe").override({"tune.cost": "gflops", "tune.ranges": ranges})
    study = tune(recipe, 4, home)
    assert states(study) == ["COMPLETE"] * 4
    flops = {t.params["network.args.width"]: t.values[1] for t in study.trials}
    assert all(flops[a] < flops[b] for a in flops for b in flops if a < b)
    front = best_trials(study, recipe)
    assert [t.number for t in front] == sorted((t.number for t in study.best_trials), key=lambda n: -value(study, n))
    files = sorted(path.name for path in home.glob("best*.toml"))
    assert files == (["best.toml"] if len(front) == 1 else [f"best-{i + 1}.toml" for i in range(len(front))])
    assert (home / "front.png").exists() and not (home / "curves.png").exists()


SUBSETS = {"subset_of": ["add", "mul", "attention", "concat"]}


def value(study: optuna.Study, number: int) -> float:
    return study.trials[number].values[0]


@pytest.mark.slow
def test_limits_end_trials_before_they_train_and_keep_them_out_of_the_best(tmp_path: Path, home: Path) -> None:
    ranges = {"network.args.width": {"choices": [4, 32]}, "optimizer.lr": {"low": 1e-3, "high": 0.1, "log": True}}
    first = [{"network.args.width": 32, "optimizer.lr": 0.03}]
    changes = {"tune.limits": {"gflops": 0.01, "memory": 1000.0, "seconds": 60.0}, "tune.ranges": ranges}
    study = tune(tiny(tmp_path / "recipe").override({**changes, "tune.first": first}), 3, home)
    wide = next(t for t in study.trials if t.params["network.args.width"] == 32)
    assert wide.state == TrialState.PRUNED and wide.user_attrs["over_limit"].startswith("gflops 0.")
    assert wide.user_attrs["over"][0] > 0 and not wide.intermediate_values
    assert all(t.user_attrs["over"][0] < 0 for t in study.trials if t.params["network.args.width"] == 4)
    assert study.best_trial.params["network.args.width"] == 4


@pytest.mark.slow
def test_a_study_stops_at_its_target_and_when_patience_ends(tmp_path: Path, home: Path) -> None:
    recipe = tiny(tmp_path / "recipe", ["tune.target=0.2", "search.steps=8", LR])
    study = tune(recipe, 5, home)
    assert states(study) == ["COMPLETE", *["WAITING"] * 4]
    same = tiny(tmp_path / "recipe", ["tune.patience=2", "search.steps=8", HOPELESS])
    study = tune(same, 9, tmp_path / "patient")
    assert states(study) == ["COMPLETE"] * 3 + ["WAITING"] * 6


HOPELESS = "tune.ranges={'optimizer.lr' = {choices = [0.03, 1e-12, 1e-13]}}"


@pytest.mark.slow
def test_a_worker_whose_trial_was_given_away_notices_and_goes_on(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a network failure: it was silent for long, another worker has failed its trial to run it again."""
    validated, seen = TrialWatch.validated, []

    def silent(watch: TrialWatch, step: int, dice: float) -> None:
        seen.append(step)
        if len(seen) == 2:
            open_study(home)[0].tell(watch.trial.number, state=TrialState.FAIL)
        validated(watch, step, dice)

    monkeypatch.setattr(TrialWatch, "validated", silent)
    recipe = tiny(tmp_path / "recipe", ["search.steps=6", "search.checkpoint_every=2", LR])
    study = tune(recipe, 1, home)
    assert states(study) == ["FAIL", "COMPLETE"] and seen == [2, 4, 4, 6]  # it went on from the checkpoint
    assert study.trials[1].params == study.trials[0].params
    assert study.trials[1].user_attrs["retry_of"] == 0 and not (home / "trial_0000").exists()
    assert sorted(study.trials[1].intermediate_values) == [2, 4, 6]


def test_the_command_line_tunes_and_writes_ready_recipes(tmp_path: Path, home: Path) -> None:
    recipe = str(write_tiny(tmp_path / "recipe"))
    said = cli("tune", recipe, "search.steps=2", "--trials", "3", "--folder", str(home))
    assert "0 of 3 trials finished" in said and "2 of 3 trials finished · best 0." in said
    assert 'study "recipe": 3 complete' in said
    said = cli("tune", "best", str(home), "--top", "2", "--write", str(tmp_path / "mine.toml"))
    assert f"written: {tmp_path}/mine-1.toml" in said and f"next: lomix run {tmp_path}/mine-1.toml" in said
    study, base = open_study(home)
    first, second = (load_recipe(tmp_path / f"mine-{i}.toml") for i in (1, 2))
    ranked = sorted(study.trials, key=lambda t: (-value(study, t.number), t.number))
    assert [first.optimizer.lr, second.optimizer.lr] == [t.params["optimizer.lr"] for t in ranked[:2]]
    assert (
        first.override({"optimizer": base.optimizer.model_dump(), "loss": base.loss.model_dump(), "about": ""}) == base
    )
    assert "drawn: " in cli("tune", "plot", str(home), "--folder", str(tmp_path / "pictures"))
    assert (tmp_path / "pictures/history.png").exists()


def cli(*arguments: str) -> str:
    with console.capture() as said:
        app(arguments, standalone_mode=False)
    return said.get().replace("\n", "")  # however wide the terminal is
