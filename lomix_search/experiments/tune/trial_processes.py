"""A study whose trials run on several processes each: the first one owns the study, the others run along.

Process 0 samples, reports, prunes and records; the others know nothing of Optuna. What a trial raises on all processes
alike, such as being pruned, ends the trial; what is raised on one alone ends them all, and the trial is taken up again
from its checkpoint by whoever works on the study next.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lomix_search.experiments.run import Outcome, run_recipe
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.distributed import happened_alike, on_main, size
from lomix_search.utils.progress import Stop

_WAIT = "wait"


def run_trial(recipe: Recipe, folder: Path, **options: Any) -> Outcome:
    """Run a trial, with the other processes where there are some.

    Args:
        recipe: With the trial's values.
        folder: Its folder.
        **options: Keyword arguments of ``run_recipe`` in this process.

    Returns:
        What ``run_recipe`` returned.

    Raises:
        SystemExit: this process failed alone; the others cannot go on with it.
    """
    on_main(lambda: (recipe, folder))
    try:
        return run_recipe(recipe, folder, resume=True, score_test=False, **options)
    except Exception as error:
        if size() > 1 and not happened_alike(error):
            raise SystemExit(f"{type(error).__name__}: {error}") from error
        raise


def wait_along() -> None:
    """Let the other processes know that the study goes on; to be called now and then while no trial runs."""
    on_main(lambda: _WAIT)


@contextmanager
def leading() -> Iterator[None]:
    """Send the other processes home when the study ends here, however it ends."""
    try:
        yield
    except Exception:  # KeyboardInterrupt and SystemExit reach the other processes by themselves
        _dismiss()
        raise
    _dismiss()


def follow() -> None:
    """Run along with the trials of process 0 until its study ends."""
    with Stop(signal.SIGTERM):  # the next search takes it over, and stops all
        task = on_main(_nothing)
        while task is not None:
            if task != _WAIT:
                _run_along(*task)
            task = on_main(_nothing)


def _run_along(recipe: Recipe, folder: Path) -> None:
    try:
        run_recipe(recipe, folder, resume=True, score_test=False, on_start=_nothing, on_validate=_nothing)
    except Exception as error:
        if not happened_alike(error):
            raise


def _dismiss() -> None:
    on_main(_nothing)


def _nothing(*_: object) -> Any:
    return None
