"""The search space: counts, stable ids, files, graph, errors."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lomix_search.errors import LossError, SpaceError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.maps import MAX_STAGES
from lomix_search.mixture.operators import OPERATORS
from lomix_search.mixture.rules import OperatorRule
from lomix_search.mixture.space import MAX_MAPS, SearchSpace
from lomix_search.utils.shipped import shipped_files


@pytest.mark.parametrize(("name", "counts"), [
    ("last_layer", [1, 1, 1, 1]),
    ("deep_supervision", [3, 4, 5, 6]),
    ("mutation", [7, 15, 31, 63]),
    ("lomix", [19, 48, 109, 234]),
    ("extended", [31, 81, 187, 405]),
    ("bounded", [19, 48, 109, 234]),
])  # fmt: skip
def test_shipped_spaces_have_the_papers_counts(name: str, counts: list[int]) -> None:
    space = SearchSpace.load(name)
    assert [space.count(stages) for stages in (3, 4, 5, 6)] == counts


def test_every_shipped_space_loads_and_says_how_to_show_it() -> None:
    for name, path in shipped_files("search_spaces").items():
        assert SearchSpace.load(name) == SearchSpace.load(path)
        assert path.read_text().startswith("# ") and f"lomix show {name}" in path.read_text().splitlines()[0]


def test_ids_are_stable() -> None:
    ids = [m.id for m in SearchSpace.load("lomix").maps(3)]
    subsets = ["(1,2)", "(1,3)", "(2,3)", "(1,2,3)"]
    assert ids == ["P1", "P2", "P3", *(f"{op}{s}" for op in ("add", "mul", "attention", "concat") for s in subsets)]


def test_parameters_are_shared_by_size_or_owned_by_subset() -> None:
    shared = {m.parameters for m in SearchSpace.load("lomix").maps(4) if m.operator == "attention"}
    owned = {m.parameters for m in SearchSpace.load("extended").maps(4) if m.operator == "attention"}
    assert shared == {"attention[2]", "attention[3]", "attention[4]"}
    assert len(owned) == 11 and "attention(1,2,4)" in owned


spaces = st.builds(
    SearchSpace,
    name=st.text("abc", min_size=1),
    about=st.text(max_size=20).filter(lambda text: text.isprintable()),
    originals=st.sampled_from(["all", "finest", "none", (1, 3)]),
    operator=st.lists(
        st.builds(
            OperatorRule,
            name=st.sampled_from(sorted(OPERATORS)),
            sizes=st.none() | st.lists(st.integers(2, 4), min_size=1, max_size=3, unique=True).map(tuple),
            per_subset=st.none() | st.booleans(),
        ),
        max_size=4,
        unique_by=lambda rule: rule.name,
    ).map(tuple),
    always_with_finest=st.booleans(),
    include=st.lists(st.sampled_from(["add*", "P?", "*4)", "mul(1,*)"]), max_size=2).map(tuple),
    exclude=st.lists(st.sampled_from(["*(1,2)", "P1", "max*"]), max_size=2).map(tuple),
    budget=st.none() | st.integers(1, 30),
)


@settings(max_examples=50)
@given(space=spaces, stages=st.integers(4, 7))
def test_counting_agrees_with_enumerating(space: SearchSpace, stages: int) -> None:
    maps = list(space.maps(stages))
    assert len(maps) == space.count(stages)
    assert len({m.id for m in maps}) == len(maps)


@pytest.mark.slow
@settings(max_examples=50)
@given(space=spaces)
def test_a_space_survives_its_file(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("space") / "space.toml"
    space.save(path)
    assert SearchSpace.load(path) == space


def test_it_enumerates_lazily_at_scale() -> None:
    space = SearchSpace.load("extended")
    assert space.count(8) == 8 + 7 * (2**8 - 8 - 1)
    assert next(iter(space.maps(8))).id == "P1"


def test_always_with_finest_and_patterns() -> None:
    space = SearchSpace(operator=(OperatorRule(name="add"),), always_with_finest=True, exclude=("*(1,*",))
    assert [m.id for m in space.maps(3)] == ["P1", "P2", "P3", "add(2,3)"]


def test_keep_holds_exactly_the_named_maps_in_order() -> None:
    kept = SearchSpace.load("lomix").keep(["mul(1,2)", "P4", "add(1,3)"])
    assert [m.id for m in kept.maps(4)] == ["P4", "add(1,3)", "mul(1,2)"]


def test_graph_goes_from_stages_through_operators_to_maps(tmp_path: Path) -> None:
    graph = SearchSpace.load("lomix").graph(4, num_classes=9)
    assert nx.is_directed_acyclic_graph(graph)
    assert set(graph.successors("stage 2")) == {"P2", "add", "mul", "attention", "concat"}
    assert graph.nodes["concat(1,2)"]["parameters"] == 9 * 18 + 9
    assert graph.nodes["attention(1,2,3)"]["parameters"] == 3 * 9 + 3
    assert sum(data["kind"] == "map" for _, data in graph.nodes(data=True)) == 48
    nx.write_graphml(graph, tmp_path / "space.graphml")
    assert set(nx.read_graphml(tmp_path / "space.graphml")) == set(graph)


def test_a_space_prints_as_a_tree() -> None:
    assert str(SearchSpace.load("mutation")).splitlines() == [
        "mutation: originals and additions (MERIT's MUTATION when weighted uniformly by 1)",
        "├─ originals: all",
        "├─ add",
        "└─ maps: 3 for 2 stages, 7 for 3 stages, 15 for 4 stages, 31 for 5 stages, 63 for 6 stages",
    ]


def test_user_operators_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "from lomix_search.mixture.operators import operator\n\n"
        '@operator("from_a_file")\ndef fuse(*maps):\n    return maps[0]\n'
    )
    (tmp_path / "mine.toml").write_text('operators_file = "ops.py"\n[[operator]]\nname = "from_a_file"\n')
    try:
        for _ in range(2):  # a second load finds the operator registered
            assert SearchSpace.load(tmp_path / "mine.toml").count(3) == 3 + 4
    finally:
        OPERATORS.pop("from_a_file", None)


def test_every_fault_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'orignals = "all"\nbudget = 0\n[[operator]]\nname = "concatt"\n[[operator]]\nname = "add"\nsizes = [1]\n'
    )
    with pytest.raises(SpaceError) as caught:
        SearchSpace.load(tmp_path / "mine.toml")
    assert str(caught.value).splitlines() == [
        "mine.toml has 4 faults.",
        "  operator[0].name = 'concatt': unknown. Nearest: \"concat\". "
        "Known: add, attention, avg, bounded_product, concat, max, mul, sub.",
        "  operator[1].sizes[0] = 1: at least 2 is needed.",
        "  budget = 0: at least 1 is needed.",
        '  orignals: unknown. Nearest: "originals". Known: about, always_with_finest, budget, exclude, include, name, '
        "operator, operators_file, originals.",
    ]


def test_a_rule_beyond_the_network_is_named() -> None:
    with pytest.raises(SpaceError, match=r"operator\[0\]\.sizes = \[5\]: this network has 4 stages\."):
        list(SearchSpace(operator=(OperatorRule(name="add", sizes=(5,)),)).maps(4))


def test_unknown_space_suggests_the_nearest() -> None:
    with pytest.raises(SpaceError, match='no search space "lomx": neither shipped nor a file. Nearest: "lomix"'):
        SearchSpace.load("lomx")


def test_not_toml(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(SpaceError, match=r"bad\.toml is not a TOML file\.\n  Seen: .*line 1"):
        SearchSpace.load(tmp_path / "bad.toml")


# -- files of others, and numbers beyond reason ------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=30)
@given(space=spaces, stages=st.integers(4, 6), seed=st.randoms())
def test_what_an_id_names_is_told_from_the_id_as_from_the_list(space: SearchSpace, stages: int, seed: object) -> None:
    listed = {m.id: m for m in space.maps(stages)}
    every = [m.id for m in SearchSpace.load("extended").maps(stages + 1)]
    assert space.lacks(every, stages) == [name for name in every if name not in listed]
    assert all(space.find(name, stages) == m for name, m in listed.items())
    if listed:
        kept = seed.sample(sorted(listed), min(5, len(listed)))  # type: ignore[attr-defined]
        assert [m.id for m in space.keep(kept).maps(stages)] == [name for name in listed if name in kept]


def test_keeping_nothing_is_not_keeping_all() -> None:
    space = SearchSpace.load("lomix")
    with pytest.raises(SpaceError, match=r'space "lomix": keep\(\) was given no map; at least one must stay'):
        space.keep([])
    with pytest.raises(SpaceError, match=r"has no such map for any network\.\n  Seen: max\(1,2\), P0, add\(2,1\), x"):
        space.keep(["P1", "max(1,2)", "P0", "add(2,1)", "x"])
    assert [m.id for m in space.only([]).maps(3)] == ["P1", "P2", "P3"]
    assert [m.id for m in space.only(sizes=[]).maps(3)] == ["P1", "P2", "P3"]
    with pytest.raises(LossError, match="has no map for 3 stages"):
        MixtureLoss(SearchSpace(originals="none"), 3, 2)


@pytest.mark.slow
def test_more_maps_than_can_be_gone_through_are_refused_at_once() -> None:
    space = SearchSpace.load("lomix")
    begun = time.monotonic()
    for stages in (19, 30, MAX_STAGES):
        with pytest.raises(
            SpaceError, match=rf"makes \d+ maps of {stages} stages; at most {MAX_MAPS} can be gone through"
        ):
            next(iter(space.maps(stages)))
        with pytest.raises(SpaceError, match="can be gone through"):
            MixtureLoss(space, stages, 2)
    with pytest.raises(SpaceError, match="1000000000 stages: a network has 1 to 64"):
        space.count(10**9)
    assert space.count(MAX_STAGES) == 64 + 4 * (2**64 - 65)
    pairs = space.model_copy(update={"operator": (OperatorRule(name="add", sizes=(2,)),)})  # the hint
    assert len(list(pairs.maps(MAX_STAGES))) == 64 + 64 * 63 // 2
    few = space.model_copy(update={"budget": 10})
    assert len(list(few.maps(MAX_STAGES))) == 10
    many = SearchSpace(operator=(OperatorRule(name="add"),), include=tuple(f"*{i},*" for i in range(9999)))
    with pytest.raises(SpaceError, match="makes 32767 maps of 15 stages, sifted by 9999 patterns"):
        list(many.maps(15))
    assert time.monotonic() - begun < 10


@pytest.mark.slow
@pytest.mark.parametrize("text", [
    "a = " + "[" * 5000 + "]" * 5000,
    "a = " + "[" * 200 + "]" * 200,
    "a" + ".a" * 3000 + " = 1",
    "[" + "a." * 3000 + "a]",
    "[[operator]]\nname = 'add'\n" * 10_000,
    "include = [" + "'*a*b*c*d*e*f*',\n" * 20_000 + "]",
    "budget = " + "9" * 5000,
    "#" * 2**21,
    "name = '\\ud800'",
    "\0",
])  # fmt: skip
def test_toml_that_would_take_all_time_or_memory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    begun = time.monotonic()
    try:
        assert SearchSpace.load(path).count(4) >= 0
    except SpaceError as error:
        assert "space.toml" in str(error) and len(str(error)) < 10_000
    assert time.monotonic() - begun < 10


def test_what_is_no_space(tmp_path: Path) -> None:
    for wrong in (None, 3, {"name": "lomix"}, ["lomix"]):
        with pytest.raises(
            SpaceError, match=r"a search space is a name or a path, not \w+\.\n  Try:  SearchSpace\.load"
        ):
            MixtureLoss(wrong, 3, 2)  # type: ignore[arg-type]
    for name in ("a" * 5000, "a\0b", ""):
        with pytest.raises(SpaceError, match=r"no search space|cannot be read"):
            SearchSpace.load(name)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(SpaceError, match="a pipe or device, not a file"):
        SearchSpace.load(tmp_path / "pipe.toml")


def test_a_space_may_be_a_path_wherever_it_may_be_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[operator]]\nname = "add"\n')
    for given_as in (tmp_path / "mine.toml", str(tmp_path / "mine.toml")):
        assert len(MixtureLoss(given_as, 3, 2).maps) == 7
    assert len(MixtureLoss(Path("lomix"), 3, 2).maps) == 19


# -- files of operators ------------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> Iterator[None]:
    before = dict(OPERATORS)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


GOOD = """
import torch
from lomix_search.mixture.operators import operator
@operator("first_of_all")
def first(*maps):
    return maps[0]
