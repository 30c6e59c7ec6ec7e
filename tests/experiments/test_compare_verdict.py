"""The verdict on strategies: by seed and patient, corrected for many, in a terminal, in files and as figures."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.strategy_runs import mixture, strategy_runs

from lomix_search.errors import RunError
from lomix_search.evaluation.statistics import crossed_change, holm
from lomix_search.experiments.compare.strategy_run import StrategyRun
from lomix_search.experiments.compare.verdict import compare_by_seed
from lomix_search.experiments.compare.verdict_figure import draw_curves, draw_verdict
from lomix_search.experiments.compare.verdict_table import cases_to_csv, read_verdict, to_json, to_markdown, to_table
from lomix_search.utils.terminal import Terminal

EFFECTS = {"last_layer": 0.0, "deep_supervision": 0.002, "derived(top=8,weighting=anneal)": 0.05}


def test_differences_are_over_seeds_and_patients_and_corrected() -> None:
    runs = strategy_runs(EFFECTS)
    rows = {row.strategy: row for row in compare_by_seed(runs)}
    parts = {n: np.array([r.tested.dice.mean(1) for r in runs if r.strategy == n and r.tested]) for n in EFFECTS}
    raw = {n: crossed_change(parts[n] - parts["last_layer"]) for n in EFFECTS if n != "last_layer"}
    corrected = holm({name: found.p for name, found in raw.items()})
    for name, known in raw.items():
        pair = rows[name].against["last_layer"]
        assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(
            (known.mean, known.low, known.high, known.p)
        )
        assert pair.p_holm == pytest.approx(corrected[name]) and (pair.pairs, pair.patients) == (5, 20)
    assert "last_layer" not in rows["last_layer"].against and set(rows["last_layer"].against) == {"deep_supervision"}
    assert math.isnan(rows["last_layer"].tau) and rows["deep_supervision"].tau == pytest.approx(1)


def test_scores_by_case_that_do_not_pair_leave_the_seeds_alone() -> None:
    runs = strategy_runs(EFFECTS)
    whole = compare_by_seed(runs)[2].against["last_layer"]
    for spoiled in (None, replace(runs[0].tested, cases=("other", *runs[0].tested.cases[1:]))):  # type: ignore[type-var,union-attr]
        pair = compare_by_seed([replace(runs[0], tested=spoiled), *runs[1:]])[2].against["last_layer"]
        assert pair.patients == 0 and pair.difference == pytest.approx(whole.difference)
        assert (pair.low, pair.high) != (whole.low, whole.high)
    rows = compare_by_seed([replace(run, tested=None) for run in runs])
    assert "over 5 seeds alone: scores by patient are not there" in to_markdown(rows)


def test_a_baseline_of_ones_own_and_few_seeds() -> None:
    base, few = "derived(top=8,weighting=anneal)", [run for run in strategy_runs(EFFECTS) if run.seed == 1]
    rows = compare_by_seed(few, base)
    assert rows[0].against[base].difference == pytest.approx(-0.05, abs=0.01)
    assert not math.isnan(rows[0].against[base].low)  # one seed: over the patients
    assert to_markdown(rows, base).splitlines()[0].startswith(f"| labels | strategy | mean ± spread | − {base} |")
    alone = compare_by_seed([replace(run, tested=None) for run in few], base)
    assert math.isnan(alone[0].against[base].low) and "-0.05" in to_markdown(alone, base)


def test_the_verdict_fits_a_terminal_and_opens_again(tmp_path: Path) -> None:
    rows = compare_by_seed([*strategy_runs(EFFECTS, labels=0.1), *strategy_runs(EFFECTS)])
    terminal = Terminal(width=80, record=True, file=io.StringIO())
    terminal.print(to_table(rows))
    shown = terminal.export_text()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown.replace(" … ", "")
    assert sum(" … " in line for line in shown.splitlines()) == 4  # no interval is broken in two
    assert "10 % of the training items" in shown and "all training items" in shown and "derived(top=8," in shown
    assert "over 5 seeds and 20 patients. p is" in " ".join(shown.split())
    path = tmp_path / "compare.json"
    path.write_text(to_json(rows))
    assert to_markdown(read_verdict(path)) == to_markdown(rows) and json.loads(path.read_text())[0]["tau"] is None
    before = [{key: value for key, value in row.items() if key != "against"} for row in json.loads(path.read_text())]
    pair = {"difference": 0.1, "low": 0.0, "high": 0.2, "p": 0.04, "changes": [0.1, 0.1]}
    path.write_text(
        json.dumps([row | {"against": {"last_layer": pair}} for row in before])
    )  # as earlier versions wrote
    assert "seeds alone" in to_markdown(read_verdict(path))
    for damaged in ("[1]", "{", "[[[", '[{"strategy": "a"}]'):
        path.write_text(damaged)
        with pytest.raises(RunError, match="holds no verdict of lomix compare"):
            read_verdict(path)


def test_every_case_stands_in_the_table_of_cases() -> None:
    runs = strategy_runs(EFFECTS, seeds=2, patients=3)
    runs[0].tested.dice[1, 0] = np.nan  # type: ignore[union-attr]
    lines = cases_to_csv([*runs, StrategyRun("old", 1.0, 1, 0.5, 0.1, mixture([1.0] * 7))]).splitlines()
    assert len(lines) == 1 + 3 * 2 * 3 * 2 and lines[3] == "last_layer,1,1,case1,case1,large,"
    assert lines[1].startswith("last_layer,1,1,case0,case0,large,0.")
    assert lines[-1].startswith('"derived(top=8,weighting=anneal)",2,1,case2,case2,small,0.')


@pytest.mark.slow
def test_the_verdict_as_figures(tmp_path: Path) -> None:
    runs = [*strategy_runs(EFFECTS, labels=0.1), *strategy_runs(EFFECTS)]
    draw_verdict(tmp_path / "compare.png", compare_by_seed(runs))
    draw_curves(tmp_path / "curves.png", runs)
    draw_curves(tmp_path / "none.png", [replace(run, curve={}) for run in runs])
    assert (tmp_path / "compare.png").stat().st_size > 5000 and (tmp_path / "curves.png").stat().st_size > 5000
    assert not (tmp_path / "none.png").exists()
