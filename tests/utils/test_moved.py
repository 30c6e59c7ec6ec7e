"""Old import paths, answered for one release."""

import importlib

import pytest

import lomix_search
from lomix_search.mixture import weighting
from lomix_search.utils.moved import MOVED

NAMES = {"loss": "MixtureLoss", "testing": "check_operator", "weighting": "Softplus"}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_gives_the_same_thing_and_says_where_it_is(old: str) -> None:
    name = NAMES[old.rpartition(".")[2]]
    with pytest.warns(
        DeprecationWarning, match=f"{old} is {MOVED[old]} now.*\n  Try:  from {MOVED[old]} import {name}"
    ):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(MOVED[old]), name)


def test_a_script_of_before_still_runs() -> None:
    with pytest.warns(DeprecationWarning, match="from lomix_search.mixture.loss import MixtureLoss"):
        from lomix_search.loss import MixtureLoss
    assert MixtureLoss is lomix_search.MixtureLoss
    with pytest.warns(DeprecationWarning, match="from lomix_search.mixture.testing import check_operator"):
        lomix_search.testing.check_operator("add", classes=(1,), arities=(2,))


def test_a_renamed_function_is_found_by_its_old_name() -> None:
    with pytest.warns(DeprecationWarning, match="Try:  from lomix_search.mixture.weighting import uniform_weights"):
        assert lomix_search.weighting.uniform is weighting.uniform_weights


def test_what_an_old_path_never_had_is_refused() -> None:
    with pytest.raises(AttributeError, match="lomix_search.mixture.loss.* has no attribute 'Dice'"):
        importlib.import_module("lomix_search.loss").Dice  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("lomix_search.loss.native")
