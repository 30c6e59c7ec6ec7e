"""The pages in a real browser: they fit every size, answer to keys, pointer and touch, and run no foreign script."""

import re
from pathlib import Path

import pytest
from support.browser import PROGRAM, Browser

from lomix_search.experiments.predictions import PredictedSlices
from lomix_search.experiments.report.write import write_report
from lomix_search.mixture.mixture import Mixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]  # a browser takes seconds to start


chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def report(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(finished_run, tmp_path_factory.mktemp("page") / "report.html")


_CROSSED = """(() => {  // texts that lie on one another
  const has = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.querySelector('*')
  const leaves = [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && !e.closest('svg, script'))
  const texts = leaves.filter(has).flatMap(e => {
    const range = document.createRange()
    range.selectNodeContents(e)
    return [...range.getClientRects()].map(line => ({ said: e.textContent, ...line.toJSON() }))
  })
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3
  return texts.flatMap((a, i) => texts.slice(i + 1, i + 40).filter(b => over(a, b)).map(b => `${a.said} on ${b.said}`))
})().slice(0, 5)"""


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
    crossed = browser.value(_CROSSED)
    asked = [url for url in browser.requests if not url.startswith("data:") and url != page.resolve().as_uri()]
    wide = browser.value("document.documentElement.scrollWidth > innerWidth")
    return [*browser.errors, *asked, *overflow, *tiny_text, *crossed, *(["scrolls sideways"] if wide else [])]


@chromium
def test_the_judge_of_pages_sees_what_is_wrong(report: Path, tmp_path: Path) -> None:
    page = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    faults = {
        "https://example.invalid/x.png": '<img src="https://example.invalid/x.png" alt="">',
        "said loudly": "<script>console.error('said loudly')</script>",
        "is not defined": "<script>nowhere()</script>",
        "scrolls sideways": '<div style="width:1500px;height:4px"></div>',
        "above on below": '<p style="margin:0 0 -1em">above</p><p style="margin:0">below</p>',
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
def test_the_pages_fit_desktop_and_phone_in_light_and_dark(report: Path, finished_study: Path, tmp_path: Path) -> None:
    pages = (report, write_report(finished_study, tmp_path / "study.html"))
    with Browser() as browser:
        for page in pages:
            for width, phone in ((1280, False), (390, True)):
                for dark in (False, True):
                    assert problems(browser, page, width, phone=phone, dark=dark) == [], (page, width, dark)
                    ground = browser.value("getComputedStyle(document.body).backgroundColor")
                    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == dark


@chromium
def test_the_page_answers_to_keys_pointer_and_touch(finished_run: Path, report: Path) -> None:
    seen, mixture = PredictedSlices.load(finished_run / "seen.npz"), Mixture.load(finished_run / "mixture.json")
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
