"""Tables of many classes with long names in 80 columns: no line is longer, no figure cut, no name left out."""

import io
import re

import numpy as np
import pytest
import torch

from lomix_search.evaluation.dice_meter import DiceMeter
from lomix_search.evaluation.paired_evaluations import paired_test
from lomix_search.evaluation.score_table import ClassScores, Evaluation
from lomix_search.experiments.folds.fold_scores import FoldScores
from lomix_search.recipe.validate import ClassRow, RecipeFindings, SetRow
from lomix_search.utils.terminal import Table, Terminal, wrapped

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach and its contents",
    "abdominal aorta above the bifurcation", "inferior vena cava", "portal_vein_and_splenic_vein", "pancreas",
    "right_adrenal_gland", "left_adrenal_gland", "duodenum_pars_horizontalis_and_ascendens",
)  # fmt: skip
CASES = [f"patient_of_the_outpatient_clinic_{i:04}_abdomen_venous_phase" for i in range(12)]


def drawn(what: object) -> str:
    """Print in 80 columns; every line fits, and nothing ends in the ellipsis of what was cut off."""
    terminal = Terminal(width=80, file=io.StringIO(), color_system=None)
    terminal.print(what)
    shown: str = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 80, shown
    assert re.search(r"\S…|…[^\s]", shown) is None, shown
    return shown


def in_one(shown: str) -> str:
    """Return what the first column says, the lines of a cell put together."""
    return "".join(re.split("│|  ", row.removeprefix("│").strip())[0].replace(" ", "") for row in shown.splitlines())


def scored(names: tuple[str, ...], cases: list[str], seed: int, multilabel: bool) -> Evaluation:
    draw = np.random.default_rng(seed)
    rows = (
        ClassScores(case, case, name, {"dice": draw.uniform(), "hd95": draw.uniform(100, 200), "asd": 123.45})
        for case in cases
        for name in names
    )
    return Evaluation("strict", "voxel", tuple(rows), multilabel)


@pytest.mark.parametrize(("number", "multilabel"), [(8, False), (14, False), (14, True)])
def test_scores_of_many_classes_fit(number: int, multilabel: bool) -> None:
    names = ORGANS[:number]
    meter = DiceMeter(names if multilabel else ("background", *names), multilabel=multilabel)
    shape = (12, number, 8, 8) if multilabel else (12, 8, 8)
    pair = torch.randint(0, 2 if multilabel else number + 1, (2, *shape), generator=torch.Generator().manual_seed(0))
    meter.update(pair[0], pair[1], CASES)
    one, other = scored(names, CASES, 0, multilabel), scored(names, CASES, 1, multilabel)
    folds = FoldScores(tuple(scored(names, CASES[i::3], i, multilabel) for i in range(3)))
    found = RecipeFindings(
        "wide",
        (SetRow("train", 100, 100, 12345),),
        tuple(ClassRow(name, 0.12345, 1234, 1234) for name in names),
        "",
        warnings=(),
        faults=(),
        multilabel=multilabel,
    )
    for what in (meter.result(), one, paired_test(one, other, names=(CASES[0], CASES[1])), folds, found):
        text = in_one(drawn(what))
        assert [name for name in names if name.replace(" ", "") not in text] == [], drawn(what)
    whole = " ".join(drawn(paired_test(one, other)).split())
    row = paired_test(one, other).rows[0]
    assert f"{row.low:+.4f} … {row.high:+.4f}" in whole, "no interval is broken in two"


def test_the_lowest_of_several_cases_is_told_once() -> None:
    meter = DiceMeter(("background", "a", "b"))
    label = torch.tensor([[1, 1, 2, 2], [1, 1, 1, 1]])
    meter.update(torch.tensor([[1, 1, 2, 0], [1, 0, 0, 0]]), label, ["good", "bad"])
    rows = [re.findall(r"[\w.–]+", row) for row in drawn(meter.result()).splitlines()]
    assert ["a", "0.700", "0.400"] in rows and ["b", "0.667", "0.667"] in rows
    assert ["mean", "0.683", "0.400"] in rows and ["2", "cases", "lowest", "bad"] in rows
    alone = DiceMeter(("background", "a", "b"))
    alone.update(label[1:], label[1:], ["only"])
    shown = drawn(alone.result())
    assert "lowest" not in shown and "only" in shown and re.search(r"b +│ –", shown)


def test_figures_stay_whole_and_words_go_on_in_the_next_line() -> None:
    table = Table("name", "a very long head of figures", "0001 or a word", "mean")
    table.add_row("x" * 100, "+0.1234 … +0.5678", "0001", "1.000 ± 0.100")
    table.add_row("-", "−0.123 (−0.200 … −0.100)", "z" * 40, "–")
    shown = drawn(table)
    for figures in ("+0.1234 … +0.5678", "−0.123 (−0.200 … −0.100)", "1.000 ± 0.100"):
        assert figures in shown, shown
    assert shown.count("x") == 100 and shown.count("z") == 40


@pytest.mark.parametrize("place", ["title", "caption"])
def test_words_wider_than_their_table_are_text_of_their_own(place: str) -> None:
    words = "test Dice, final network, also the best on validation (step 1200), of the cases that nobody has seen"
    table = Table("class", "Dice", **{place: words})
    table.add_row("liver", "0.812")
    lines = drawn(table).splitlines()
    told, rows = (lines[:2], lines[2:]) if place == "title" else (lines[-2:], lines[:-2])
    assert " ".join(" ".join(told).split()) == words and len(told[0]) > 60, "as wide as the terminal"
    assert len({len(row) for row in rows}) == 1 and len(rows) == 5
    narrow = Table("class", "Dice", **{place: "of all"})
    narrow.add_row("liver", "0.812")
    assert "    of all" in drawn(narrow), "one that fits stays centred"


def test_errors_go_on_below_their_own_words_and_what_is_copied_stays_whole() -> None:
    told = (
        "a recipe that has a fault or two, which takes more than one line.\n"
        "  optimizer.lrr: unknown. Known: lr, momentum, name, power.\n"
        "  Seen: one of the many things that were there; and another\n"
        "        /a/path/that/is/longer/than/the/terminal/is/wide.toml\n"
        "        an image that has no mask beside it at all, anywhere\n"
        "          Try:  lomix new mine data --masks somewhere/else/where/they/are\n"
        "  Try:  lomix run a/long/name/of/a/recipe --folder runs/another/one\n"
        "        lomix runs"
    )
    assert wrapped(told, 40, len("RecipeError: ")) == (
        "a recipe that has a fault\n"
        "  or two, which takes more than one\n"
        "  line.\n"
        "  optimizer.lrr: unknown. Known: lr,\n"
        "    momentum, name, power.\n"
        "  Seen: one of the many things that were\n"
        "        there; and another\n"
        "        /a/path/that/is/longer/than/the/terminal/is/wide.toml\n"
        "        an image that has no mask beside\n"
        "          it at all, anywhere\n"
        "          Try:  lomix new mine data --masks somewhere/else/where/they/are\n"
        "  Try:  lomix run a/long/name/of/a/recipe --folder runs/another/one\n"
        "        lomix runs"
    )
    assert wrapped(told, 1000) == told and wrapped("", 5) == "" and wrapped("a\n\nb", 5) == "a\n\nb"
    assert wrapped("some words", 4, 30) == "some\n  words"
