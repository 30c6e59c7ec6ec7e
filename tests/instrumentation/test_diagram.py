from xml.etree import ElementTree

import pytest
import torch
from monai.networks.nets import BasicUNet
from support.browser import PROGRAM, Browser
from support.families import FAMILIES
from support.known_families import KNOWN
from support.places import ROOT
from support.stage_pictures import PICTURES, picture
from support.zoo import monai_basic_unet

from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.diagram_page import zoomable
from lomix_search.instrumentation.stages import find_stages
from lomix_search.instrumentation.trace import sizes, trace

LADDERS = [entry for entry in FAMILIES if "nonU" not in entry["tags"] and entry["id"] not in KNOWN]
SVG = "{http://www.w3.org/2000/svg}"


def boxes(text):
    """The title of each box: name, stage, channels, size and operations."""
    return [node.text for node in ElementTree.fromstring(text).iter(f"{SVG}title")][1:]


def test_the_picture_is_a_u_of_blocks_with_every_stage_marked_once():
    model, example, names = monai_basic_unet(2)
    stages = find_stages(model, example).stages
    shown = boxes(draw(trace(model, example), stages))
    assert [label.split(",")[0] for label in shown] == [
        "input", "conv_0", "down_1", "down_2", "down_3", "down_4", *names, "final_conv",
    ]  # fmt: skip
    assert [label.split(",")[1] for label in shown if "stage" in label] == [
        f" stage {i} · {channels} channel{'s' * (channels > 1)}"
        for i, channels in enumerate((stage.channels for stage in stages), 1)
    ]


@pytest.mark.slow
def test_the_readmes_picture_is_what_its_command_draws():
    model, example = BasicUNet(spatial_dims=2), torch.zeros(1, 1, 256, 256)
    shown = draw(trace(model, example), find_stages(model, example).stages)
    assert shown == (ROOT / "docs/stages.svg").read_text()


def test_the_encoder_is_folded_by_size_and_nothing_else():
    entry = next(entry for entry in FAMILIES if entry["id"] == "Swin-Unet")
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    stages, read = find_stages(model, inputs).stages, trace(model, inputs)
    whole, folded = boxes(draw(read, stages, fold=False)), boxes(draw(read, stages, fold=True))
    assert draw(read, stages) == draw(read, stages, fold=True)  # of itself, as there are more than 24
    held = [label for label in folded if " blocks), " in label]
    assert len(held) > 1 and len({label.split(", ")[2].split(":")[0] for label in held}) == len(held)
    count = sum(int(label.split(" blocks), ")[0].split("(")[-1]) for label in held)
    assert len(folded) - len(held) + count == len(whole)
    assert [label for label in whole if "stage" in label] == [label for label in folded if "stage" in label]


PINCH = """
const touch = (type, id, x, y) => drawing.dispatchEvent(new PointerEvent(type, {
  pointerId: id, clientX: x, clientY: y, bubbles: true}))
const drawing = document.querySelector("svg:not([hidden])")
touch("pointerdown", 1, 150, 200), touch("pointerdown", 2, 250, 200), touch("pointermove", 2, 350, 200)
touch("pointerup", 1, 150, 200), touch("pointerup", 2, 350, 200)
"""


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_shows_the_whole_picture_and_zooms_moves_and_unfolds(tmp_path, width):
    folded = picture("Swin-Unet")
    (tmp_path / "net.html").write_text(zoomable("A & B", folded, folded.replace("layers", "strata")))
    wheel = "{deltaY: -1, clientX: 100, clientY: 100, cancelable: true, bubbles: true}"
    turn = f'svg.dispatchEvent(new WheelEvent("wheel", {wheel}))'
    with Browser() as browser:
        browser.open(tmp_path / "net.html", width)
        assert browser.value("document.title") == "A & B"
        assert browser.value("svg.getBoundingClientRect().height <= innerHeight")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        whole = browser.value("box.width")
        for zoomed in (turn, 'document.getElementById("in").click()', f"(() => {{ {PINCH} }})()"):
            browser.value(zoomed)
            assert browser.value("box.width") < whole * 0.9
            browser.value('svg.dispatchEvent(new MouseEvent("dblclick", {bubbles: true}))')
            assert browser.value("box.width") == whole
        browser.value('dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}))')
        assert browser.value("box.x") > 0 and browser.value("box.width") == whole
        assert "layers" in browser.value("svg.textContent")
        browser.value("fold.click()")
        assert (
            "strata" in browser.value("svg.textContent")
            and browser.value("drawings[0].getBoundingClientRect().height") == 0
        )
        assert not browser.errors


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), PICTURES.items())
def test_the_pictures_of_what_a_stage_is_are_todays(name, family):
    assert picture(family) == (ROOT / f"docs/stages/{name}.svg").read_text()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, marks=[] if i % 8 == 0 else pytest.mark.slow, id=entry["id"])
        for i, entry in enumerate(LADDERS[::6])
    ],
)
def test_any_network_is_drawn_with_each_stage_in_a_box_of_its_own(entry):
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    stages = find_stages(model, inputs).stages
    shown = boxes(draw(trace(model, inputs), stages))
    assert len(shown) <= 80
    for i, stage in enumerate(stages, 1):
        (label,) = (label for label in shown if f" stage {i} " in label)
        assert sizes(stage.size) in label
