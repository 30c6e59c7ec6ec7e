"""Who runs which trial, with any number of workers and any of them killed: the count stays exact.

A study of N trials has N slots. Each slot is a trial in Optuna's queue, and Optuna hands a queued trial to one process
only. A trial whose process died is failed without a reason; its slot is then empty and is queued again. Two processes
may queue the same slot at the same moment: the trial with the lower number holds it, and the other is passed over.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

ATTEMPTS = 3
"""Deaths of a trial's process after which the trial is recorded as failed: it is probably the cause."""


@dataclass(frozen=True)
class Survey:
    """Where a study stands.

    Args:
        finished: Trials that came to an end: completed, pruned, or failed for a reason that is known.
        waiting: Trials in the queue.
        running: Trials under way.
        empty: Slots to queue, each with the trials that were broken off in it.
    """

    finished: tuple[FrozenTrial, ...]
    waiting: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    empty: dict[int, tuple[FrozenTrial, ...]]


def survey(trials: Iterable[FrozenTrial], wanted: int) -> Survey:
    """Sort the trials of a study.

    Args:
        trials: All of them.
        wanted: Number of slots.

    Returns:
        Where it stands.
    """
    slots: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if "slot" in trial.user_attrs and "surplus" not in trial.user_attrs:
            slots[trial.user_attrs["slot"]].append(trial)
    holders = {slot: held for slot, members in slots.items() if (held := holder(members)) is not None}
    inside = sorted(holders.values(), key=lambda trial: trial.number)
    return Survey(
        tuple(trial for trial in inside if trial.state.is_finished()),
        tuple(trial for trial in inside if trial.state == TrialState.WAITING),
        tuple(trial for trial in inside if trial.state == TrialState.RUNNING),
        {slot: tuple(slots[slot]) for slot in range(wanted) if slot not in holders},
    )


def holder(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial that holds a slot, of all that were ever queued for it: the first that was not broken off."""
    return next((trial for trial in sorted(trials, key=lambda t: t.number) if not broken_off(trial)), None)


def broken_off(trial: FrozenTrial) -> bool:
    """Whether a trial ended because its process did."""
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def fill(study: optuna.Study, found: Survey, first: Sequence[Mapping[str, Any]]) -> None:
    """Queue the empty slots.

    Args:
        study: The study.
        found: Where it stands.
        first: Parameters of the first trials; later ones are the sampler's.
    """
    for slot, lost in found.empty.items():
        killed = [trial for trial in lost if "stopped" not in trial.user_attrs]
        if len(killed) >= ATTEMPTS:
            study.add_trial(_given_up(slot, killed))
            continue
        params = dict(first[slot]) if slot < len(first) else {}
        attrs: dict[str, Any] = {"slot": slot}
        if lost:
            params |= lost[-1].params
            attrs |= {"retry_of": lost[-1].number, "before": lost[-1].user_attrs.get("folder")}
        study.enqueue_trial(params, user_attrs=attrs)


def _given_up(slot: int, killed: Sequence[FrozenTrial]) -> FrozenTrial:
    last = killed[-1]
    workers = ", ".join(str(trial.user_attrs.get("worker", "?")) for trial in killed)
    reason = f"killed: its process died {len(killed)} times ({workers}); out of memory, or a time limit?"
    return optuna.trial.create_trial(
        state=TrialState.FAIL,
        params=last.params,
        distributions=last.distributions,
        user_attrs={"slot": slot, "reason": reason, "folder": last.user_attrs.get("folder")},
    )
