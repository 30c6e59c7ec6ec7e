"""The referee: every check passes, fails and stays open where it should, on tables and on runs."""

import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.audit_tables import fair_rows, write_rows
from support.commands import call, ending
from support.own_layout import written_ten
from support.score_tables import score_table
from support.strategy_runs import mixture, strategy_runs

from lomix_search.errors import RunError
from lomix_search.experiments.audit.audit_text import audit_to_dict, audit_to_latex, audit_to_markdown
from lomix_search.experiments.audit.entry import AuditEntry
from lomix_search.experiments.audit.finding import Finding
from lomix_search.experiments.audit.referee import AuditReport, audit_entries, audit_paths
from lomix_search.experiments.compare.verdict import compare_by_seed
from lomix_search.experiments.compare.verdict_table import cases_to_csv, to_json

Rows = list[dict[str, object]]


def found(report: AuditReport) -> dict[str, Finding]:
    return {one.key: one for one in report.findings}


def states(report: AuditReport) -> dict[str, str]:
    return {one.key: one.state for one in report.findings}


def of_table(tmp_path: Path, rows: Rows, delimiter: str = ",", baseline: str | None = None) -> AuditReport:
    return audit_paths([write_rows(tmp_path / "table.csv", rows, delimiter)], baseline)


# -- tables ------------------------------------------------------------------------------------------------------------

OPEN = {"settings", "data", "trained", "collapse", "stability"}
"""What a table of scores cannot say."""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_that_says_all_passes_what_a_table_can_say(tmp_path: Path, delimiter: str) -> None:
    report = of_table(tmp_path, fair_rows(), delimiter)
    assert {key for key, state in states(report).items() if state != "passed"} == OPEN and not report.failed
    assert report.verdict == "Nothing failed, but 5 of 17 checks could not be made: whether it is fair stays open."
    assert found(report)["noise"].reason.startswith("mixture − last layer +0.03")
    assert "over 5 seeds and 12 patients" in found(report)["noise"].reason


def every(**changes: object) -> Callable[[Rows], Rows]:
    """Change rows of the mixture."""
    return lambda rows: [row | changes if row["method"] == "mixture" else row for row in rows]


def dropped(**those: object) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if not all(row.get(key) == value for key, value in those.items())]


SPOILED: Mapping[str, tuple[Callable[[Rows], Rows], str, str]] = {
    "steps": (every(steps=900), "steps", "steps differ: last layer 500, mixture 900"),
    "batch": (every(batch=8), "batch", "batch differ: last layer 4, mixture 8"),
    "time": (every(seconds=100), "time", "mixture took 1.67 times as long as last layer on the clock"),
    "parameters": (every(parameters=1001), "parameters", "parameters differ: last layer 1000, mixture 1001"),
    "lr": (every(lr=0.01), "settings", "lr differ: last layer 0.001, mixture 0.01"),
    "checkpoint": (every(checkpoint="test"), "checkpoint", "mixture: the checkpoint was chosen on test data"),
    "ways": (every(checkpoint="validation"), "checkpoint", "checkpoints were chosen in different ways: last"),
    "tuned": (every(tuned_on="test"), "tuning", "mixture was tuned on test data"),
    "best": (every(best=0.1), "final_best", "last layer and mixture change places"),
    "a seed": (dropped(method="mixture", seed=3), "seeds", "seed 3 is lacking of mixture"),
    "a case": (dropped(method="mixture", case="c3"), "cases", "2 different sets of test cases"),
    "leak": (lambda rows: [row | {"patient": "p3"} if row["split"] == "train" else row for row in rows], "patients",
             "last layer: 1 patient in train and test: p3; mixture: 1 patient in train and test: p3"),
    "dead": (lambda rows: [row | {"score": 0} if (row["method"], row.get("class"), row["seed"]) == ("mixture", "b", 1)
                           else row for row in rows], "dead", "b has 0 in mixture, seed 1"),
    "two seeds": (lambda rows: [row for row in rows if row["seed"] in (0, 1)], "seeds",
                  "fewer than 3 seeds: last layer 2, mixture 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_unfair_fails_and_says_why(tmp_path: Path, name: str) -> None:
    spoil, key, why = SPOILED[name]
    report = of_table(tmp_path, spoil(fair_rows()))
    assert states(report)[key] == "failed" and found(report)[key].reason.startswith(why)
    assert report.verdict.startswith("Not shown to be a fair comparison: ")


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        ("seed", {"seeds"}), ("steps", {"steps"}), ("batch", {"batch"}), ("seconds", {"time"}),
        ("best", {"final_best"}),
        ("parameters", {"parameters"}), ("checkpoint", {"checkpoint"}), ("tuned_on", {"tuning"}), ("class", {"dead"}),
    ],
)  # fmt: skip
def test_what_is_not_said_is_never_passed(tmp_path: Path, column: str, keys: set[str]) -> None:
    rows = [{key: value for key, value in row.items() if key != column} for row in fair_rows()]
    if column == "class":
        rows = [row for row, whole in zip(rows, fair_rows(), strict=True) if whole.get("class") != "b"]
    if column == "seed":
        rows = [row for row, whole in zip(rows, fair_rows(), strict=True) if whole["seed"] == 0]
    report = of_table(tmp_path, rows)
    assert {key for key, state in states(report).items() if state == "could not be checked"} >= keys | OPEN


