"""Parts of a training set are whole cases, repeatable and nested."""

import pytest
from support.shapes import Shapes

from lomix_search.data.manifest import Entry
from lomix_search.data.split import SplitPlan, make_split
from lomix_search.data.subsets import label_fraction, set_aside
from lomix_search.errors import RunError


class Cases(Shapes):
    def case(self, index: int) -> str:
        return f"patient {index // 3}"


def test_whole_cases_are_set_aside() -> None:
    items = Cases(12)
    rest, held = set_aside(items, 0.3, seed=1)
    owners = [{items.case(i) for i in part.indices} for part in (rest, held)]
    assert not owners[0] & owners[1] and len(owners[1]) == 1 and len(rest) + len(held) == 12
    assert set_aside(items, 0.3, seed=1)[1].indices == held.indices
    assert any(set_aside(items, 0.3, seed=s)[1].indices != held.indices for s in range(2, 6))
    assert len(set_aside(Shapes(10), 0.2, 0)[1]) == 2 and len(set_aside(Shapes(2), 0.99, 0)[0]) == 1
    with pytest.raises(RunError, match="keeps a part of the training items aside; there are 1"):
        set_aside(Shapes(1), 0.2, 0)


def test_of_few_cases_items_are_set_aside() -> None:
    """A fifth of two patients would be one of them."""
    for cases, expected in ((2, 1), (3, 3)):
        items = Cases(3 * cases)
        rest, held = set_aside(items, 0.2, seed=1)
        assert len(held) == expected and len(rest) == 3 * cases - expected
        assert ({items.case(i) for i in held.indices} & {items.case(i) for i in rest.indices} == set()) == (cases == 3)


def test_a_fraction_of_the_labels_is_whole_cases_and_nested() -> None:
    items = Cases(12)
    half, most = (label_fraction(items, part, seed=3).indices for part in (0.5, 0.75))
    assert len(half) == 6 and len(most) == 9 and set(half) < set(most)
    assert len({items.case(i) for i in half}) == 2
    assert label_fraction(items, 1.0, 3) is items and len(label_fraction(items, 0.01, 3)) == 3
    rest, held = set_aside(label_fraction(items, 0.5, 3), 0.5, 0)
    assert len(rest) == len(held) == 3  # a case each


def test_recipes_of_before_keep_the_labels_that_they_kept() -> None:
    """What ``search.label_fraction`` and ``data.label_fraction`` drew in version 0.1, of one rule now."""
    assert label_fraction(Cases(24), 0.25, 4).indices == [0, 1, 2, 12, 13, 14]
    assert label_fraction(Cases(24), 0.5, 4).indices == [0, 1, 2, 6, 7, 8, 12, 13, 14, 15, 16, 17]
    entries = [entry(f"p{i}_{j}", f"p{i}") for i in range(12) for j in "ab"]
    for part, kept in ((0.25, {"p4", "p11"}), (0.5, {"p4", "p7", "p8", "p9", "p11"})):
        train = make_split(entries, SplitPlan(label_fraction=part, seed=4)).train
        assert {name[:-2] for name in train} == kept


def entry(name: str, patient: str) -> Entry:
    nothing = {"origin": {}, "scaling": "", "labels": {}, "sources": {}, "files": {}}
    return Entry(name=name, patient=patient, group="", shape=(1, 1, 4, 4), spacing=(), **nothing)
