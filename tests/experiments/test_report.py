"""Pictures and pages: they show what they are given, in every format, at every size, in a real browser."""

import base64
import io
import json
import platform
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from PIL import Image
from support.browser import PROGRAM, Browser
from support.tiny_recipe import tiny

from lomix_search.data.dataset import Slices
from lomix_search.errors import RunError, SpaceError
from lomix_search.experiments.figures import draw_predictions, draw_space, draw_weights, new_figure, save_figure
from lomix_search.experiments.predictions import PredictedSlices, look
from lomix_search.experiments.report.charts import ChartAxis, Line, chart
from lomix_search.experiments.report.run_content import read_run_content
from lomix_search.experiments.report.run_header import selection_verdict
from lomix_search.experiments.report.slice_viewer import difference_mask, uri
from lomix_search.experiments.report.space_graph import ring_layout, space_graph
from lomix_search.experiments.report.study_content import read_study_content
from lomix_search.experiments.report.weight_charts import heat_map, maps_of
from lomix_search.experiments.report.write import write_report
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.tune.outer_search import tune
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as picture:
        found = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert found is not None
    return {colour for count, colour in found if count > 50}  # type: ignore[misc]


def test_predictions_show_classes_and_disagreements(tmp_path: Path) -> None:
    truth = np.zeros((1, 16, 16), np.int64)
    truth[0, 4:12, 4:12] = 2
    classes = ["background", "ribs", "spine"]
    draw_predictions(tmp_path / "same.png", np.zeros((1, 16, 16)), truth, truth, classes, ["slice 7"])
    draw_predictions(tmp_path / "wrong.png", np.zeros((1, 16, 16)), truth, 0 * truth, classes, ["slice 7"])
    spine = (132, 58, 0)  # the second colour of the palette, at its opacity over black
    assert any(np.abs(np.subtract(colour, spine)).max() < 4 for colour in colours(tmp_path / "same.png"))
    yellow = (255, 255, 0)
    assert yellow in colours(tmp_path / "wrong.png") and yellow not in colours(tmp_path / "same.png")


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    odd = ["background", "a$b", "$\\frac{", "_hidden", "肺", "[/bold]", "<b>", "%s {0}"]
    truth = np.arange(64).reshape(1, 8, 8) % len(odd)
    draw_predictions(tmp_path / "odd.png", np.zeros((1, 8, 8)), truth, truth, odd, ["case $1 and $\\x"])
    figure = new_figure(3, 2)
    figure.subplots().set_yticks(range(2), ["$\\bad{", "$x$"])
    save_figure(figure, tmp_path / "ticks.svg")
    with Image.open(tmp_path / "odd.png") as picture:
        assert picture.width > 1000


def test_weights_of_any_space_are_drawn(tmp_path: Path) -> None:
    for name, stages in (("lomix", 4), ("last_layer", 3), ("extended", 5)):
        space = SearchSpace.load(name)
        maps = tuple(MapWeight(id=m.id, weight=0.5 / (i + 1)) for i, m in enumerate(space.maps(stages)))
        mixture = Mixture(space=space, num_classes=3, num_maps=stages, weighting="softplus", maps=maps)
        history = [{"step": step, "mixture/weights": [0.7] * len(maps)} for step in (1, 2)]
        draw_weights(tmp_path / f"{name}.png", mixture, [{"step": 1, "val/dice": 0.5}, *history])
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 1000 and picture.height > 800


def test_a_space_is_drawn_in_every_format(tmp_path: Path) -> None:
    space = SearchSpace.load("mutation")
    for ending in ("png", "svg", "pdf", "dot", "mmd", "graphml"):
        draw_space(space, 3, tmp_path / f"space.{ending}", {"P1": 0.25, "add(1,2)": 0.5})
    graph = nx.read_graphml(tmp_path / "space.graphml")
    assert graph.nodes["add(1,2)"]["weight"] == 0.5 and len(graph) == 3 + 1 + 7
    assert '"add" -> "add(1,2)"' in (tmp_path / "space.dot").read_text()
    mermaid = (tmp_path / "space.mmd").read_text()
    assert mermaid.startswith("flowchart LR") and mermaid.count("-->") == graph.number_of_edges()
    assert "add(1,2) 0.500" in mermaid
    assert "add(1,2) 0.500" in (tmp_path / "space.svg").read_text()
    assert (tmp_path / "space.pdf").read_bytes().startswith(b"%PDF")


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(SpaceError) as caught:
        draw_space(SearchSpace.load("lomix"), 3, tmp_path / "space.bmp")
    assert str(caught.value) == (
        '"space.bmp": no picture format ends in ".bmp". Known: .dot, .mmd, .graphml, .png, .svg, .pdf.'
    )


