"""Cross-validation: every patient is scored once, by a network that never saw it."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.commands import call, failing
from support.prepared_recipe import prepared_recipe
from support.tiny_recipe import write_tiny
from support.undrawn import undrawn

from lomix_search.cli.common import console
from lomix_search.errors import DataError, RunError
from lomix_search.evaluation.inference import predict_case
from lomix_search.evaluation.score_table import ClassScores, Evaluation, read_evaluation
from lomix_search.experiments.folds.cross_validate import cross_validate
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.fold_scores import FoldScores, check_folds
from lomix_search.experiments.predict.ensemble import load_ensemble
from lomix_search.experiments.report.write import write_report
from lomix_search.experiments.trained import load_trained
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.training.checkpoint import read_tensors


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe on eight patients of three slices each."""
    return prepared_recipe(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cv"
    with undrawn():
        cross_validate(load_recipe(recipe), folder, 2)
    return folder


@pytest.mark.slow
def test_each_patient_is_scored_once_and_out_of_fold(done: Path) -> None:
    rows = list(csv.DictReader((done / "scores.csv").read_text().splitlines()))
    held = [load_recipe(done / f"fold{k}/recipe.toml").build_data() for k in (0, 1)]
    cases = [sorted(set(splits.val.cases)) for splits in held]
    assert sorted(cases[0] + cases[1]) == sorted({row["case"] for row in rows}) and len(rows) == 2 * 6
    for k in (0, 1):
        assert not set(cases[k]) & set(held[k].train.cases)
        of_fold = read_evaluation(done / f"fold{k}/evaluation/final-val")
        dice = [repr(row.scores["dice"]) for row in of_fold.rows]
        assert [row["dice"] for row in rows if row["case"] in cases[k]] == dice
    found = json.loads((done / "folds.json").read_text())
    values = np.array([float(row["dice"]) for row in rows if row["class"] == "one"])
    mean = found["validation"]["dice"]["classes"]["one"]
    assert mean["mean"] == pytest.approx(values.mean()) and len(mean["folds"]) == found["folds"] == 2
    margin = stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    assert mean["student"] == pytest.approx((values.mean() - margin, values.mean() + margin))
    assert mean["bootstrap"][0] <= mean["mean"] <= mean["bootstrap"][1]
    listed = call("runs", str(done))
    assert "fold0" in listed and "fold1" in listed and "finished" in listed


def test_the_command_shows_intervals_and_skips_what_is_finished(
    done: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 160)
    weights = (done / "fold0/final.pt").stat().st_mtime_ns
    said = call("run", str(recipe), "--folds", "2", "--folder", str(done), "--resume")
    assert "2 folds: 6 cases of 6 patients" in said and "95 % (patients)" in said and "95 % (t)" in said
    assert f"{done / 'fold0'} is finished" in " ".join(said.split()) and "the 2 networks together" in said
    assert (done / "fold0/final.pt").stat().st_mtime_ns == weights


def test_all_networks_together_are_scored_on_the_test_cases(done: Path) -> None:
    runs = [load_trained(done / f"fold{k}") for k in (0, 1)]
    splits = runs[0].recipe.build_data()
    found = read_evaluation(done / "test")
    assert found.cases == tuple(dict.fromkeys(splits.test.cases)) and len(found.cases) == 2
    how = runs[0].recipe.inference_of((1, 32, 32))
    for case in splits.volumes["test"]:
        made = [predict_case(run.net, case, how, all_classes=True).probabilities for run in runs]
        label = ((made[0] + made[1]) / 2).argmax(0)  # type: ignore[operator]
        iou = [((label == c) & (case.label == c)).sum() / ((label == c) | (case.label == c)).sum() for c in (1, 2)]
        rows = [row.scores for row in found.rows if row.case == case.name]
        assert [row["iou"] for row in rows] == pytest.approx(iou, abs=1e-3)
    assert [member.folder for member in load_ensemble([done]).members] == [run.folder for run in runs]
    assert json.loads((done / "folds.json").read_text())["test"]["dice"]["mean"] == pytest.approx(found.mean("dice"))
    assert np.abs(made[0] - made[1]).max() > 1e-3  # type: ignore[operator]


def test_a_report_of_all_folds_says_what_they_scored_and_leads_to_theirs(done: Path, tmp_path: Path) -> None:
    call("report", str(done))
    page, found = (done / "report.html").read_text(), json.loads((done / "folds.json").read_text())
    of_two = found["validation"]["dice"]["classes"]["two"]
    for mean in (found["validation"]["dice"], of_two):
        ends = [f"<td>{mean[of][0]:.3f} – {mean[of][1]:.3f}</td>" for of in ("bootstrap", "student")]
        assert f"<td>{mean['mean']:.3f}</td>{ends[0]}{ends[1]}" in page
    assert f"<b>{found['validation']['dice']['mean']:.3f}</b><span>mean dice of all cases" in page
    assert f"<dd>{found['test']['dice']['mean']:.3f}<small>dice" in page and "2 networks together" in page
    for k in (0, 1):
        link = f'<a href="fold{k}/report.html">fold{k}</a></th>'
        assert f'{link}<td><span class="state finished">finished</span></td><td>12</td><td>3</td><td>3</td>' in page
        assert f"<td>{of_two['folds'][k]:.3f}</td>" in page and (done / f"fold{k}/report.html").is_file()
    held = read_evaluation(done / "fold1/evaluation/final-val").cases
    assert all(f'<th scope="row">{case}</th><td>1</td>' in page for case in held) and str(done.parent) not in page
    shares = Mixture.load(done / "fold0/mixture.json"), Mixture.load(done / "fold1/mixture.json")
    best = max(np.mean([m.weights[name] / m.concentration().total for m in shares]) for name in shares[0].weights)
    shown = call("show", str(done))  # with as many digits as tell the shares apart
    assert all(any(f"{best:.{digits}%}" in text for digits in range(5)) for text in (page, shown))
    elsewhere = write_report(done, tmp_path / "page.html").read_text()
    assert 'href="fold' not in elsewhere and '<th scope="row">fold0</th>' in elsewhere


def test_a_report_before_the_end_says_how_far_the_folds_are(
    done: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    young = tmp_path / "cv"
    shutil.copytree(done / "fold0", young / "fold0", ignore=shutil.ignore_patterns("checkpoints"))
    page = write_report(young).read_text()
    assert "1 of 2 folds are finished" in page and 'class="state stopped">stopped' in page and 'id="scores"' not in page
    assert "holds 1 of 2 folds" in failing(capfd, "evaluate", str(young))
    (young / "fold0/mixture.json").unlink()
    assert "not every fold has found a mixture yet" in failing(capfd, "show", str(young))


def test_a_cross_validation_is_evaluated_and_compared_as_one(
    done: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 160)
    before = {path: path.stat().st_mtime_ns for path in done.glob("fold*/evaluation/*/scores.csv")}
    said = call("evaluate", str(done), str(done))
    assert "2 folds: 6 cases of 6 patients" in said and "B − A, paired by patient" in said and "│ 6 " in said
    assert before == {path: path.stat().st_mtime_ns for path in done.glob("fold*/evaluation/*/scores.csv")}
    assert "chosen by the very cases" in failing(capfd, "evaluate", str(done), "--network", "best")
    assert 'Nearest: "test"' in failing(capfd, "evaluate", str(done), "--on", "tset")


@pytest.mark.slow
def test_finished_folds_are_skipped_and_others_go_on(done: Path, recipe: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in done.glob("fold*/final.pt")}
    cross_validate(load_recipe(recipe), done, 2, resume=True)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in done.glob("fold*/final.pt")}

    class Killed(Exception):
        pass

    folder, scored = tmp_path / "cv", (done / "scores.csv").read_text()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        from lomix_search.experiments.folds import cross_validate as module

        whole = module.run_recipe

        def cut(one: Recipe, place: Path, **how: object) -> object:
            def stop(step: int, dice: float) -> None:
                raise Killed

            return whole(one, place, on_validate=stop if place.name == "fold1" else None, **how)  # type: ignore[arg-type]

        patch.setattr(module, "run_recipe", cut)
        cross_validate(load_recipe(recipe), folder, 2)
    assert not (folder / "folds.json").exists() and len(fold_runs(folder)) == 2
    cross_validate(load_recipe(recipe), folder, 2, resume=True)
    assert (folder / "scores.csv").read_text() == scored
    for k in (0, 1):
        one, other = (read_tensors(home / f"fold{k}/final.pt") for home in (done, folder))
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_another_cross_validation_in_the_folder_is_refused(done: Path, recipe: Path, tmp_path: Path) -> None:
    for changes, folds, resume, said in (
        ([], 2, False, "fold0 holds a run already"),
        (["optimizer.lr=0.5"], 2, True, "was started with another recipe"),
        ([], 3, True, "was started with another recipe"),
    ):
        with pytest.raises(RunError, match=said):
            cross_validate(load_recipe(recipe, changes), done, folds, resume=resume)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/recipe.toml").write_text("")
    with pytest.raises(RunError, match="holds a single run"):
        cross_validate(load_recipe(recipe), tmp_path / "one", 2, resume=True)
    with pytest.raises(DataError, match="folds count from 0, and there are 6 patients"):
        cross_validate(load_recipe(recipe), tmp_path / "many", 7)
    assert not (tmp_path / "many").exists()


def test_what_cannot_be_folded_is_refused(capfd: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path) -> None:
    said = failing(capfd, "run", "chest_ct", "--folds", "5", "--folder", str(tmp_path / "x"))
    assert "data.kind = 'chest_ct' cannot be cut into folds" in said and "one patient" in said
    assert "it has no settings fold and folds" in failing(capfd, "run", str(write_tiny(tmp_path / "t")), "--folds", "2")
    assert "than or equal to 2" in failing(capfd, "run", str(recipe), "--folds", "1")
    assert "the recipe chooses fold 1" in failing(capfd, "run", str(recipe), "data.fold=1", "--folds", "2")
    assert "one at a time" in failing(capfd, "run", str(recipe), "--folds", "2", "--label-fraction", "0.5,1")
    assert not (tmp_path / "x").exists()


def test_intervals_and_folds_that_do_not_fit() -> None:
    def fold(*rows: tuple[str, str, float], unit: str = "mm") -> Evaluation:
        return Evaluation("strict", unit, tuple(ClassScores(c, p, "one", {"dice": v}) for c, p, v in rows))

    scores = FoldScores((fold(("a1", "a", 0.5), ("a2", "a", 0.7)), fold(("b", "b", 0.8), ("c", "c", math.nan))))
    found = scores.spread("dice", "one")
    assert found.mean == pytest.approx(2.0 / 3) and found.folds == pytest.approx((0.6, 0.8))
    margin = stats.t.ppf(0.975, 1) * np.std([0.6, 0.8], ddof=1) / math.sqrt(2)  # two patients have something to score
    assert found.student == pytest.approx((0.7 - margin, 0.7 + margin))
    assert json.loads(json.dumps(scores.to_dict()))["validation"]["dice"]["mean"] == pytest.approx(2.0 / 3)
    one = FoldScores((fold(("a", "a", 0.5)),)).spread("dice")
    assert one.bootstrap == (0.5, 0.5) and all(map(math.isnan, one.student))
    with pytest.raises(DataError, match="the case 'a' validates fold 0 and fold 1"):
        check_folds([fold(("a", "a", 0.5)), fold(("a", "a", 0.5))])
    with pytest.raises(DataError, match="fold 1 was scored otherwise than fold 0"):
        check_folds([fold(("a", "a", 0.5)), fold(("b", "b", 0.5), unit="voxel")])
