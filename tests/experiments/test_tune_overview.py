"""How a study stands, and what its trials do not yet tell."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from lomix_search.errors import RunError
from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.overview import overview
from lomix_search.experiments.tune.plots import importances
from lomix_search.recipe.recipe import load_recipe

RECIPE = load_recipe("chest_ct", ["tune.ranges={'loss.dice'={low=0.3, high=0.9}}"])


def study_of(trials: int) -> optuna.Study:
    study, ranges = (
        optuna.create_study(direction="maximize"),
        {"loss.dice": optuna.distributions.FloatDistribution(0.3, 0.9)},
    )
    for i in range(trials):
        dice = 0.3 + 0.6 * i / trials
        study.add_trial(create_trial(value=dice**2, params={"loss.dice": dice}, distributions=ranges))
    return study


def test_a_study_at_a_glance() -> None:
    study = study_of(3)
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"reason": "out of memory: 3 GiB\nmore"}))
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"host": "node7", "folder": "trial_0004"}))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"surplus": True}))
    found = overview(study, RECIPE, top=2)
    assert found.states == {"complete": 3, "fail": 1, "running": 1} and type(found.states) is dict
    assert [trial.number for trial in found.best] == [2, 1]
    assert found.best[0].values == {"val.dice.best": study.trials[2].value}
    states = f'study "{study.study_name}": 3 complete, 1 fail, 1 running'
    assert found.lines == [states, "trial 4 runs on node7", "trial 3: out of memory: 3 GiB"]


def test_few_trials_do_not_say_what_mattered() -> None:
    assert importances(study_of(9), RECIPE) == {}
    assert importances(study_of(10), RECIPE) == {"loss.dice": 1.0}


def test_a_study_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no study in runs"):
        open_study("chest_ct")
    (tmp_path / "runs/chest_ct-tune").mkdir(parents=True)
    (tmp_path / "runs/chest_ct-tune/study.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        open_study("chest_ct")
    assert str(caught.value).splitlines()[1:] == [
        "  Seen: studies in runs: runs/chest_ct-tune",
        "  Try:  chest_ct-tune",
        "        lomix tune RECIPE   # starts one",
    ]