# -- the page ----------------------------------------------------------------------------------------------------------

chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: apt-get install chromium")


SMALL = ["search.steps=4", "search.validate_every=2", "network.args.width=8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report")
    run_recipe(tiny(home / "recipe", [*SMALL, "space.name=lomix", 'about=<b>not bold</b> & "quoted"']), home / "run")
    return home / "run"


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    return write_report(run)


class Found(HTMLParser):
    """Collects the tags of a page, and the addresses in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_says_what_the_files_say(run: Path, report: Path) -> None:
    page, results = report.read_text(), json.loads((run / "results.json").read_text())["test_dice"]
    assert f"<b>{results['final']['mean']:.3f}</b><span>mean test Dice, final network</span>" in page
    for name in ("large", "small"):
        assert f"<td>{results['final']['per_class'][name]:.3f}</td>" in page
    for row in results["final"]["cases"]:
        assert f">{row['case']}</th>" in page
    mixture = Mixture.load(run / "mixture.json")
    assert all(f'data-id="{m.id}"' in page for m in mixture.maps)
    assert f"{mixture.ranked()[0].weight:.4f}" in page
    assert "&lt;b&gt;not bold&lt;/b&gt; &amp; &quot;quoted&quot;" in page
    assert "lomix reproduce run" in page and torch.__version__ in page


def test_the_page_is_one_file_and_names_no_folder(run: Path, report: Path) -> None:
    page = report.read_text()
    for tag, attributes in Found(page).tags:
        for key in ("src", "href"):
            assert str(attributes.get(key) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page
    words = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page)
    assert str(run.parent) not in page and not re.search(rf"\b{re.escape(platform.node())}\b", words)


def test_a_run_without_an_end_has_a_page(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "young")
    for name in ("mixture.json", "results.json", "seen.npz", "environment.json", "report.html"):
        (tmp_path / "young" / name).unlink(missing_ok=True)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "young/metrics.jsonl").write_text("\n".join([*lines[:3], '{"step": 4, "train/lo']))
    status = json.loads((run / "status.json").read_text()) | {"state": "failed", "reason": "RunError: <fire>"}
    (tmp_path / "young/status.json").write_text(json.dumps(status))
    page = write_report(tmp_path / "young").read_text()
    assert "This run failed at step 2 of 4: RunError: &lt;fire&gt;." in page
    assert "best mean validation Dice so far, at step 2" in page and 'id="graph"' not in page


def test_the_verdict_is_the_monitors(run: Path) -> None:
    story = read_run_content(run)
    assert story.mixture is not None
    kind, title, words = selection_verdict(story, story.mixture)
    assert (kind, title) == ("so-so", "Hardly any selection") and "48" not in title and "of 6 maps" in words
    warned = story.mixture.provenance.model_copy(update={"warnings": ("they <only> shrink",)})
    kind, _, words = selection_verdict(story, story.mixture.model_copy(update={"provenance": warned}))
    assert (kind, words) == ("bad", "they &lt;only&gt; shrink")
    few = tuple(MapWeight(id=m.id, weight=1.0 if m.id in ("P2", "add(1,2)") else 0.0) for m in story.mixture.maps)
    kind, title, words = selection_verdict(story, story.mixture.model_copy(update={"maps": few}))
    assert (kind, title) == ("good", "The weights select") and words.startswith("2.0 of")
    set_ = story.mixture.model_copy(update={"weighting": "uniform"})
    assert selection_verdict(story, set_)[1] == "The weights were set, not searched"


def test_the_graph_has_a_place_for_every_map_of_any_space() -> None:
    for name, stages in (("lomix", 4), ("lomix", 6), ("last_layer", 1), ("mutation", 3), ("extended", 5)):
        space = SearchSpace.load(name)
        maps = tuple(MapWeight(id=m.id, weight=0.5) for m in space.maps(stages))
        mixture = Mixture(space=space, num_classes=3, num_maps=stages, weighting="softplus", maps=maps)
        place = ring_layout(space.graph(stages), maps_of(mixture))
        ring = np.array([place[m.id] for m in maps])
        assert np.allclose(np.linalg.norm(ring, axis=1), 372)
        if len(ring) > 1:
            apart = np.linalg.norm(ring[:, None] - ring[None], axis=2) + 1e9 * np.eye(len(ring))
            assert apart.min() > 5
        drawn = space_graph(mixture)
        assert all(f'data-id="{m.id}"' in drawn for m in maps)
        assert heat_map(mixture).count('class="cell') == len(maps)


def test_charts_have_round_ticks_gaps_and_log_axes() -> None:
    lines = [Line("a", [0, 1, 2, 13], [0.0, None, 2.0, float("nan")]), Line("b", [0, 13], [1.0, 9.0], "red", "thin")]
    drawn = chart("t <x>", lines, ChartAxis("step"), ChartAxis())
    assert "<figcaption>t &lt;x&gt;</figcaption>" in drawn
    assert 'd="M0.0 1000.0M153.8 777.8"' in drawn, "a missing value breaks the line"
    below = re.findall(r'class="xs">(.*?)</div>', drawn)[0]
    assert re.findall(r">([^<]+)</span>", below) == ["0", "5", "10"]
    logarithmic = chart("t", [Line("a", [1e-4, 1e-1], [0, 1])], ChartAxis("lr", log=True), ChartAxis())
    assert re.findall(r">([^<]+)</span>", re.findall(r'class="xs">(.*?)</div>', logarithmic)[0]) == [
        "1e-4", "0.001", "0.01", "0.1",
    ]  # fmt: skip
    assert chart("empty", [Line("a", [1], [None])], ChartAxis(), ChartAxis()) == ""
    assert chart("flat", [Line("a", [1, 2], [3.0, 3.0])], ChartAxis(), ChartAxis()).count("<path") == 1


def test_pictures_in_the_page_hold_the_pixels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    with Image.open(io.BytesIO(base64.b64decode(uri(grey).partition(",")[2]))) as picture:
        assert np.array_equal(np.asarray(picture), grey)
    colour = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(uri(colour).partition(",")[2]))) as picture:
        assert np.array_equal(np.asarray(picture), colour)
    palette = [(0, 0, 0, 0), (255, 0, 0, 255)]
    with Image.open(io.BytesIO(base64.b64decode(uri(grey // 200, palette).partition(",")[2]))) as picture:
        assert picture.convert("RGBA").getpixel((3, 2)) == (255, 0, 0, 255)
        assert picture.convert("RGBA").getpixel((0, 0)) == (0, 0, 0, 0)
    truth = np.array([[1, 1, 0, 2, 255]], np.uint8)
    assert difference_mask(truth, np.array([[1, 0, 2, 1, 1]], np.uint8)).tolist() == [[0, 1, 2, 3, 0]]


def test_what_a_network_saw_is_kept(tmp_path: Path) -> None:
    images = [np.zeros((3, 4, 5), np.float32), np.ones((3, 6, 4), np.float32)]
    labels = [np.zeros((4, 5), np.int64), np.full((6, 4), -1)]
    items = Slices(images, labels, ["a", "b"], num_classes=2, ignore_index=-1)  # type: ignore[arg-type]
    net = torch.nn.Conv2d(3, 2, 1)
    seen = look(net, items, ("background", "it"))
    assert seen.images.shape == (2, 6, 5, 3) and seen.truth[1, 0, 0] == 255 and net.training
    volumes = Slices(np.zeros((1, 1, 30, 8, 8)), np.zeros((1, 30, 8, 8), np.int64), ["v"], num_classes=2)
    deep = look(torch.nn.Conv3d(1, 2, 1), volumes, ("background", "it"), most=5)
    assert deep.names == tuple(f"v, item 0, plane {d}" for d in (0, 7, 14, 22, 29)) and deep.images.shape == (5, 8, 8)
    deep.save(tmp_path / "seen.npz")
    again = PredictedSlices.load(tmp_path / "seen.npz")
    assert again.names == deep.names and np.array_equal(again.predictions, deep.predictions)
    (tmp_path / "seen.npz").write_bytes(b"no")
    with pytest.raises(RunError, match="is damaged or holds no slices"):
        PredictedSlices.load(tmp_path / "seen.npz")


def test_report_errors(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        write_report(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'} holds neither a run nor a study.\n  Seen: no such folder\n"
        "  Try:  lomix runs   # lists what there is"
    )
    with pytest.raises(RunError) as caught:
        write_report(tmp_path)
    assert str(caught.value).splitlines()[1] == "  Seen: no recipe.toml with metrics.jsonl, no journal.log"
    with pytest.raises(RunError) as caught:
        write_report(run, tmp_path / "page.pdf")
    assert str(caught.value) == (
        f"{tmp_path / 'page.pdf'}: a report is an .html file.\n  Try:  --out {tmp_path / 'page.html'}"
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("study")
    ranges = (
        "tune.ranges={'optimizer.lr'={low=1e-4, high=1e-1, log=true}, 'network.args.width'={choices=[4, 8, 13]}, "
        "'weighting.name'={choices=['softplus', 'uniform']}}"
    )
    recipe = tiny(home / "recipe", [ranges, "search.steps=2", "tune.trials=6"])
    tune(recipe, folder=home / "trials")
    return home / "trials"


def test_a_study_has_a_page(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_study_content(study)
    page = write_report(study).read_text()
    best = found.trial(found.best[0])
    assert f"<b>{best.values[0]:.3f}</b><span>val.dice.best of trial {best.number}, the best</span>" in page
    assert page.count('class="state finished">complete') == len(found.done)
    for trial in found.trials:
        assert trial.state == ("fail" if trial.settings["network.args.width"] == 13 else "complete")
        assert trial.state == "complete" or "ZeroDivisionError: thirteen" in trial.reason
    assert str(study.parent) not in page and all(tag != "link" or "data:" in str(a) for tag, a in Found(page).tags)
    monkeypatch.setitem(sys.modules, "optuna", None)
    without = read_study_content(study)  # what the folders alone tell
    done = {t.number: t.values[0] for t in found.done}
    assert {t.number: t.values[0] for t in without.done} == pytest.approx(done)
    assert "optimizer.lr" in without.trials[0].settings and write_report(study).stat().st_size > 10_000


def problems(browser: Browser, page: Path, width: int, **how: bool) -> list[str]:
    """Open a page and say what is wrong with it at a size: errors, requests, sideways scrolling, tiny text."""
    browser.open(page, width, **how)
    overflow = browser.value(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 &&"
        " !e.closest('.scroll') && !e.closest('svg')).map(e => e.outerHTML.slice(0, 80))"
    )
    tiny_text = browser.value(
        "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.childElementCount === 0 &&"
        " e.textContent.trim() && e.getBoundingClientRect().height > 0 && !e.closest('svg, script') &&"
        " parseFloat(getComputedStyle(e).fontSize) < 11).map(e => e.outerHTML.slice(0, 80))"
    )
    asked = [url for url in browser.requests if not url.startswith("data:") and url != page.resolve().as_uri()]
    wide = browser.value("document.documentElement.scrollWidth > innerWidth")
    return [*browser.errors, *asked, *overflow, *tiny_text, *(["scrolls sideways"] if wide else [])]


@chromium
def test_the_judge_of_pages_sees_what_is_wrong(report: Path, tmp_path: Path) -> None:
    page = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    faults = {
        "https://example.invalid/x.png": '<img src="https://example.invalid/x.png" alt="">',
        "said loudly": "<script>console.error('said loudly')</script>",
        "is not defined": "<script>nowhere()</script>",
        "scrolls sideways": '<div style="width:1500px;height:4px"></div>',
        "too small": '<p style="font-size:8px">too small</p>',
    }  # fmt: skip
    with Browser() as browser:
        for expected, fault in faults.items():
            broken = tmp_path / "broken.html"
            broken.write_text(page.replace("</main>", f"{fault}</main>"))
            assert expected in str(problems(browser, broken, 1280)), expected


@chromium
def test_a_script_that_came_in_with_a_file_is_not_run(report: Path, tmp_path: Path) -> None:
    page = report.read_text()
    evil = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    (tmp_path / "evil.html").write_text(page.replace("</main>", f"{evil}</main>"))
    with Browser() as browser:
        browser.open(tmp_path / "evil.html", 1280)
        assert browser.value("document.title") != "owned"
        assert browser.value("document.querySelectorAll('.readout').length") > 0  # while the page's own did run
        unguarded = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        (tmp_path / "evil.html").write_text(unguarded.replace("</main>", f"{evil}</main>"))
        browser.open(tmp_path / "evil.html", 1280)
        assert browser.value("document.title") == "owned"  # the test can fail


@chromium
def test_the_pages_fit_desktop_and_phone_in_light_and_dark(report: Path, study: Path) -> None:
    pages = (report, write_report(study, study / "again.html"))
    with Browser() as browser:
        for page in pages:
            for width, phone in ((1280, False), (390, True)):
                for dark in (False, True):
                    assert problems(browser, page, width, phone=phone, dark=dark) == [], (page, width, dark)
                    ground = browser.value("getComputedStyle(document.body).backgroundColor")
                    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == dark


@chromium
def test_the_page_answers_to_keys_pointer_and_touch(run: Path, report: Path) -> None:
    seen, mixture = PredictedSlices.load(run / "seen.npz"), Mixture.load(run / "mixture.json")
    ranked = [m.id for m in mixture.ranked()]
    with Browser() as browser:
        assert problems(browser, report, 1280) == []
        sections = browser.value("[...document.querySelectorAll('section')].map(s => s.id)")
        assert sections == ["scores", "training", "weights", "graph", "predictions", "cost", "provenance"]

        # The slider of the slices moves by key, and the pictures with it.
        name = "document.querySelector('.viewer .name output').textContent"
        picture = "document.querySelector('[data-layer=prediction]').src"
        browser.value("document.querySelector('.slice').focus()")
        browser.key("ArrowLeft")
        first, before = browser.value(name), browser.value(picture)
        browser.key("ArrowRight")
        assert (first, browser.value(name)) == seen.names and browser.value(picture) != before
        assert browser.value("document.querySelector('.slice').getAttribute('aria-valuetext')") == seen.names[1]

        # The graph: the buttons go by rank, the pointer picks what is nearest, its members light up.
        told = "document.querySelector('.told dd').textContent"
        assert browser.value(told) == ranked[0]
        browser.value("document.querySelector('[data-by=\"1\"]').click()")
        assert browser.value(told) == ranked[1]
        browser.value("document.querySelector('.graph .frame').scrollIntoView({behavior: 'instant', block: 'center'})")
        at = "(e => [e.x + e.width / 2, e.y + e.height / 2])(document.querySelector('[data-id=\"add(1,2)\"] circle')"
        browser.point(*browser.value(f"{at}.getBoundingClientRect())"))
        assert browser.value(told) == "add(1,2)"
        lit = browser.value("[...document.querySelectorAll('.nodes .on')].map(e => e.dataset.id).sort()")
        assert lit == ["add", "add(1,2)", "stage 1", "stage 2"]

        # A chart reads its values out.
        browser.value("document.querySelector('.chart .area').focus()")
        browser.key("ArrowRight")
        assert browser.value("document.querySelector('.chart .readout').textContent").startswith("step 1")

        # Titles of tables sort; the theme turns.
        cases = "[...document.querySelectorAll('.per-case tbody th')].map(e => e.textContent)"
        browser.value("document.querySelector('.per-case thead th').click()")
        up = browser.value(cases)
        browser.value("document.querySelector('.per-case thead th').click()")
        assert browser.value(cases) == up[::-1]
        browser.value("document.getElementById('theme').click()")
        assert browser.value("document.documentElement.dataset.theme") == "dark"
        assert browser.errors == []

        # On a phone a tap does what the pointer does.
        browser.open(report, 390, phone=True)
        browser.value("document.querySelector('.graph .frame').scrollIntoView({behavior: 'instant', block: 'center'})")
        browser.point(*browser.value(f"{at}.getBoundingClientRect())"), tap=True)
        assert browser.value(told) == "add(1,2)" and browser.errors == []
