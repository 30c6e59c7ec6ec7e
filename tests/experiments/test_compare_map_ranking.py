"""Ranking by leaving maps out, and training with what is derived from it."""

import io
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import call
from support.tiny_recipe import write_tiny

from lomix_search.errors import MixtureError, RunError
from lomix_search.evaluation.statistics import mean_and_margin
from lomix_search.experiments.compare.map_ranking import MapRanking, MapScore, rank_maps, score_maps
from lomix_search.experiments.report.map_effects import effects_section
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace
from lomix_search.training.trackers import read_lines
from lomix_search.utils.terminal import Terminal

SMALL = ["search.steps=6", "search.batch_size=2", "space.name=lomix"]


@pytest.fixture
def mixture() -> Mixture:
    space = SearchSpace.load("mutation")
    maps = tuple(MapWeight(id=m.id, weight=1.0) for m in space.maps(3))
    return Mixture(space=space, num_classes=2, num_maps=3, weighting="lookahead", maps=maps)


def look(slopes: list[float | None], lr: float = 1.0, weights: list[float] | None = None) -> dict[str, Any]:
    return {
        "lookahead/slopes": slopes, "lookahead/scores": [s or 0.0 for s in slopes], "lookahead/length": 2.0,
        "mixture/weights": weights or [1.0] * 7, "train/lr": lr,
    }  # fmt: skip


def test_effects_are_weighted_slopes_averaged_over_the_looks(mixture: Mixture) -> None:
    lines = [
        look([1, 0, 3, 0, -1, 0, 0], lr=1.0),
        look([1, 0, 3, 4, -1, None, 0], lr=0.5, weights=[2, 1, 1, 1, 1, 0, 1]),
    ]
    scores = {s.id: s for s in score_maps(mixture, lines)}
    raw = np.array([1 * 2 + 1 * 2 * 0.5 * 2, 0, 3 * 2 + 3 * 0.5 * 2, 4 * 0.5 * 2, -2 - 1, 0, 0]) / 2
    for name, value in zip(mixture.weights, raw / np.abs(raw).sum(), strict=True):
        assert scores[name].effect == pytest.approx(value), name
    ranked = [s.id for s in score_maps(mixture, lines)]
    assert ranked[0] == "P3" and ranked[-1] == "add(1,3)"
    assert scores["add(2,3)"].looks == 1 and scores["P1"].looks == 2


def test_intervals_hold_the_mean_of_correlated_looks() -> None:
    rng, held, plain = np.random.default_rng(0), 0, 0
    for _ in range(400):
        noise = rng.standard_normal(120)
        series = np.empty(120)
        series[0] = noise[0]
        for i in range(1, 120):
            series[i] = 0.6 * series[i - 1] + 0.8 * noise[i]
        mean, margin = mean_and_margin(series)
        held += abs(mean) < margin
        plain += abs(mean) < 1.96 * series.std(ddof=1) / 120**0.5
    assert held / 400 > 0.88 > 0.75 > plain / 400
    assert mean_and_margin(np.ones(2)) == (1.0, np.inf) and mean_and_margin(np.ones(9)) == (1.0, 0.0)


def test_a_ranking_gives_a_mixture_to_train_with(mixture: Mixture) -> None:
    ranking = MapRanking(mixture, score_maps(mixture, [look([1, 0, -3, 5, 4, 0, 0])]))
    assert ranking.derive(3).weights == {"P3": 1.0, "add(1,2)": 1.0, "add(1,3)": 1.0}  # the finest always
    with pytest.raises(MixtureError, match="at least one map must stay"):
        ranking.derive(0)
    assert ranking.__rich__().row_count == 7


def test_runs_that_never_looked_are_refused(mixture: Mixture, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished run"):
        rank_maps(tmp_path)
    mixture.save(tmp_path / "mixture.json")
    with pytest.raises(RunError, match='was weighted by "lookahead" and never looked at held-out data'):
        rank_maps(tmp_path)


@pytest.mark.slow
def test_rank_then_train_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    recipe = str(write_tiny(tmp_path / "tiny"))
    output = call("rank", recipe, *SMALL, "weighting.interval=2", "--top", "4")
    assert "leaving one map out, 3 looks" in output
    entries = json.loads(Path("runs/tiny-rank/rank.json").read_text())
    assert len(entries) == 6 and sum(abs(e["effect"]) for e in entries) == pytest.approx(1)
    measured = Mixture.load("runs/tiny-rank/mixture.json")
    assert set(measured.weights.values()) == {1.0}  # rate 0 only measures
    assert "… and 2 more" in output and "ranked.json has" not in output
    assert "more" not in call("rank", "runs/tiny-rank")
    call("report", "runs/tiny-rank")
    page = Path("runs/tiny-rank/report.html").read_text()
    assert (
        page.count('class="rank"') == 6 and "Held alike to measure with" in page
    )  # of equal weights there is no order
    pasted = shlex.split(output.rpartition("next: lomix ")[2])
    assert pasted == ["train", "runs/tiny-rank", "--mixture", "runs/tiny-rank/ranked.json"]
    call(*pasted, "--folder", "again")
    again = Mixture.load("again/mixture.json")
    assert again.weighting == "fixed" and len(again.maps) == 4 and "P2" in again.weights
    call("train", recipe, *SMALL, "--mixture", "again/mixture.json", "--top", "2", "--folder", "two")
    lines = [line for line in read_lines(Path("two/metrics.jsonl")) if "train/loss" in line]
    assert len(Mixture.load("two/mixture.json").maps) == 2 and len(lines[0]["mixture/per_map"]) == 2


def test_what_is_rounded_to_nothing_has_no_sign(mixture: Mixture) -> None:
    table = io.StringIO()
    score = MapScore("P1", 1.0, -1e-5, -2e-5, 1e-5, -1e-6, 3)
    Terminal(file=table, width=80).print(MapRanking(mixture, (score,)))
    assert "0.0%" in table.getvalue() and "-0.0" not in table.getvalue() and "+0.0" not in table.getvalue()


def test_of_many_maps_the_strongest_alone_are_shown(mixture: Mixture) -> None:
    scores = tuple(MapScore(name, 1.0, 0.1 - i / 50, 0.0, 0.1, 0.5, 3) for i, name in enumerate(mixture.weights))
    ranking, told = MapRanking(mixture, scores), io.StringIO()
    Terminal(file=told, width=80).print(ranking.table(2))
    assert "… and 5 more" in told.getvalue() and "P2" in told.getvalue() and "P3" not in told.getvalue()
    assert "weight " not in told.getvalue() and "all weights are 1" in told.getvalue()
    Terminal(file=told, width=80).print(ranking)
    assert "add(1,2,3)" in told.getvalue()
    section = effects_section(MapRanking(mixture, scores * 3))
    assert "… and 11 more" in section and effects_section(None) == ""
    learned = replace(scores[0], weight=0.5)
    Terminal(file=told, width=80).print(MapRanking(mixture, (learned, *scores[1:])))
    assert "0.5000" in told.getvalue()
