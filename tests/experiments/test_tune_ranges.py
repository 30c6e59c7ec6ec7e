"""What a recipe may declare under [tune]: every kind of range, conditions, starting points, and what is refused."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial, create_trial
from support.tiny_recipe import RECIPE, tiny, write_tiny

import lomix_search as lomix
from lomix_search.errors import LomixError, RecipeError, RunError
from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.parameters import decode, encode, starting_points, suggest
from lomix_search.experiments.tune.storage import read_storage
from lomix_search.experiments.tune.trial_queue import survey
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.tuning import TuneRange, TuneSection

WEIGHTING = {
    "weighting.name": TuneRange(choices=("softplus", "lookahead")),
    "weighting.rate": TuneRange(low=1.0, high=300.0, log=True, when={"weighting.name": "lookahead"}),
    "weighting.finest": TuneRange(low=0.1, high=0.9, step=0.1, when={"weighting.name": ("lookahead",)}),
}
EVERY = TuneSection(
    ranges={
        **WEIGHTING,
        "optimizer.lr": TuneRange(low=1e-4, high=1e-1, log=True),
        "network.args.width": TuneRange(low=2, high=16, integer=True, step=2),
        "network.args.features": TuneRange(choices=([8, 16], [16, 32])),
        "space.operators": TuneRange(subset_of=("add", "mul", "concat")),
        "space.sizes": TuneRange(subset_of=(2, 3)),
    }
)


@settings(max_examples=25)  # each draws every kind of range
@given(st.integers(0, 10_000))
def test_what_is_drawn_lies_in_its_range_and_is_read_back(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    values = suggest(trial, EVERY)
    assert all(EVERY.ranges[key].holds(value) for key, value in values.items() if value is not None)
    assert (values["weighting.rate"] is None) == (values["weighting.name"] == "softplus")
    assert decode(trial.params, EVERY) == values
    assert encode(values, EVERY) == trial.params
    assert suggest(FixedTrial(trial.params), EVERY) == values


def test_subsets_and_list_choices_reach_the_recipe(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, ["space.name=lomix"])
    found = recipe.override({"space.operators": ["mul", "add"], "space.sizes": [2]}).build_space()
    assert [m.id for m in found.maps(3)] == [*(f"P{i}" for i in (1, 2, 3)), *pairs("add"), *pairs("mul")]
    assert [m.id for m in recipe.override({"space.operators": []}).build_space().maps(3)] == ["P1", "P2", "P3"]
    assert [m.id for m in recipe.override({"space.sizes": []}).build_space().maps(3)] == ["P1", "P2", "P3"]
    assert recipe.build_space() == SearchSpace.load("lomix")
    again = load_recipe_text(recipe.override({"space.operators": [], "space.sizes": [3]}).to_toml(), tmp_path)
    assert again.space.operators == () and again.space.sizes == (3,)


def pairs(operator: str) -> list[str]:
    return [f"{operator}({a},{b})" for a, b in ((1, 2), (1, 3), (2, 3))]


def load_recipe_text(text: str, folder: Path) -> lomix.search:  # type: ignore[valid-type]
    (folder / "again.toml").write_text(text)
    return load_recipe(folder / "again.toml")


def test_a_condition_that_is_not_met_takes_the_key_out_of_the_recipe(tmp_path: Path) -> None:
    changes = {"weighting": {"name": "lookahead", "rate": 5.0}, "tune.ranges": ranges_of(WEIGHTING)}
    recipe = tiny(tmp_path).override(changes)
    assert recipe.override({"weighting.name": "softplus", "weighting.rate": None}).weighting.settings == {}
    tune = recipe.tune
    assert tune.settle({"weighting.name": "softplus"}) == {
        "weighting.name": "softplus", "weighting.rate": None, "weighting.finest": None,
    }  # fmt: skip
    own, paper = starting_points(recipe)
    assert own == {"weighting.name": "lookahead", "weighting.rate": 5.0} and paper == {"weighting.name": "softplus"}


def ranges_of(ranges: dict[str, TuneRange]) -> dict[str, object]:
    return {key: value.model_dump(by_alias=True, exclude_defaults=True) for key, value in ranges.items()}


def test_papers_values_start_the_study_only_where_the_ranges_hold_all_of_them(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    assert [point["optimizer.lr"] for point in starting_points(recipe)] == [0.03, 1e-4]
    parts = recipe.override({"tune.ranges": {"space.operators": {"subset_of": ["add", "mul"]}}})
    assert starting_points(parts) == [{"space.operators[add]": True, "space.operators[mul]": True}]
    narrow = recipe.override({"tune.ranges": {"optimizer.lr": {"low": 1e-3, "high": 0.1}}})
    assert starting_points(narrow) == [{"optimizer.lr": 0.03}]


def test_shorthands() -> None:
    tune = TuneSection.model_validate({"sampler": "random", "pruner": "hyperband"})
    assert tune.sampler.name == "random" and tune.pruner.name == "hyperband"


# -- slots: killed workers without a worker ----------------------------------------------------------------------------


def slot(number: int, name: str, **attrs: object) -> optuna.trial.FrozenTrial:
    state = optuna.trial.TrialState[name]
    made = create_trial(state=state, value=1.0 if name == "COMPLETE" else None, user_attrs=attrs)
    made.number = number
    return made


def test_a_slot_belongs_to_its_first_trial_that_was_not_broken_off() -> None:
    trials = [
        slot(0, "COMPLETE", slot=0),
        slot(1, "FAIL", slot=1),  # its process was killed
        slot(2, "FAIL", slot=2, reason="out of memory"),
        slot(3, "RUNNING", slot=3),
        slot(4, "FAIL", slot=4),
        slot(5, "WAITING", slot=4),
        slot(6, "WAITING", slot=4),  # queued twice, by two workers at the same moment
        slot(7, "FAIL", slot=4, surplus=True),
        slot(8, "COMPLETE"),  # not of this library
    ]
    found = survey(reversed(trials), 7)
    assert [t.number for t in found.finished] == [0, 2]
    assert [t.number for t in found.waiting] == [5] and [t.number for t in found.running] == [3]
    assert {number: [t.number for t in lost] for number, lost in found.empty.items()} == {1: [1], 5: [], 6: []}


# -- what is refused, in full ------------------------------------------------------------------------------------------


FAULTS = {
    '[tune.ranges."optimizer.lrr"]\nlow = 1\nhigh = 2': 'tune.ranges."optimizer.lrr": optimizer.lrr: unknown. Nearest: '
    '"lr". Known: lr, momentum, name, power, schedule, weight_decay.',
    '[tune.ranges."loss.ce"]\nlow = 2\nhigh = 1': "tune.ranges.loss.ce = {'low': 2, 'high': 1}: low = 2 must be below "
    "high = 1",
    '[tune.ranges."loss.ce"]\nchoices = []': "tune.ranges.loss.ce.choices = []: empty; at least one value is needed",
    '[tune.ranges."loss.ce"]\nchoices = [1, 1]': "tune.ranges.loss.ce.choices = [1, 1]: holds a value twice",
    '[tune.ranges."loss.ce"]\nlow = 1': "tune.ranges.loss.ce = {'low': 1}: needs low and high, or choices, or "
    "subset_of; and one of them only",
    '[tune.ranges."loss.ce"]\nlow = 0\nhigh = 1\nlog = true': "tune.ranges.loss.ce = {'low': 0, 'high': 1, 'log': "
    "True}: a logarithmic range starts above 0; low = 0",
    '[tune.ranges."loss.ce"]\nlow = 0\nhigh = 1\nstep = 2': "tune.ranges.loss.ce = {'low': 0, 'high': 1, 'step': 2}: "
    "step = 2 is larger than high − low = 1",
    '[tune.ranges."loss.ce"]\nlow = 0.5\nhigh = 1\nint = true': "tune.ranges.loss.ce = {'low': 0.5, 'high': 1, 'int': "
    "True}: int = true needs whole numbers",
    '[tune]\nmetric = "test.dice"': "tune.metric = 'test.dice': unknown. Known: "
    "val.dice.best, val.dice.final.",
    '[tune]\npruner = "medain"': "tune.pruner.name = 'medain': unknown. Nearest: \"median\". Known: "
    "hyperband, median, none.",
    '[tune]\nsampler = "cma"': "tune.sampler.name = 'cma': unknown. Known: nsga2, random, tpe.",
    '[tune]\ncost = "euro"': "tune.cost = 'euro': unknown. Known: gflops, map_pixels, memory, seconds.",
    '[tune]\ncost = "gflops"\npruner = "median"': 'tune.pruner = "median": Optuna prunes studies of one goal only; '
    'leave out tune.cost, or set tune.pruner = "none" and tune.limits.',
    '[[tune.first]]\n"loss.ce" = 1\n"loss.dice" = 5': "tune.first[0].\"loss.ce\" = 1: not tuned. Nearest: "
    "\"loss.dice\". Known: loss.dice, optimizer.lr.\n  tune.first[0].\"loss.dice\" = 5: outside its range.",
    '[tune.ranges."loss.ce"]\nlow = 0\nhigh = 1\nwhen = {"weighting.name" = "softplus"}': 'tune.ranges."loss.ce".when.'
    '"weighting.name": not tuned itself. Known: loss.ce, loss.dice, optimizer.lr.',
    '[tune.ranges."weighting.name"]\nchoices = ["softplus"]\n[tune.ranges."loss.ce"]\nlow = 0\nhigh = 1\n'
    'when = {"weighting.name" = "anneal"}': 'tune.ranges."loss.ce".when."weighting.name" = \'anneal\': none of '
    "['softplus'].",
    '[tune.ranges."loss.ce"]\nchoices = [0.1]\nwhen = {"search.seed" = 1}\n[tune.ranges."search.seed"]\nchoices = [1]\n'
    'when = {"loss.ce" = 0.1}': 'tune.ranges."loss.ce".when."search.seed": the conditions go round in a circle.\n'
    '  tune.ranges."search.seed".when."loss.ce": the conditions go round in a circle.',
    '[tune.ranges."space.operators"]\nsubset_of = ["add", "mull"]': 'tune.ranges."space.operators": space.operators: '
    "'mull' is not in lomix. Nearest: \"mul\". Known: add, attention, concat, mul.",
    '[tune.ranges."weighting.name"]\nchoices = ["softplus", "lookahed"]': "tune.ranges.\"weighting.name\": weighting.",
}  # fmt: skip


@pytest.mark.parametrize("table", FAULTS, ids=lambda table: table.replace("\n", " ")[:60])
def test_a_fault_is_named(table: str, tmp_path: Path) -> None:
    text = RECIPE.replace("deep_supervision", "lomix")
    path = write_tiny(tmp_path) / "recipe.toml"
    path.write_text(f"{text}\n{table}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    first, _, rest = str(caught.value).partition("\n  ")
    count = FAULTS[table].count("\n") + 1
    assert first == f"{tmp_path} has {count} fault{'s' if count > 1 else ''}."
    assert rest == FAULTS[table] or (FAULTS[table].endswith("weighting.") and rest.startswith(FAULTS[table]))


def test_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        lomix.tune(tiny(tmp_path, ["tune.ranges={}"]), 1, folder=tmp_path / "study")
    assert str(caught.value) == (
        'recipe "recipe" declares nothing to tune.\n'.replace('"recipe"', f'"{tmp_path.name}"')
        + '  Try:  [tune.ranges."optimizer.lr"]\n        low = 1e-4\n        high = 1e-2\n        log = true'
    )


EXAMPLE = (
    "  Try:  --storage postgresql+psycopg://user@host/database\n"
    "        --storage /shared/folder/study.log      a journal file"
)


@pytest.mark.slow
def test_storages_that_cannot_be_shared_or_reached(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "recipe")
    assert refused(recipe, "sqlite:///x.db", tmp_path) == (
        f"--storage sqlite:///x.db: SQLite locks up when several processes or machines share it.\n{EXAMPLE}"
    )
    address = f"postgresql://lomix:secret@/postgres?host={tmp_path}"
    lines = refused(recipe, address, tmp_path).splitlines()
    assert lines[0].startswith("the storage postgresql+psycopg://lomix@/postgres?host=")
    assert lines[0].endswith(" cannot be reached.") and "No such file or directory" in lines[1]
    assert "secret" not in "\n".join(lines)
    assert refused(recipe, "nothing+at://all", tmp_path) == (
        "the storage nothing+at://all is no database address.\n"
        f"  Seen: Can't load plugin: sqlalchemy.dialects:nothing.at\n{EXAMPLE}"
    )
    (tmp_path / "file").write_text("")
    assert refused(recipe, str(tmp_path / "file/study.log"), tmp_path).startswith(
        f"{tmp_path}/file cannot be written: File exists.\n  Seen: "
    )
    with pytest.raises(RunError, match="--heartbeat 0: needs 1 second or more."):
        read_storage("postgresql://host/db", tmp_path, heartbeat=0)


def refused(recipe: object, storage: str, folder: Path) -> str:
    with pytest.raises(LomixError) as caught:
        lomix.tune(recipe, 1, folder=folder / "study", storage=storage)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.slow
def test_a_study_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "recipe", ["search.steps=1"])
    lomix.tune(recipe, 1, folder=tmp_path / "study")
    other = recipe.override({"loss.ce": 0.25, "tune.trials": 99, "tune.ranges": {"loss.dice": {"low": 0, "high": 1}}})
    with pytest.raises(RunError) as caught:
        lomix.tune(other, 2, folder=tmp_path / "study", resume=True)
    assert str(caught.value) == (
        f'the study "recipe" in {tmp_path}/study/journal.log is of another recipe.\n'
        "  Seen: loss.ce: 0.5 there, 0.25 here\n"
        "        tune.ranges.loss.dice.high: 0.9 there, 1.0 here\n"
        "        tune.ranges.loss.dice.low: 0.1 there, 0.0 here\n"
        "        tune.ranges.optimizer.lr.high: 0.1 there, not set here\n"
        "        tune.ranges.optimizer.lr.int: false there, not set here\n"
        "        tune.ranges.optimizer.lr.log: true there, not set here\n"
        "  Try:  --study ANOTHER_NAME\n"
        "        --folder ANOTHER_FOLDER"
    )
    moved = tiny(tmp_path / "elsewhere", ["search.steps=1"]).override({"name": "recipe"})
    assert len(lomix.tune(moved, 1, folder=tmp_path / "study", resume=True).trials) == 1  # another machine, other paths


def test_opening_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        open_study(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no study.\n  Try:  lomix tune RECIPE --folder FOLDER"
    with pytest.raises(RunError, match=f'no study "{tmp_path}/nothing": neither a folder, nor'):
        open_study(tmp_path / "nothing")
    journal = tmp_path / "own.log"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    optuna.create_study(study_name="mine", storage=storage)
    with pytest.raises(RunError, match=f'the study "mine" in {journal} was not made by lomix tune.'):
        open_study(journal)
    optuna.create_study(study_name="other", storage=storage)
    with pytest.raises(RunError) as caught:
        open_study(journal)
    assert str(caught.value) == f"{journal} holds several studies.\n  Seen: mine\n        other\n  Try:  --study NAME"
    with pytest.raises(RunError, match=f'{journal} holds no study "third".'):
        open_study(journal, "third")
