"""A database that restarts in mid-study: calls are tried again for a stated time, and what happens is said."""

import random
import signal
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import optuna
from optuna.trial import TrialState

from lomix_search.errors import RunError
from lomix_search.utils.progress import Stop

PATIENCE = 600.0
"""Seconds that a worker waits for a database that does not answer."""
_PAUSES = (0.5, 10.0)  # seconds; the first and the longest
_CALLS = (  # all of RDBStorage that talk to the database, those included by which Optuna's cache calls it
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "create_new_trial", "_create_new_trial", "set_trial_param", "_set_trial_param",
    "get_trial_id_from_study_id_trial_number", "_get_best_trial_id", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "get_trial", "get_all_trials",
    "_get_trials", "get_trial_param", "get_best_trial", "record_heartbeat", "_get_stale_trial_ids",
)  # fmt: skip


class StorageLost(RunError):
    """A study's database or journal did not answer for longer than a worker waits."""


def patient(storage: Any, name: str, say: Callable[[str], object], longest: float = PATIENCE) -> Any:
    """Let a database storage try again what fails because the database does not answer.

    Args:
        storage: An ``optuna.storages.RDBStorage``; changed.
        name: How a user knows it.
        say: Told in words when an outage begins and ends.
        longest: Seconds after which it is given up.

    Returns:
        The storage.
    """
    for call in _CALLS:
        if hasattr(storage, call):  # they differ a little between versions of Optuna
            setattr(storage, call, _again(getattr(storage, call), name, say, longest))
    return storage


def _again(call: Callable[..., Any], name: str, say: Callable[[str], object], longest: float) -> Callable[..., Any]:
    @wraps(call)
    def tried(*given: Any, **named: Any) -> Any:
        began, pause, told = time.monotonic(), _PAUSES[0], False
        while True:
            try:
                answer = call(*given, **named)
            except Exception as error:
                if (
                    told
                    and isinstance(error, optuna.exceptions.UpdateFinishedTrialError)
                    and _ended(call, given, named)
                ):
                    return True  # the try whose answer was lost had done it
                if not unanswered(error):
                    raise
                why = _first_line(error)
                if not told:
                    say(f"{name} does not answer ({why}); trying again for up to {longest / 60:g} minutes")
                    told = True
                if time.monotonic() - began + pause > longest or _asked_to_stop():
                    raise StorageLost(
                        f"{name} did not answer for {time.monotonic() - began:.0f} seconds.",
                        seen=why,
                        hint="the same command again once it does: trials go on from their checkpoints",
                    ) from error
                time.sleep(pause * random.uniform(0.7, 1.0))
                pause = min(2 * pause, _PAUSES[1])
            else:
                if told:
                    say(f"{name} answers again after {time.monotonic() - began:.0f} seconds")
                return answer

    return tried


def unanswered(error: BaseException) -> bool:
    """Tell whether a call failed because the database could not be reached or broke off, not for what was asked of it.

    Args:
        error: What it raised.

    Returns:
        Whether to try again.
    """
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return isinstance(cause, OperationalError | InterfaceError) or (
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )


def _ended(call: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Tell whether the call was to end a trial, and the trial has ended as it said."""
    if call.__name__ != "set_trial_state_values":
        return False
    number = given[0] if given else named["trial_id"]
    state: TrialState = given[1] if len(given) > 1 else named["state"]
    storage: Any = call.__self__  # type: ignore[attr-defined]
    return bool(storage.get_trial(number).state == state)


def _asked_to_stop() -> bool:
    """Tell whether SIGTERM or Ctrl-C asked this process to stop: whoever asked does not wait ten minutes."""
    handlers = (getattr(signal.getsignal(number), "__self__", None) for number in (signal.SIGTERM, signal.SIGINT))
    return any(isinstance(stop, Stop) and stop.asked is not None for stop in handlers)


def _first_line(error: BaseException) -> str:
    from sqlalchemy.exc import DBAPIError

    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    text = str(cause.orig if isinstance(cause, DBAPIError) else cause).strip()
    return text.splitlines()[0][:160] if text else type(cause).__name__
