"""Pages of runs and studies: they say what the files say, as one file that names no folder."""

import base64
import io
import json
import platform
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lomix_search.errors import RunError
from lomix_search.experiments.figures import maps_of
from lomix_search.experiments.report.charts import ChartAxis, Line, chart
from lomix_search.experiments.report.html_parts import command
from lomix_search.experiments.report.run_content import read_run_content
from lomix_search.experiments.report.run_header import selection_verdict
from lomix_search.experiments.report.slice_viewer import uri
from lomix_search.experiments.report.space_graph import ring_layout, space_graph
from lomix_search.experiments.report.study_content import read_study_content
from lomix_search.experiments.report.weight_charts import heat_map, ranking
from lomix_search.experiments.report.write import write_report
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def report(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(finished_run, tmp_path_factory.mktemp("page") / "report.html")


class Found(HTMLParser):
    """Collects the tags of a page, and the addresses in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_says_what_the_files_say(finished_run: Path, report: Path) -> None:
    page, results = report.read_text(), json.loads((finished_run / "results.json").read_text())["test_dice"]
    assert f"<b>{results['final']['mean']:.3f}</b><span>mean test Dice, final network</span>" in page
    for name in ("large", "small"):
        assert f"<td>{results['final']['per_class'][name]:.3f}</td>" in page
    for row in results["final"]["cases"]:
        assert f">{row['case']}</th>" in page
    mixture = Mixture.load(finished_run / "mixture.json")
    assert all(f'data-id="{m.id}"' in page for m in mixture.maps)
    assert f"{mixture.ranked()[0].weight:.4f}" in page
    assert "&lt;b&gt;not bold&lt;/b&gt; &amp; &quot;quoted&quot;" in page
    assert "lomix reproduce run" in page and torch.__version__ in page


def test_the_page_is_one_file_and_names_no_folder(finished_run: Path, report: Path) -> None:
    page = report.read_text()
    for tag, attributes in Found(page).tags:
        for key in ("src", "href"):
            assert str(attributes.get(key) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page
    words = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page)
    assert str(finished_run.parent) not in page and not re.search(rf"\b{re.escape(platform.node())}\b", words)


def test_a_run_without_an_end_has_a_page(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "young")
    for name in ("mixture.json", "results.json", "seen.npz", "environment.json", "report.html"):
        (tmp_path / "young" / name).unlink(missing_ok=True)
    lines = (finished_run / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "young/metrics.jsonl").write_text("\n".join([*lines[:3], '{"step": 4, "train/lo']))
    status = json.loads((finished_run / "status.json").read_text()) | {"state": "failed", "reason": "RunError: <fire>"}
    (tmp_path / "young/status.json").write_text(json.dumps(status))
    page = write_report(tmp_path / "young").read_text()
    assert "This run failed at step 2 of 4: RunError: &lt;fire&gt;." in page
    assert "best mean validation Dice so far, at step 2" in page and 'id="graph"' not in page


def test_the_verdict_is_the_monitors(finished_run: Path) -> None:
    content = read_run_content(finished_run)
    assert content.mixture is not None
    kind, title, words = selection_verdict(content, content.mixture)
    assert (kind, title) == ("so-so", "Hardly any selection") and "48" not in title and "of 6 maps" in words
    warned = content.mixture.provenance.model_copy(update={"warnings": ("they <only> shrink",)})
    kind, _, words = selection_verdict(content, content.mixture.model_copy(update={"provenance": warned}))
    assert (kind, words) == ("bad", "they &lt;only&gt; shrink")
    few = tuple(MapWeight(id=m.id, weight=1.0 if m.id in ("P2", "add(1,2)") else 0.0) for m in content.mixture.maps)
    kind, title, words = selection_verdict(content, content.mixture.model_copy(update={"maps": few}))
    assert (kind, title) == ("good", "The weights select") and words.startswith("2.0 of")
    set_ = content.mixture.model_copy(update={"weighting": "uniform"})
    assert selection_verdict(content, set_)[1] == "The weights were set, not searched"


@pytest.mark.slow
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
    assert 'd="M0.0 1000.0M133.3 800.0"' in drawn, "a missing value breaks the line"
    below = re.findall(r'class="xs">(.*?)</div>', drawn)[0]
    assert re.findall(r">([^<]+)</span>", below) == ["0", "5", "10", "15"], (
        "the last value lies before the end of the axis"
    )
    logarithmic = chart("t", [Line("a", [1e-4, 1e-1], [0, 1])], ChartAxis("lr", log=True), ChartAxis())
    assert re.findall(r">([^<]+)</span>", re.findall(r'class="xs">(.*?)</div>', logarithmic)[0]) == [
        "1e-4", "0.001", "0.01", "0.1",
    ]  # fmt: skip
    counted = chart("t", [Line("a", [0, 1, 2], [0, 1, 2])], ChartAxis("trial", whole=True), ChartAxis())
    assert re.findall(r">([^<]+)</span>", re.findall(r'class="xs">(.*?)</div>', counted)[0]) == ["0", "1", "2"]
    assert chart("empty", [Line("a", [1], [None])], ChartAxis(), ChartAxis()) == ""
    assert chart("flat", [Line("a", [1, 2], [3.0, 3.0])], ChartAxis(), ChartAxis()).count("<path") == 1


def test_bars_of_a_ranking_tell_maps_apart_and_commands_can_be_pasted(tmp_path: Path) -> None:
    space = SearchSpace.load("mutation")
    maps = tuple(MapWeight(id=m.id, weight=0.65 + 0.001 * i) for i, m in enumerate(space.maps(3)))
    drawn = ranking(Mixture(space=space, num_classes=3, num_maps=3, weighting="softplus", maps=maps))
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", drawn)]
    assert widths == [50, 33.3, 16.7, 0, 16.7, 33.3, 50], "from the strongest to the weakest, about the mean"
    assert [float(left) for left in re.findall(r"left:([\d.]+)%", drawn)] == [50, 50, 50, 50, 33.3, 16.7, 0]
    same = tuple(m.model_copy(update={"weight": 1.0}) for m in maps)
    even = Mixture(space=space, num_classes=3, num_maps=3, weighting="uniform", maps=same)
    assert "no order among them" in ranking(even) and "<table" not in ranking(even)
    assert "+0.46%" in drawn and "0.6560" in drawn and "14.351%" in drawn
    assert command("lomix", "report", "my run/b") == "<code>lomix report &#x27;my run/b&#x27;</code>"


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


def test_report_errors(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        write_report(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'} holds neither a run nor a study nor a cross-validation.\n  Seen: no such folder\n"
        "  Try:  lomix runs   # lists what there is"
    )
    with pytest.raises(RunError) as caught:
        write_report(tmp_path)
    assert str(caught.value).splitlines()[1] == "  Seen: no recipe.toml with metrics.jsonl, no journal.log"
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Seen: a file, not a folder"):
        write_report(tmp_path / "file")
    (tmp_path / "one run").mkdir()
    (tmp_path / "one run" / "metrics.jsonl").touch()
    with pytest.raises(RunError) as caught:
        write_report(tmp_path)
    assert str(caught.value).endswith(f"  Try:  lomix report '{tmp_path}/one run'")
    with pytest.raises(RunError) as caught:
        write_report(finished_run, tmp_path / "page.pdf")
    assert str(caught.value) == (
        f"{tmp_path / 'page.pdf'}: a report is an .html file.\n  Try:  --out {tmp_path / 'page.html'}"
    )


@pytest.mark.slow
def test_a_study_has_a_page(finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_study_content(finished_study)
    page = write_report(finished_study, tmp_path / "study.html").read_text()
    best = found.trial(found.best[0])
    assert f"<b>{best.values[0]:.3f}</b><span>val.dice.best of trial {best.number}, the best</span>" in page
    assert "lomix run " in page and "lomix report " in page
    assert page.count('class="state finished">complete') == len(found.done)
    for trial in found.trials:
        assert trial.state == ("fail" if trial.settings["network.args.width"] == 13 else "complete")
        assert trial.state == "complete" or "ZeroDivisionError: thirteen" in trial.reason
    assert str(finished_study.parent) not in page and all(
        tag != "link" or "data:" in str(a) for tag, a in Found(page).tags
    )
    monkeypatch.setitem(sys.modules, "optuna", None)
    without = read_study_content(finished_study)  # what the folders alone tell
    done = {t.number: t.values[0] for t in found.done}
    assert {t.number: t.values[0] for t in without.done} == pytest.approx(done)
    assert (
        "optimizer.lr" in without.trials[0].settings
        and write_report(finished_study, tmp_path / "again.html").stat().st_size > 10_000
    )
