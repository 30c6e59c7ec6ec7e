"""Every fault of a recipe at once, in the words of its file."""

from pathlib import Path

import pytest
from support.recipe_files import MINIMAL, message, write

from lomix_search.recipe.recipe import load_recipe


def test_message_five_mistakes(tmp_path: Path) -> None:
    text = """
[data]
kind = "chest_ct"
augmnt = "none"
[network]
build = "BasicUNet"
[optimizer]
lr = -1e-3
name = "Adam"
[search]
batchsize = 4
"""
    path = write(tmp_path, text)
    assert message(path) == (
        f"{path} has 5 faults.\n"
        '  network.build = \'BasicUNet\': must read "package.module:name" or "file.py:name".\n'
        '  data.augmnt: unknown. Nearest: "augment". Known: augment, gap, regions, validation_slices.\n'
        "  optimizer.name = 'Adam': unknown. Nearest: \"AdamW\". Known: AdamW, SGD.\n"
        "  optimizer.lr = -0.001: more than 0 is needed.\n"
        '  search.batchsize: unknown. Nearest: "batch_size". Known: batch_size, checkpoint_every, clip_grad, '
        "label_fraction, "
        "other_data, patience, precision, seed, shrink, skip_not_finite, steps, validate_every, workers."
    )


def test_message_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert message(path, ["optimizer.lrr=1", "steps", "network.build.x=1"]) == (
        f"{path} has 3 faults.\n"
        "  override 'steps': must read key=value, e.g. optimizer.lr=3e-4.\n"
        "  override 'network.build.x': build is not a table.\n"
        '  optimizer.lrr: unknown. Nearest: "lr". Known: lr, momentum, name, power, schedule, weight_decay.'
    )


def test_message_ranges(tmp_path: Path) -> None:
    ranges = """
[tune.ranges."optimizer.lrr"]
low = 1e-4
high = 1e-2
[tune.ranges."data.augment"]
choices = ["none", "strong"]
[tune.ranges."loss.ce"]
low = 0.5
high = 1
"""
    path = write(tmp_path, MINIMAL + ranges)
    assert message(path) == (
        f"{path} has 2 faults.\n"
        '  tune.ranges."optimizer.lrr": optimizer.lrr: unknown. Nearest: "lr". Known: lr, momentum, name, power, '
        "schedule, weight_decay.\n"
        "  tune.ranges.\"data.augment\": data.augment = 'strong': unknown. Known: chest_ct, none, paper."
    )
    both = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 1\nchoices = [2]\nhigh = 3\n'
    assert "needs low and high, or choices, or subset_of; and one of them only" in message(write(tmp_path, both))
    upside = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 3\nhigh = 1\n'
    assert "low = 3 must be below high = 1" in message(write(tmp_path, upside))
    zero = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 0\nhigh = 1\nlog = true\n'
    assert "a logarithmic range starts above 0; low = 0" in message(write(tmp_path, zero))


def test_message_unknown_recipe_and_bad_toml(tmp_path: Path) -> None:
    first = 'no recipe "chest_tc": neither shipped nor a file. Nearest: "chest_ct". Known: '
    assert message("chest_tc").startswith(first)
    broken = write(tmp_path, "[data\n")
    assert message(broken).startswith(f"{broken} is not a TOML file.\n  Seen: ")
    assert message(write(tmp_path, "loss = 3\n")).count("\n") == 3
    assert "ce and dice are both 0" in message(write(tmp_path, MINIMAL + "[loss]\nce = 0\ndice = 0\n"))


def test_faults_of_the_weighting_table_are_reported_with_the_others(tmp_path: Path) -> None:
    text = MINIMAL + '[weighting]\nname = "anneal"\nuntill = 0.3\nstart = 2\n[optimizer]\nlr = -1\n'
    assert message(write(tmp_path, text)).splitlines()[1:] == [
        "  weighting.start = 2: at most 1 is needed.",
        '  weighting.untill: unknown. Nearest: "until". Known: draw, given, seed, shape, start, until.',
        "  optimizer.lr = -1: more than 0 is needed.",
    ]
    assert "weighting.name = 'lookahed': unknown." in message(write(tmp_path, MINIMAL), ["weighting.name=lookahed"])
    ranges = '[tune.ranges."weighting.until"]\nlow = 0.5\nhigh = 3.0\n[weighting]\nname = "anneal"\n'
    assert 'tune.ranges."weighting.until": weighting.until = 3.0' in message(write(tmp_path, MINIMAL + ranges))


def test_the_protocol_is_one_of_those_that_there_are(tmp_path: Path) -> None:
    assert message(write(tmp_path, MINIMAL), ["evaluate.protocol=stric"]).splitlines()[1:] == [
        "  evaluate.protocol = 'stric': unknown. Nearest: \"strict\". Known: isic2018, polyp, strict, transunet."
    ]


@pytest.mark.parametrize(
    ("recipe", "key"),
    [("acdc", "data"), ("chest_ct", "search")],
)
def test_a_part_of_the_labels_has_one_key_for_each_kind_of_data(recipe: str, key: str) -> None:
    """Data that know their patients keep a part of them; of all others the search keeps a part of the items."""
    loaded = load_recipe(recipe)
    assert loaded.label_fraction_key == f"{key}.label_fraction"
    part = load_recipe(recipe, [f"{loaded.label_fraction_key}=0.25"])
    kept = part.data.settings["label_fraction"] if key == "data" else part.search.label_fraction
    assert kept == 0.25 and load_recipe(recipe, ["search.label_fraction=0.5"]).search.label_fraction == 0.5


def test_the_other_key_is_named_where_data_have_none(tmp_path: Path) -> None:
    assert message("chest_ct", ["data.label_fraction=0.5"]).splitlines()[1:] == [
        "  data.label_fraction: unknown. Known: augment, gap, regions, validation_slices. "
        "For this kind of data, say search.label_fraction."
    ]
