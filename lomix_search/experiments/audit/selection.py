"""Was anything chosen on test data, and was every method tested on the same patients, none of whom it trained on?"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from lomix_search.experiments.audit.entry import AuditEntry, by_method, by_setting
from lomix_search.experiments.audit.finding import Finding, Reason, in_words, judge, unsaid

_RISE = 0.005  # Dice in a quarter of the training
_VALIDATIONS = 8  # fewest that show a trend


def chosen_checkpoint(entries: Sequence[AuditEntry]) -> Finding:
    """Check which network was scored: the last one, the best on validation, or the best on the test data."""
    failed, unknown, ways = list[Reason](), list[Reason](), set[str]()
    for setting, group in by_setting(entries).items():
        found = {name: {one.facts.get("checkpoint") for one in of} for name, of in by_method(group).items()}
        failed += [(f"{n}: the checkpoint was chosen on test data", setting) for n, w in found.items() if "test" in w]
        silent = [name for name, of in found.items() if None in of]
        unknown += unsaid("which checkpoint was scored is", silent, list(found), setting)
        said = {str(way) for of in found.values() for way in of if way is not None}
        if len(said) > 1:
            failed.append((f"checkpoints were chosen in different ways: {in_words(sorted(said))}", setting))
        ways |= said
    words = {"last": "the network of the last step", "validation": "the best on validation data"}
    scored = in_words([words.get(way, way) for way in sorted(ways)])
    return judge("checkpoint", "no checkpoint chosen on test data", failed, unknown, f"scored: {scored}")


def tuned_settings(entries: Sequence[AuditEntry]) -> Finding:
    """Check what learning rates and the like were chosen on."""
    failed, unknown = list[Reason](), list[Reason]()
    for name, of in by_method(entries).items():
        ways = {one.facts.get("tuned_on") for one in of}
        if "test" in ways:
            failed.append((f"{name} was tuned on test data", ""))
        if None in ways:
            unknown.append(("what learning rate and the like were chosen on is noted nowhere", ""))
    return judge("tuning", "nothing tuned on test data", failed, unknown, "tuned on validation data, or not at all")


def final_and_best(entries: Sequence[AuditEntry]) -> Finding:
    """Check that the order of the methods does not hang on whether the last or the best checkpoint is scored."""
    failed, unknown, gaps = list[Reason](), list[Reason](), [0.0]
    for setting, group in by_setting(entries).items():
        methods = by_method(group)
        last = {name: float(np.mean([one.score for one in of])) for name, of in methods.items()}
        bests = {name: [one.best for one in of if one.best is not None] for name, of in methods.items()}
        best = {name: float(np.mean(found)) for name, found in bests.items() if len(found) == len(methods[name])}
        silent = [name for name in methods if name not in best]
        unknown += unsaid("the score of the best checkpoint is", silent, list(methods), setting)
        gaps += [best[name] - last[name] for name in best]
        for one, other in itertools.combinations(best, 2):
            if (last[one] - last[other]) * (best[one] - best[other]) < 0:
                failed.append((f"{one} and {other} change places", setting))
    widest = max(gaps, key=abs)
    change = f"{widest:+.4f}" if widest else "0"
    said = f"the order of methods is the same for both; best − last is {change} at most"
    return judge("final_best", "last and best checkpoint agree", failed, unknown, said)


def same_cases(entries: Sequence[AuditEntry]) -> Finding:
    """Check that all methods and seeds were scored on the same cases."""
    failed, unknown, counts = list[Reason](), list[Reason](), set[int]()
    for setting, group in by_setting(entries).items():
        kinds = {frozenset(one.tested.cases) for one in group if one.tested is not None}
        if len(kinds) > 1 and not _folded(group):
            failed.append((f"{len(kinds)} different sets of test cases", setting))
        if any(one.tested is None for one in group):
            unknown.append(("scores by case are not there, so that nothing can be paired by patient", setting))
        counts |= {len(kind) for kind in kinds}
    return judge(
        "cases",
        "the same test cases",
        failed,
        unknown,
        f"{in_words([str(c) for c in sorted(counts)])} test case{'s' * (counts != {1})}",
    )


def patients_apart(entries: Sequence[AuditEntry]) -> Finding:
    """Check that no patient is on two sides: of training, validation and test, or of two folds."""
    failed, unknown = list[Reason](), list[Reason]()
    for entry in entries:
        failed += [(f"{entry.method}: {words}", entry.setting) for words in _shared(entry.patients)]
        if not entry.patients.keys() & {"train", "fold 0", "twice"}:
            unknown.append(("who was trained on is not known; prepared data would say, where recipes name them", ""))
    for of in _by_run(entries):
        tests = {f"fold {one.fold}": one.patients.get("test", frozenset()) for one in of if one.fold}
        if len(set(tests.values())) > 1:  # else each fold is scored on one set that is held out from all
            failed += [(f"{of[0].method}: {words}", of[0].setting) for words in _shared(tests)]
    return judge(
        "patients", "no patient on two sides", failed, unknown, "training, validation and test share no patient"
    )


def trained_to_end(entries: Sequence[AuditEntry]) -> Finding:
    """Check that validation had stopped rising: in the last quarter, over the one before, in the mean over seeds."""
    failed, unknown, highest = list[Reason](), list[Reason](), -np.inf
    for setting, group in by_setting(entries).items():
        for name, of in by_method(group).items():
            curve = _mean_curve([one.curve for one in of])
            if len(curve) < _VALIDATIONS:
                few = (
                    f"validated {len(curve)} times; {_VALIDATIONS} show a trend"
                    if curve
                    else "no curve of validation is there"
                )
                unknown.append((few, setting))
                continue
            quarter = len(curve) // 4
            rise = float(np.mean(curve[-quarter:]) - np.mean(curve[-2 * quarter : -quarter]))
            highest = max(highest, rise)
            if rise > _RISE:
                failed.append((f"{name} still rises by {rise:.3f} in the last quarter", setting))
    said = f"in the last quarter no method rises by more than {max(highest, 0.0):.3f}"
    return judge("trained", "trained until validation stopped rising", failed, unknown, said)


def _mean_curve(curves: Sequence[Mapping[int, float]]) -> list[float]:
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return [float(np.mean([curve[step] for curve in curves])) for step in steps]


def _shared(sets: Mapping[str, frozenset[str]]) -> list[str]:
    found = [f"in two folds: {in_words(sorted(sets['twice']))}"] if "twice" in sets else []
    for (one, first), (other, second) in itertools.combinations(sets.items(), 2):
        if both := first & second:
            found.append(f"{len(both)} patient{'s' * (len(both) > 1)} in {one} and {other}: {in_words(sorted(both))}")
    return found


def _by_run(entries: Sequence[AuditEntry]) -> list[list[AuditEntry]]:
    """Group the folds of one method and seed."""
    groups: dict[tuple[str, str, str], list[AuditEntry]] = {}
    for one in entries:
        groups.setdefault((one.setting, one.method, one.repetition.partition(", fold")[0]), []).append(one)
    return list(groups.values())


def _folded(group: Sequence[AuditEntry]) -> bool:
    """Say whether the cases differ because each fold has its own, the same ones for all methods."""
    by_fold: dict[str, set[frozenset[str]]] = {}
    for one in group:
        if one.tested is not None:
            by_fold.setdefault(one.fold, set()).add(frozenset(one.tested.cases))
    return len(by_fold) > 1 and all(len(kinds) == 1 for kinds in by_fold.values())
