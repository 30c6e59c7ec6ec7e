"""Whether the stages are sure, and what is said where a second reading differs."""

import json
import math
import pathlib
import re

import numpy as np
import pytest
import torch
from support.families import FAMILIES
from support.zoo import small_unet_2d

from lomix_search import instrument
from lomix_search.instrumentation import stages as package
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.stages import find_stages
from lomix_search.instrumentation.stages.candidates import SAME, Level
from lomix_search.instrumentation.stages.ladder import WIDTH, best_ladder, log_share
from lomix_search.instrumentation.stages.named_maps import NamedMap, by_level
from lomix_search.instrumentation.stages.sure import SecondReading, feature_names, probability_right, stage_weights
from lomix_search.instrumentation.stages.taps import Tap
from lomix_search.instrumentation.trace import sizes, trace


def test_a_plain_unet_is_sure():
    model, example, names = small_unet_2d()
    net = instrument(model, example)
    assert net.stages.sure and net.stages.opinion.other == () and 0.95 < net.stages.opinion.probability < 1
    told = "sure: two readings find these stages; right with probability 0.9"
    assert told in " ".join(str(net.stages).split())
    assert "not sure" not in draw(trace(net.strip(), example), net.stages)
    named = instrument(model, example, stages=names)
    assert named.stages.sure and named.stages.opinion is None and "sure" not in str(named.stages)


DIFFER = ["FPN-sum", "DBNet", "SFNet", "TopFormer", "a second U that goes down again"]
"""Families of which the second reading has other stages."""


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if i < 2 else pytest.mark.slow) for i, name in enumerate(DIFFER)]
)
def test_where_the_readings_differ_both_are_shown_by_level_and_the_line_to_type_works(family):
    entry = next(entry for entry in FAMILIES if entry["id"] == family)
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    net = instrument(model, inputs)
    others, text = net.stages.opinion.others, str(net.stages)
    assert not net.stages.sure and net.stages.opinion.probability < 0.8
    for stage in net.stages:
        assert f"{stage.name} ({stage.channels} channel" in text
    for other in others:
        assert f"{other.name} ({other.channels} channel" in text
    (line,) = re.findall(r"if the other is right: (instrument\(.*?\]\))", " ".join(text.split()))
    anew = eval(line, {"instrument": instrument, "net": model, "example": inputs})
    assert [(stage.name, stage.channels, stage.size) for stage in anew.stages] == [
        (other.name, other.channels, other.size) for other in others
    ]
    maps = anew.train()(*(torch.cat([x, x]) if x.ndim else x for x in inputs))
    assert len(maps) == len(others)
    for stage, one in zip(anew.stages[:-1], maps, strict=False):  # logits of its own may be at another size
        assert stage.own is not None or tuple(one.shape[2:]) == stage.size


@pytest.mark.slow
def test_a_second_reading_that_is_all_but_certain_is_used_and_the_other_shown():
    entry = next(entry for entry in FAMILIES if entry["id"] == "AdaBins")
    net = instrument(entry["build"]().eval(), entry["inputs"]())
    assert net.stages.sure and net.stages.opinion.other != tuple(stage.name for stage in net.stages)
    assert "sure, though a second reading of the network differs; right with probability 0.9" in str(net.stages)


def test_what_the_second_reading_cannot_have_is_not_replaced():
    nodes = tuple(trace(small_unet_2d()[0], small_unet_2d()[1]).graph.nodes)[:2]
    taken = [SecondReading(nodes, *logs).is_taken for logs in ((-0.01, -5.0), (-0.03, -5.0), (-0.01, -math.inf))]
    assert taken == [True, False, False] and not SecondReading(nodes, -0.01, -0.01).is_taken


def test_a_picture_marks_the_unsure_levels_of_both_readings():
    entry = next(entry for entry in FAMILIES if entry["id"] == "FPN-sum")
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    stages = find_stages(model, inputs).stages
    picture = draw(trace(model, inputs), stages)
    mine, theirs = set(zip((s.name for s in stages), (s.size for s in stages), strict=True)), stages.opinion.others
    new = [other for other in theirs if (other.name, other.size) not in mine]
    assert picture.count(" · not sure<") == len(stages.opinion.apart) == 1 and len(new) == 1
    assert picture.count(f"other reading&#x27;s stage {1 + theirs.index(new[0])}<") == 1
    assert picture.count("stroke-dasharray") == 2
    assert picture.count("readings differ") == 1 and f"{sizes(new[0].size)} · readings differ" in picture


def test_lines_by_level_have_a_dash_where_a_reading_has_nothing():
    coarse, fine = (NamedMap(name, 8 // n, (4 * n, 4 * n), Tap(name)) for name, n in (("a", 1), ("b", 8)))
    assert by_level({"these stages": [fine], "the other reading": [fine, coarse]}) == [
        "level    these stages   the other reading",
        "4 × 4    —              a (8 channels)",
        "32 × 32  b (1 channel)  b (1 channel)",
    ]


def test_the_probability_rises_with_agreement_and_with_the_share_that_the_scores_give():
    for agreed in (False, True):
        said = [probability_right(agreed, share) for share in (-math.inf, -2.0, -1.0, 0.0)]
        assert probability_right(agreed, -4.0) == said[0] < said[1] < said[2] < said[3]
    assert all(probability_right(False, share) < probability_right(True, share) for share in (-3.0, -1.0, 0.0))


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