"""


@pytest.mark.parametrize("fault", ["raise ValueError('no')", "def", "import nothing_such", "raise SystemExit(3)",
                                   "operator('add')(len)", "operator('no name')"])  # fmt: skip
def test_a_file_of_operators_that_failed_can_be_mended_and_loaded(tmp_path: Path, table: None, fault: str) -> None:
    (tmp_path / "mine.toml").write_text('operators_file = "ops.py"\n[[operator]]\nname = "first_of_all"\n')
    (tmp_path / "ops.py").write_text(GOOD + fault)
    before = dict(OPERATORS)
    for _ in range(2):
        if "SystemExit" in fault:
            with pytest.raises(SystemExit):
                SearchSpace.load(tmp_path / "mine.toml")
        else:
            with pytest.raises(SpaceError, match=re.escape(f"operators_file {tmp_path / 'ops.py'} failed.\n  Seen: ")):
                SearchSpace.load(tmp_path / "mine.toml")
        assert before == OPERATORS
    (tmp_path / "ops.py").write_text(GOOD)
    for _ in range(2):
        assert SearchSpace.load(tmp_path / "mine.toml").count(3) == 7


def test_a_file_of_operators_that_changed_is_run_again(tmp_path: Path, table: None) -> None:
    (tmp_path / "mine.toml").write_text('operators_file = "ops.py"\n[[operator]]\nname = "first_of_all"\n')
    (tmp_path / "ops.py").write_text(GOOD)
    SearchSpace.load(tmp_path / "mine.toml")
    assert OPERATORS["first_of_all"].fuse(1, 2) == 1
    (tmp_path / "ops.py").write_text(GOOD.replace("maps[0]", "maps[-1]"))
    SearchSpace.load(tmp_path / "mine.toml")
    assert OPERATORS["first_of_all"].fuse(1, 2) == 2
    (tmp_path / "ops.py").write_text(GOOD + "raise ValueError")
    with pytest.raises(SpaceError):
        SearchSpace.load(tmp_path / "mine.toml")
    assert OPERATORS["first_of_all"].fuse(1, 2) == 2
    del OPERATORS["first_of_all"]
    (tmp_path / "ops.py").write_text(GOOD)
    assert SearchSpace.load(tmp_path / "mine.toml").count(3) == 7


def test_a_recipe_is_no_space(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[data]\nkind = "a"\n[network]\nbuild = "b"\n[space]\nname = "mutation"\n')
    with pytest.raises(SpaceError) as caught:
        SearchSpace.load(path)
    assert str(caught.value) == (
        f"{path} is a recipe, not a search space.\n  Seen: its space is mutation\n"
        "  Try:  lomix show mutation\n        lomix ls   # lists the search spaces that ship"
    )
    path.write_text('space = 3\n[data]\nkind = "a"\n[network]\nbuild = "b"\n')
    with pytest.raises(SpaceError, match="Seen: its tables data and network"):
        SearchSpace.load(path)
