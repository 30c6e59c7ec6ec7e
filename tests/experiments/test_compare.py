"""Comparing strategies: names, statistics, and whole comparisons that survive failures and stops."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.commands import call, failing
from support.tiny_recipe import write_tiny

from lomix_search.errors import RecipeError, RunError
from lomix_search.experiments.compare.runner import compare_strategies
from lomix_search.experiments.compare.strategies import needed, read_strategies
from lomix_search.experiments.compare.verdict import agreement, paired
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.recipe import load_recipe

# -- strategies --------------------------------------------------------------------------------------------------------


def test_strategies_change_what_they_say() -> None:
    recipe = load_recipe("chest_ct", ["weighting.name=lookahead", "weighting.interval=4"])
    names = "last_layer, lookahead(rate=0.5,finest=0.2),random, torchjd:UW"
    last, look, random, uw = (s.apply(recipe, 7, 0.5) for s in read_strategies(names))
    assert (last.space.name, last.weighting.name) == ("last_layer", "uniform")
    assert look.weighting.settings == {"interval": 4, "rate": 0.5, "finest": 0.2}
    assert random.weighting.settings == {"seed": 7} and uw.weighting.name == "torchjd:UW"
    assert all(r.search.seed == 7 and r.search.label_fraction == 0.5 for r in (last, look, random, uw))
    assert look.space == recipe.space and look.optimizer == recipe.optimizer
    assert read_strategies("lookahead(rate=0.5)")[0].slug == "lookahead-rate=0.5"


def test_a_space_may_be_weighted_and_a_strategy_may_change_the_recipe() -> None:
    recipe = load_recipe("chest_ct")
    names = "deep_supervision(weighting=anneal,weighting.until=0.8),last_layer(optimizer.lr=1e-2),anneal(draw=8)"
    deep, last, drawn = (s.apply(recipe, 5, 1) for s in read_strategies(names))
    assert (deep.space.name, deep.weighting.name, deep.weighting.settings) == (
        "deep_supervision",
        "anneal",
        {"until": 0.8},
    )
    assert (
        last.optimizer.lr == 1e-2 and last.space.name == "last_layer" and last.optimizer.name == recipe.optimizer.name
    )
    assert drawn.weighting.settings == {"draw": 8, "seed": 5}  # the run's seed draws
    with pytest.raises(RecipeError, match="optimizer.speed"):
        read_strategies("uniform(optimizer.speed=3)")[0].apply(recipe, 5, 1)
    with pytest.raises(RecipeError, match=r"weighting = 'aneal': unknown. Nearest: \"anneal\""):
        read_strategies("mutation(weighting=aneal)")


def test_derived_maps_may_be_annealed(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    mixture([1.0] * SearchSpace.load("mutation").count(3)).save(found)
    (strategy,) = read_strategies("derived(top=3,weighting=anneal)")
    recipe = strategy.apply(load_recipe("chest_ct"), 2, 0.5, found)
    assert recipe.weighting.name == "anneal" and recipe.weighting.mixture == str(found)
    with pytest.raises(RecipeError, match=r"weighting = 'softplus': fixed or anneal is needed."):
        read_strategies("derived(weighting=softplus)")


def test_derived_brings_lookahead_along_and_comes_last() -> None:
    assert [s.name for s in needed(read_strategies("derived,uniform"))] == ["uniform", "lookahead", "derived"]
    assert [s.label for s in needed(read_strategies("derived(top=3),lookahead(rate=1)"))] == [
        "lookahead(rate=1)", "derived(top=3)",
    ]  # fmt: skip


def test_every_fault_of_the_strategies_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        read_strategies("lokahead,uniform,anneal(untl=1),derived(top=0),uniform,mutation(x=1)")
    lines = str(caught.value).splitlines()
    assert lines[0] == "the strategies have 5 faults."
    assert lines[1].startswith('  lokahead: unknown. Nearest: "lookahead". Known: anneal, auto, deep_supervision,')
    assert (
        lines[2] == '  anneal(untl=1): untl: unknown. Nearest: "until". Known: draw, given, seed, shape, start, until.'
    )
    assert lines[3] == "  derived(top=0): top = 0: a budget is a whole number of maps, at least 1."
    assert lines[4] == "  mutation(x=1): x: unknown. Known: weighting."
    assert lines[5] == "  uniform: named twice."
    with pytest.raises(RecipeError, match="none is named"):
        read_strategies(" , ")


# -- statistics --------------------------------------------------------------------------------------------------------


def mixture(weights: list[float]) -> Mixture:
    space = SearchSpace.load("mutation")
    maps = tuple(MapWeight(id=m.id, weight=w) for m, w in zip(space.maps(3), weights, strict=True))
    return Mixture(space=space, num_classes=2, num_maps=3, weighting="lookahead", maps=maps)


def test_paired_differences_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    one, base = rng.normal(0.9, 0.01, 6), rng.normal(0.89, 0.01, 6)
    found = paired(dict(enumerate(one)), dict(enumerate(base)) | {99: 0.1})
    interval = stats.ttest_rel(one, base).confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(stats.ttest_rel(one, base).pvalue) and found.pairs == 6
    assert math.isnan(paired({1: 0.9}, {1: 0.8}).low) and paired({1: 0.9}, {2: 0.8}).pairs == 0
    assert paired({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}).p == 1.0


def test_agreement_of_seeds() -> None:
    up, down = [float(i) for i in range(1, 8)], [float(8 - i) for i in range(1, 8)]
    assert agreement([mixture(up), mixture(up)]) == (pytest.approx(1.0), 1.0)
    assert agreement([mixture(up), mixture(down)])[0] == pytest.approx(-1.0)
    assert math.isnan(agreement([mixture([1.0] * 7)] * 2)[0]) and math.isnan(agreement([mixture(up)])[1])
    pruned = [mixture(up).prune(top=2, keep_finest=False), mixture(down).prune(top=2, keep_finest=False)]
    assert agreement(pruned)[1] == 0.0


# -- whole comparisons -------------------------------------------------------------------------------------------------

SMALL = ["search.steps=4", "space.name=lomix", "search.validate_every=4", "search.checkpoint_every=4"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.slow  # four runs, each a process of its own
def test_a_comparison_survives_a_failing_run_and_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", str(write_tiny(Path("tiny"))), *SMALL, "--seeds", "1", "weighting.name=lookahead"]
    asked += ["weighting.interval=2", "--strategies", "anneal(until=1),derived(top=3)", "--folder", "c", "--jobs", "2"]
    broken = Path("c/anneal-until=1/labels_1/seed_1/run")
    broken.mkdir(parents=True)
    (broken / "mixture.json").mkdir()  # so that the run cannot end
    output = call(*asked)
    assert "failed: anneal(until=1), 1 of the labels, seed 1: " in output and "exit code" in output
    rows = {row["strategy"]: row for row in json.loads(Path("c/compare.json").read_text())}
    assert set(rows) == {"lookahead", "derived(top=3)"}
    derived = Mixture.load("c/derived-top=3/labels_1/seed_1/run/mixture.json")
    assert len(derived.maps) == 3 and "P2" in derived.weights
    stamps = {path: path.stat().st_mtime_ns for path in Path("c").rglob("results.json")}
    (broken / "mixture.json").rmdir()
    for job in (*Path("c").rglob("job.toml"), Path("c/shared.toml")):  # as versions wrote it that knew fewer keys
        job.write_text(job.read_text().replace("sum_stages = false\n", ""))
    assert "1/1  anneal(until=1)" in call(*asked)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # finished runs were left alone
    assert len(json.loads(Path("c/compare.json").read_text())) == 3
    assert Path("c/compare.png").stat().st_size > 5000 and "| derived(top=3) |" in Path("c/compare.md").read_text()
    cases = Path("c/cases.csv").read_text().splitlines()
    assert cases[0] == "strategy,seed,labels,case,patient,class,dice" and len(cases) == 1 + 3 * 2 * 2
    said = call(*[word.replace("anneal(until=1),derived(top=3)", "lookahead") for word in asked])
    assert [row["strategy"] for row in json.loads(Path("c/compare.json").read_text())] == ["lookahead"]
    assert "not counted: 2 finished runs of earlier calls (anneal(until=1), derived(top=3))" in " ".join(said.split())
    assert "  --strategies 'lookahead,anneal(until=1),derived(top=3)' --seeds 1\n" in said
    Path("c/compare.json").unlink()  # their names are noted beside them
    assert "anneal(until=1), derived(top=3)" in call(
        *[w.replace("anneal(until=1),derived(top=3)", "lookahead") for w in asked]
    )
    error = failing(capfd, *asked, "optimizer.lr=0.5")
    assert "holds a run of another recipe." in error and "now:    lr = 0.5" in error


def test_bad_numbers_are_listed_together(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as caught:
        compare_strategies(load_recipe("chest_ct"), (), seeds=0, labels=(0, 1.5), jobs=0)
    assert str(caught.value).splitlines() == [
        "the comparison cannot be run.",
        "  --seeds 0: at least 1 is needed.",
        "  --label-fraction 0: lies outside (0, 1].",
        "  --label-fraction 1.5: lies outside (0, 1].",
        "  --jobs 0: at least 1 is needed.",
        "  Try:  --seeds 5 --label-fraction 0.1,1 --jobs 1",
    ]
    error = failing(capfd, "compare", "chest_ct", "--strategies", "anneal,uniform", "--baseline", "uniforn")
    assert error.startswith('RunError: --baseline uniforn: is not among the strategies. Nearest: "uniform".')
    assert "is no list of numbers" in failing(capfd, "compare", "chest_ct", "--label-fraction", "a")
