"""Finished runs and a study that the tests of this package share: they read them, and copy what they change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tiny_recipe import tiny
from support.undrawn import undrawn

from lomix_search.errors import RunError
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.tune.outer_search import tune

SMALL = ["search.steps=4", "search.validate_every=2", "network.args.width=8"]


@pytest.fixture
def pictures() -> None:
    """Asked for by tests that look at the pictures of a run or a study."""


@pytest.fixture(autouse=True)
def _pictures_only_where_asked_for(request: pytest.FixtureRequest) -> Iterator[None]:
    if "pictures" in request.fixturenames:
        yield
    else:
        with undrawn():
            yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run ``one``, ``deep/two`` of other settings, and ``three`` that failed at step 2."""
    home = tmp_path_factory.mktemp("runs")
    settings = [*SMALL, "space.name=deep_supervision", "optimizer.lr=0.03", "loss.ce=0.5"]

    def broken(step: int, dice: float) -> None:
        raise RunError("the disk is on fire.", hint="water")

    with undrawn():
        run_recipe(tiny(home / "recipe", settings), home / "one")
        run_recipe(tiny(home / "recipe", [*settings, "optimizer.lr=0.01", "loss.ce=0.7"]), home / "deep/two")
        with pytest.raises(RunError, match="on fire"):
            run_recipe(tiny(home / "recipe", settings), home / "three", on_validate=broken)
    return home


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the space ``lomix``, whose recipe says about itself what HTML would take for markup."""
    home = tmp_path_factory.mktemp("report")
    recipe = tiny(home / "recipe", [*SMALL, "space.name=lomix", 'about=<b>not bold</b> & "quoted"'])
    with undrawn():
        run_recipe(recipe, home / "run")
    return home / "run"


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six trials; those of width 13 fail."""
    home = tmp_path_factory.mktemp("study")
    ranges = (
        "tune.ranges={'optimizer.lr'={low=1e-4, high=1e-1, log=true}, 'network.args.width'={choices=[4, 8, 13]}, "
        "'weighting.name'={choices=['softplus', 'uniform']}}"
    )
    recipe = tiny(home / "recipe", [ranges, "search.steps=2", "tune.trials=6"])
    with undrawn():
        tune(recipe, folder=home / "trials")
    return home / "trials"
