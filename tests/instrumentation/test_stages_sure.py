"""Whether the stages are sure, and what is said where a second reading differs."""

import json
import pathlib

from support.families import FAMILIES
from support.zoo import small_unet_2d

from lomix_search import instrument
from lomix_search.instrumentation import stages as package
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.stages.sure import feature_names, stage_weights
from lomix_search.instrumentation.trace import trace


def test_a_plain_unet_is_sure():
    model, example, names = small_unet_2d()
    net = instrument(model, example)
    assert net.stages.sure and net.stages.opinion.other == ()
    assert "sure: two readings of the network find these stages" in str(net.stages)
    assert "not sure" not in draw(trace(net.strip(), example), net.stages)
    named = instrument(model, example, stages=names)
    assert named.stages.sure and named.stages.opinion is None and "sure" not in str(named.stages)


def test_where_the_readings_differ_both_are_shown_and_the_line_to_type_works():
    entry = next(entry for entry in FAMILIES if entry["id"] == "RefineNet")
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    net = instrument(model, inputs)
    other, text = net.stages.opinion.other, " ".join(str(net.stages).split())
    assert not net.stages.sure and len(other) > 1 and other != tuple(stage.name for stage in net.stages)
    line = ", ".join(f'"{name}"' for name in other)
    assert f"the other: {line}" in text and f"instrument(net, example, stages=[{line}])" in text
    picture = draw(trace(net.strip(), inputs), net.stages)
    assert picture.count(" · not sure<") == picture.count("stroke-dasharray") == len(net.stages.opinion.apart) > 0
    assert [stage.name for stage in instrument(model, inputs, stages=other).stages] == list(other)


def test_every_feature_has_its_weight_and_no_other():
    file = pathlib.Path(package.__file__).parent / "weights.json"
    assert list(json.loads(file.read_text())) == feature_names() and len(stage_weights()) == len(feature_names())