def test_differences_within_the_noise_fail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: Rows = [{"method": m, "seed": s, "score": 0.8 + rng.normal(0, 0.01)} for m in ("LL", "new") for s in range(5)]
    report = of_table(tmp_path, rows)
    assert found(report)["noise"].state == "failed" and "after Holm, over 5 seeds)" in found(report)["noise"].reason
    assert report.tables[0].baseline == "LL" and of_table(tmp_path, rows, baseline="new").tables[0].baseline == "new"
    one = of_table(tmp_path, [row for row in rows if row["seed"] == 1])
    assert found(one)["noise"].state == "could not be checked" and "in 1 seed; the noise" in found(one)["noise"].reason
    assert states(one)["seeds"] == "failed"
    alone = of_table(tmp_path, [row for row in rows if row["method"] == "LL"])
    assert found(alone)["noise"].reason == "there is one method"
    with pytest.raises(RunError, match=r'--baseline nwe: no method is called so. Nearest: "new"'):
        of_table(tmp_path, rows, baseline="nwe")


def test_published_means_are_judged_by_the_spread_that_is_said(tmp_path: Path) -> None:
    def reason(**more: object) -> tuple[str, str]:
        rows: Rows = [{"method": "DS", "score": 82.9}, {"method": "new", "score": 84.0} | more]
        rows[0] |= {"spread": 0.2, "repeats": 5} if more.get("repeats") else {}
        one = found(of_table(tmp_path, rows))["noise"]
        return one.state, one.reason

    assert reason() == ("could not be checked", "new − DS +1.1: no spread over seeds is published")
    assert reason(spread=1.3) == ("failed", "new − DS +1.1 is not above the spread over seeds of 1.3")
    state, words = reason(spread=0.3)
    assert state == "could not be checked" and words.endswith(
        "the spread of new alone; an interval needs seeds of both"
    )
    state, words = reason(spread=0.5, repeats=5)
    assert state == "could not be checked" and "by Welch's t from means and spreads" in words
    assert reason(spread=1.09, repeats=2)[0] == "failed"


def test_the_folds_of_a_seed_are_one_run_unless_they_share_patients(tmp_path: Path) -> None:
    rows = [row | {"fold": int(str(row["case"])[1:]) % 3} for row in fair_rows() if row["split"] == "test"]
    report = of_table(tmp_path, rows)
    assert "over 5 seeds and 12 patients" in found(report)["noise"].reason
    assert states(report)["patients"] == "could not be checked"  # who was trained on is not said
    shared = [row | {"patient": "p1"} if row["case"] == "c2" else row for row in rows]
    leaks = found(of_table(tmp_path, shared))["patients"]
    assert leaks.state == "failed" and "1 patient in fold 1 and fold 2: p1" in leaks.reason


