"""Official splits, folds, label fractions, and what may be wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import twins
from support.preparing import ACDC, SPLITS, go, settings

from lomix_search.data import manifest as manifests
from lomix_search.data.kinds import prepared
from lomix_search.data.split import SplitPlan, make_split
from lomix_search.errors import DataError


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("acdc")
    everybody = [*twins.ACDC.train[:12], *twins.ACDC.val[:3], *twins.ACDC.test[:5]]
    return go("acdc", twins.acdc_raw(folder / "raw", everybody, size=16), folder / "out", size=16), folder / "out"


def people(names: tuple[str, ...]) -> set[str]:
    return {name.partition("_")[0] for name in names}


def test_official_splits_have_their_numbers() -> None:
    assert (len(twins.SYNAPSE.train), len(twins.SYNAPSE.test)) == (18, 12)
    assert (len(twins.ACDC.train), len(twins.ACDC.val), len(twins.ACDC.test)) == (70, 10, 20)
    for split in (twins.SYNAPSE, twins.ACDC):
        everybody = [*split.train, *split.val, *split.test]
        assert len(set(everybody)) == len(everybody)


def test_folds_cover_everybody_once(acdc: Any) -> None:
    entries = acdc[0].cases
    folds = [people(make_split(entries, SplitPlan(folds=4, fold=k, test_fraction=0.25)).val) for k in range(4)]
    splits = [make_split(entries, SplitPlan(folds=4, fold=k, test_fraction=0.25)) for k in range(4)]
    assert len({people(s.test) == people(splits[0].test) for s in splits}) == 1
    assert sum(len(fold) for fold in folds) == len(set().union(*folds)) == 15
    assert all(not people(s.train) & people(s.val) for s in splits)
    with pytest.raises(DataError, match="fold 5 of 5: folds count from 0, and there are 18 patients"):
        make_split(entries, SplitPlan(fold=5))


def test_label_fractions_are_nested(acdc: Any) -> None:
    entries, sets = acdc[0].cases, []
    for fraction in (0.05, 0.1, 0.5, 1.0):
        split = make_split(entries, SplitPlan(label_fraction=fraction))
        sets.append(people(split.train))
        assert split.val == make_split(entries, SplitPlan()).val, "the yardstick stays"
    assert sets[0] <= sets[1] < sets[2] < sets[3] and len(sets[0]) == 1 and len(sets[2]) == 8
    assert people(make_split(entries, SplitPlan(label_fraction=0.5, seed=1)).train) != sets[2]


def test_a_patient_in_two_sets(acdc: Any, tmp_path: Path) -> None:
    one = acdc[0].cases[0].patient
    path = tmp_path / "split.toml"
    path.write_text(f'source = "mine"\ntrain = ["{one}_ED"]\nval = ["patient0*_ES"]\ntest = []\n')
    with pytest.raises(DataError) as error:
        make_split(acdc[0].cases, SplitPlan(path))
    assert str(error.value) == (
        "1 patients are in two sets; what is learned from one would be tested on itself.\n"
        f"  Seen: {one}: train, val\n"
        "  Try:  name each patient in one of train, val and test"
    )


def test_a_split_that_names_what_is_not_there(acdc: Any) -> None:
    with pytest.raises(DataError) as error:
        make_split(acdc[0].cases, SplitPlan(SPLITS / "acdc" / "split.toml"))
    assert str(error.value).startswith(
        f"{SPLITS}/acdc/split.toml: 80 of its items are not in the prepared data.\n  Seen: "
    )
    assert str(error.value).splitlines()[1].endswith("and 72 more")


def test_a_size_that_was_not_prepared(acdc: Any) -> None:
    with pytest.raises(DataError) as error:
        prepared.load_prepared(settings(acdc[1], ACDC, size=224))
    assert str(error.value) == (
        f"{acdc[1]} was prepared at 16 × 16, and the recipe wants 224.\n"
        f"  Try:  lomix prepare acdc RAW {acdc[1]} --size 224"
    )


def test_nothing_prepared_and_a_broken_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        prepared.load_prepared(settings(tmp_path, ACDC))
    assert str(error.value) == (f"{tmp_path} holds no prepared data.\n  Try:  lomix prepare BENCHMARK RAW {tmp_path}")
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 2, "benchmark": "x"}))
    with pytest.raises(DataError, match="has 5 faults"):
        prepared.load_prepared(settings(tmp_path, ACDC))
    assert manifests.sha256(tmp_path / "manifest.json") != ""
