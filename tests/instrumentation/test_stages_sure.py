"""Whether the stages are sure, and what is said where a second reading differs."""

import json
import math
import pathlib

import numpy as np
from support.families import FAMILIES
from support.zoo import small_unet_2d

from lomix_search import instrument
from lomix_search.instrumentation import stages as package
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.stages.candidates import SAME, Level
from lomix_search.instrumentation.stages.ladder import WIDTH, best_ladder, log_share
from lomix_search.instrumentation.stages.sure import feature_names, probability_right, stage_weights
from lomix_search.instrumentation.trace import trace


def test_a_plain_unet_is_sure():
    model, example, names = small_unet_2d()
    net = instrument(model, example)
    assert net.stages.sure and net.stages.opinion.other == () and 0.95 < net.stages.opinion.probability < 1
    told = "sure: two readings find these stages; right with probability 0.9"
    assert told in " ".join(str(net.stages).split())
    assert "not sure" not in draw(trace(net.strip(), example), net.stages)
    named = instrument(model, example, stages=names)
    assert named.stages.sure and named.stages.opinion is None and "sure" not in str(named.stages)


def test_where_the_readings_differ_both_are_shown_and_the_line_to_type_works():
    entry = next(entry for entry in FAMILIES if entry["id"] == "RefineNet")
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    net = instrument(model, inputs)
    other, text = net.stages.opinion.other, " ".join(str(net.stages).split())
    assert not net.stages.sure and len(other) > 1 and other != tuple(stage.name for stage in net.stages)
    assert net.stages.opinion.probability < 0.85
    line = ", ".join(f'"{name}"' for name in other)
    assert f"the other: {line}" in text and f"instrument(net, example, stages=[{line}])" in text
    picture = draw(trace(net.strip(), inputs), net.stages)
    assert picture.count(" · not sure<") == picture.count("stroke-dasharray") == len(net.stages.opinion.apart) > 0
    assert [stage.name for stage in instrument(model, inputs, stages=other).stages] == list(other)


def test_the_probability_rises_with_agreement_and_with_the_share_that_the_scores_give():
    said = [probability_right(*given) for given in ((False, -math.inf), (False, -2.0), (False, 0.0), (True, -1.0))]
    assert probability_right(False, -4.0) == said[0] < said[1] < said[2] < said[3] < probability_right(True, 0.0)


def test_the_shares_of_all_ladders_add_up_to_one():
    random = np.random.default_rng(0)
    levels = [
        Level((None,) * n, random.normal(size=(n, WIDTH)), random.integers(3, size=(n, len(SAME)))) for n in (2, 3)
    ]
    weights = random.normal(size=WIDTH + len(SAME)) / 9
    shares = [
        log_share(levels, weights, [np.eye(2, dtype=bool)[i], np.eye(3, dtype=bool)[j]])
        for i in (0, 1)
        for j in (0, 1, 2)
    ]
    assert (
        abs(np.exp(shares).sum() - 1) < 1e-9
        and abs(max(shares) - np.log(best_ladder(levels, weights).probability)) < 1e-9
    )


def test_every_feature_has_its_weight_and_no_other():
    file = pathlib.Path(package.__file__).parent / "weights.json"
    assert list(json.loads(file.read_text())) == feature_names() and len(stage_weights()) == len(feature_names())