def test_the_cases_of_a_comparison_are_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(cases_to_csv(strategy_runs({"last_layer": 0.0, "anneal": 0.05})))
    report = audit_paths([path])
    assert found(report)["noise"].state == "passed" and report.tables[0].baseline == "last_layer"


def test_comparisons_of_other_data_are_kept_apart(tmp_path: Path) -> None:
    one, other = fair_rows(), [row | {"seed": 10 + int(str(row["seed"]))} for row in fair_rows()]
    paths = [write_rows(tmp_path / f"{name}.csv", rows) for name, rows in (("a", one), ("b", one), ("c", other))]
    assert [table.setting for table in audit_paths(paths[:2]).tables] == ["a.csv", "b.csv"]
    (together,) = audit_paths([paths[0], paths[2], paths[0]]).tables  # more seeds of the same
    assert {row.strategy: len(row.dice) for row in together.rows} == {"last layer": 10, "mixture": 10}


FAULTY = {
    "": "column 'method': missing.\n  column 'score': missing.",
    "method,score\n": "it has no rows.",
    "method,score,sede\na,1,2\n": "column 'sede': unknown. Nearest: \"seed\". Known: batch, best, case,",
    "method,score,score\na,1,2\n": "column 'score': there twice.",
    "method,score\n,1\nb,\nc,x\n": "line 2: method: missing.\n  line 3: score: missing.\n  line 4: score = 'x': a",
    "method,score,checkpoint\na,1,best\n": "line 2: checkpoint = 'best': last, validation, test are known.",
    "method,score\na,1\na,2\n": "a: two rows of the same run; name seed, fold or case.",
    "method,score,case\na,1,x\na,2,\n": "a: some rows name a case and others none.",
    "method,score,case,steps\na,1,x,5\na,2,y,6\n": "a: steps is 5, then 6.",
    "method,score,case,patient,class\na,1,x,p,u\na,2,x,q,v\n": "a: case x is of patients p, q.",
    "method,score,split\na,,train\n": "line 2: split = 'train': names no case and no patient.",
    "method,score\na,nan\n": "line 2: score = 'nan': a number is needed.",
    'method,score\n"a,1\n': "is not a CSV file.",
    "method,score\n\xff,1\n": "is not a CSV file.",
}


@pytest.mark.parametrize("text", FAULTY)
def test_what_is_no_table_is_refused_with_all_its_faults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(RunError) as caught:
        audit_paths([path])
    assert FAULTY[text] in str(caught.value) and str(path) in str(caught.value)


# -- forms -------------------------------------------------------------------------------------------------------------


def test_a_report_in_every_form(tmp_path: Path) -> None:
    rows = [row | {"method": "m_1 & 50 %"} if row["method"] == "mixture" else row for row in fair_rows()]
    report = of_table(tmp_path, rows)
    text = audit_to_markdown(report)
    assert text.splitlines()[0].startswith("| method | score | − last layer (95 %) | p | steps | s/step | n |")
    assert "| equal steps | passed | steps: 500 |" in text and text.endswith(f"{report.verdict}\n")
    latex = audit_to_latex(report)
    assert r"m\_1 \& 50 \%" in latex and latex.count(r"\toprule") == 2 and r"$\pm$" in latex and "±" not in latex
    plain = audit_to_dict(report)
    assert plain["verdict"] == report.verdict and len(plain["checks"]) == 17
    assert plain["settings"][0]["methods"][1]["patients"] == 12 and plain["settings"][0]["baseline"] == "last layer"


# -- runs of this library ----------------------------------------------------------------------------------------------


