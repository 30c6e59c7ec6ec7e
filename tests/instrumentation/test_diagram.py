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

from lomix_search.instrumentation.diagram import draw, zoomable
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


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium")
def test_a_page_shows_the_whole_picture_and_its_wheel_zooms(tmp_path):
    (tmp_path / "net.html").write_text(zoomable("A & B", picture("Swin-Unet")))
    turn = 'svg.dispatchEvent(new WheelEvent("wheel", {deltaY: -1, clientX: 100, clientY: 100, cancelable: true}))'
    with Browser() as browser:
        browser.open(tmp_path / "net.html", 600)
        assert browser.value("document.title") == "A & B"
        assert browser.value("svg.getBoundingClientRect().height <= innerHeight")
        whole = browser.value("box.width")
        browser.value(turn)
        assert browser.value("box.width") < whole
        browser.value('svg.dispatchEvent(new MouseEvent("dblclick"))')
        assert browser.value("box.width") == whole and not browser.errors


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
