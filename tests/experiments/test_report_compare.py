"""The page of a comparison: all baselines, the curves, the referee; of hostile names nothing runs."""

import shutil
from pathlib import Path

import pytest
from support.browser import PROGRAM, Browser
from support.strategy_runs import strategy_runs

from lomix_search.experiments.compare.strategy_run import read_runs
from lomix_search.experiments.compare.verdict import compare_by_seed
from lomix_search.experiments.compare.verdict_table import to_json
from lomix_search.experiments.report.write import write_report


@pytest.fixture
def comparison(home: Path, tmp_path: Path) -> Path:
    for name in ("last_layer", "deep_supervision", "anneal-until=1"):
        for seed in (1, 2):
            place = tmp_path / name / "labels_1" / f"seed_{seed}"
            place.mkdir(parents=True)
            shutil.copytree(home / "one", place / "run")
    rows = compare_by_seed(read_runs(tmp_path, ["last_layer", "deep_supervision", "anneal(until=1)"]))
    (tmp_path / "compare.json").write_text(to_json(rows))
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_reasons_of_the_referee_are_read_without_scrolling(comparison: Path, width: int) -> None:
    with Browser() as browser:
        browser.open(write_report(comparison), width, phone=width < 400)
        assert browser.value("document.documentElement.scrollWidth") <= width
        inside = "(e => e.scrollWidth - e.clientWidth)(document.querySelector('#audit .scroll'))"
        assert browser.value(inside) <= 0


def test_a_comparison_has_a_page(comparison: Path) -> None:
    html = write_report(comparison).read_text()
    assert "− last_layer" in html and "− deep_supervision" in html and "anneal(until=1)" in html
    assert (
        "fewer than 3 seeds: last_layer 2" in html
        and "validation Dice" in html
        and "over 2 seeds and 2 patients" in html
    )
    assert "Not shown to be a fair comparison" in html


def test_a_verdict_alone_has_a_page_too(tmp_path: Path) -> None:
    rows = compare_by_seed(strategy_runs({"last_layer": 0.0, "<b>x</b>": 0.05}))
    (tmp_path / "compare.json").write_text(to_json(rows))
    html = write_report(tmp_path, tmp_path / "page.html").read_text()
    assert "&lt;b&gt;x" in html and "<b>x" not in html and "+0.05" in html