def entry(method: str, seed: int, **changes: object) -> AuditEntry:
    weights = [9.0, 8, 7, 3, 2, 1, 1 + 0.1 * seed]
    curve = {step: 0.8 for step in range(100, 1700, 100)}
    known = AuditEntry(method, "", str(seed), 0.8, mixture=mixture(weights), curve=curve)
    return replace(known, **changes)  # type: ignore[arg-type]


def test_weights_that_collapse_or_disagree_are_told() -> None:
    fine = states(audit_entries([entry("m", seed) for seed in range(3)]))
    assert fine["collapse"] == fine["stability"] == fine["trained"] == "passed"
    one = found(audit_entries([entry("m", seed, mixture=mixture([9.0, 0, 0, 0, 0, 0, 0])) for seed in range(3)]))
    assert one["collapse"].state == "failed" and "m: all weight on P1 in 3 of 3 runs" in one["collapse"].reason
    even = found(audit_entries([entry("m", seed, mixture=mixture([1.0] * 7)) for seed in range(3)]))
    assert "m: 7 maps weigh the same in 3 of 3 runs" in even["collapse"].reason
    orders = [list(map(float, order)) for order in itertools.islice(itertools.permutations(range(1, 8)), 0, 5000, 1700)]
    loose = found(audit_entries([entry("m", seed, mixture=mixture(w)) for seed, w in enumerate(orders)]))
    assert loose["stability"].state == "failed" and "m: τ " in loose["stability"].reason
    given = found(audit_entries([entry("m", seed, mixture=mixture([1.0] * 7, "uniform")) for seed in range(3)]))
    assert given["collapse"].reason == given["stability"].reason == "no weights were searched"


def test_training_that_still_gains_is_told() -> None:
    rising = {step: step / 2000 for step in range(100, 1700, 100)}
    curve = found(audit_entries([entry("m", seed, curve=rising) for seed in range(3)]))["trained"]
    assert curve.state == "failed" and curve.reason == "m still rises by 0.200 in the last quarter"
    few = found(audit_entries([entry("m", 1, curve={1: 0.5})]))["trained"]
    assert few.state == "could not be checked" and few.reason == "validated 1 times; 8 show a trend"


def test_a_class_that_validation_never_saw_predicted_is_dead() -> None:
    said = {"warnings": "predicted nowhere in the last validations: posterior"}
    dead = found(audit_entries([entry("m", 1, facts=said)]))["dead"]
    assert dead.state == "failed" and dead.reason.endswith(
        "m, seed 1: predicted nowhere in the last validations: posterior"
    )


def test_runs_are_audited_where_they_lie(home: Path, tmp_path: Path) -> None:
    report = audit_paths([home / "one", home / "deep/two"])
    named = found(report)
    assert named["steps"].state == named["batch"].state == named["checkpoint"].state == "passed"
    assert named["settings"].state == "failed" and "optimizer.lr is 0.01, 0.03" in named["settings"].reason
    assert named["tuning"].state == named["patients"].state == "could not be checked"
    assert named["seeds"].state == "failed" and named["data"].reason == "one hash of data and split"
    assert [entry.method for entry in report.tables[0].entries] == ["deep_supervision, softplus"] * 2
    for name in ("last_layer", "softplus"):
        for seed in (1, 2, 3):
            place = tmp_path / "c" / name / "labels_1" / f"seed_{seed}"
            place.mkdir(parents=True)
            shutil.copytree(home / "one", place / "run")
    compared = audit_paths([tmp_path / "c"])
    assert compared.tables[0].baseline == "last_layer" and states(compared)["seeds"] == "passed"
    assert found(compared)["noise"].state == "failed" and "+0 (+0 … +0, p 1" in found(compared)["noise"].reason


def of_prepared(run: Path, root: Path, **keys: object) -> None:
    """Say in a run's recipe that it was trained on prepared data."""
    text = (run / "recipe.toml").read_text()
    head, _, rest = text.partition("[data]")
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    after = rest[rest.index("\n[") :]
    (run / "recipe.toml").write_text(f'{head}[data]\nkind = "prepared"\nroot = "{root}"\n{own}{after}')


def test_prepared_data_say_who_is_on_which_side(home: Path, tmp_path: Path) -> None:
    data = written_ten(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(home / "one", run)
    of_prepared(run, data, classes=["one", "two"], label_fraction=0.5)
    assert audit_paths([run]).tables[0].setting == "50 % of the training items"
    of_prepared(run, data, classes=["one", "two"])
    passed = found(audit_paths([run]))["patients"]
    assert passed.state == "passed" and passed.reason == "training, validation and test share no patient"
    shutil.rmtree(data)
    assert found(audit_paths([run]))["patients"].state == "could not be checked"


def test_a_cross_validation_is_one_run_whose_folds_share_nobody(home: Path, tmp_path: Path) -> None:
    data, folds = written_ten(tmp_path), tmp_path / "cv"
    for fold in range(2):
        shutil.copytree(home / "one", folds / f"fold{fold}")
        of_prepared(folds / f"fold{fold}", data, classes=["one", "two"], folds=2, fold=fold)
    (folds / "scores.csv").write_text(score_table(0.0).to_csv())
    report = audit_paths([folds])
    assert states(report)["patients"] == "passed" and states(report)["seeds"] == "failed"
    (only,) = report.tables[0].entries
    assert only.tested is not None and len(only.tested.cases) == 12 and len(set(only.tested.patients)) == 6
    assert only.score == pytest.approx(score_table(0.0).mean("dice"))
    of_prepared(folds / "fold1", data, classes=["one", "two"], folds=2, fold=0)  # as a careless copy would be
    leak = found(audit_paths([folds]))["patients"]
    assert leak.state == "failed" and "in two folds: " in leak.reason


def test_a_comparison_of_which_the_verdict_alone_is_left(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(to_json(compare_by_seed(strategy_runs({"last_layer": 0.0, "anneal": 0.05}))))
    report = audit_paths([tmp_path])
    assert states(report)["seeds"] == states(report)["noise"] == "passed"
    assert states(report)["steps"] == states(report)["cases"] == "could not be checked"
    for nothing in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(RunError, match=r"is no folder and no CSV file|holds no finished run"):
            audit_paths([nothing])


ROOT = Path(__file__).parents[2]


def test_the_published_numbers_as_the_docs_show_them() -> None:
    report = audit_paths([ROOT / "docs/evidence/lomix_paper.csv"])
    assert {key for key, state in states(report).items() if state == "failed"} == {"dead", "noise"}
    assert "passed" not in states(report).values() and "+0.45 is not above" in found(report)["noise"].because[-1]


def test_the_command_prints_one_form_and_its_exit_code_tells(tmp_path: Path) -> None:
    path = str(write_rows(tmp_path / "table.csv", fair_rows()))
    assert json.loads(call("audit", path, "--json"))["checks"][0]["state"] == "passed"
    assert call("audit", path, "--latex").startswith(r"\begin{tabular}{lrrrrrr}")
    shown = call("audit", path)
    assert "not checked" in shown and "Nothing failed" in shown and max(map(len, shown.splitlines())) <= 80


def test_the_page_runs_and_shows_what_is_printed_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    page = (ROOT / "docs/audit.md").read_text()
    Path("table.csv").write_text(re.findall(r"```csv\n(.*?)```", page, re.DOTALL)[0])
    shown = audit_to_markdown(audit_paths([Path("docs/evidence/lomix_paper.csv")]))
    assert shown.partition("| check |")[2] in page and shown.splitlines()[-1] in page
    asked = re.findall(r"^lomix audit (\S+\.csv[^#\n]*)(?:# exit code (\d))?", page, re.MULTILINE)
    assert len(asked) >= 3
    for words, code in asked:
        ending(int(code or 0), "audit", *words.split())
