"""Was every method given the same: seeds, steps, batch, time, parameters, settings, data?"""

from collections.abc import Iterator, Mapping, Sequence

from lomix_search.experiments.audit.entry import AuditEntry, by_method, by_setting
from lomix_search.experiments.audit.finding import Finding, Reason, in_words, judge, unsaid

_FEWEST = 3  # seeds; an interval of two is as wide as a score
_SLOWER = 1.25  # times as long as the fastest; clocks on shared machines differ by less
_SAID = {
    "steps": "steps are",
    "batch": "the batch size is",
    "seconds": "the time of training is",
    "parameters": "the number of parameters is",
}
_DECLARED = {"steps": "search.steps=", "batch": "search.batch_size=", "lr": "optimizer.lr="}


def same_seeds(entries: Sequence[AuditEntry]) -> Finding:
    """Check that every method has the same seeds, three at least."""
    failed, unknown, counts = list[Reason](), list[Reason](), set[int]()
    for setting, group in by_setting(entries).items():
        methods = by_method(group)
        named = {name: {one.repetition for one in of} for name, of in methods.items() if all(o.repetition for o in of)}
        sizes = {name: len(of) if name in named else of[0].repeats for name, of in methods.items()}
        silent = [name for name, size in sizes.items() if size is None]
        unknown += unsaid("the number of seeds is", silent, list(methods), setting)
        nameless = [name for name, size in sizes.items() if size is not None and name not in named]
        unknown += unsaid("which seeds is", nameless, list(methods), setting)
        if few := [f"{name} {size}" for name, size in sizes.items() if size is not None and size < _FEWEST]:
            failed.append((f"fewer than {_FEWEST} seeds: {in_words(few)}", setting))
        every = set().union(*named.values())
        lacking: dict[str, list[str]] = {}
        for name, found in named.items():
            if missing := sorted(every - found):
                lacking.setdefault(in_words(missing), []).append(name)
        failed += [(f"seed {missing} is lacking of {in_words(names)}", setting) for missing, names in lacking.items()]
        counts |= {size for size in sizes.values() if size is not None}
    return judge("seeds", "the same seeds, enough", failed, unknown, f"{_range(counts or {0})} seeds, the same for all")


def equal_steps(entries: Sequence[AuditEntry]) -> Finding:
    """Check that all took as many steps."""
    return _equal(entries, "steps", "equal steps")


def equal_batch(entries: Sequence[AuditEntry]) -> Finding:
    """Check that all saw as many items a step."""
    return _equal(entries, "batch", "equal batch")


def equal_time(entries: Sequence[AuditEntry]) -> Finding:
    """Check that no method took far longer than another: equal steps of unequal cost are not an equal budget."""
    failed, unknown, largest = list[Reason](), list[Reason](), 1.0
    for setting, group in by_setting(entries).items():
        means = dict(_means(group, "seconds"))
        unknown += _unsaid(group, means, "seconds", setting)
        if len(means) > 1 and min(means.values()) > 0:
            fast, slow = (key(means, key=means.__getitem__) for key in (min, max))
            largest = max(largest, ratio := means[slow] / means[fast])
            if ratio > _SLOWER:
                failed.append((f"{slow} took {ratio:.2f} times as long as {fast} on the clock", setting))
    return judge("time", "equal time", failed, unknown, f"the slowest took {largest:.2f} times as long as the fastest")


def equal_parameters(entries: Sequence[AuditEntry]) -> Finding:
    """Check that all trained a network of the same size."""
    ours = [entry for entry in entries if _network(entry)]
    if len(ours) < len(entries):
        return _equal(entries, "parameters", "the same network size")
    failed = list[Reason]()
    for setting, group in by_setting(entries).items():
        kinds = {name: {_network(one) for one in of} for name, of in by_method(group).items()}
        if len(set().union(*kinds.values())) > 1:
            failed.append((f"the recipes build different networks: {in_words(list(kinds))}", setting))
    return judge("parameters", "the same network size", failed, [], "all recipes build one network")


def same_settings(entries: Sequence[AuditEntry]) -> Finding:
    """Check that nothing but the method differs, as far as recipes or the column ``lr`` say."""
    failed, unknown = list[Reason](), list[Reason]()
    for setting, group in by_setting(entries).items():
        known = [one for one in group if one.settings]
        if not known and all("lr" in one.facts for one in group):
            failed += [(line, setting) for line in _differing(group, "lr")]
            unknown.append(("learning rates alone are said, no other settings", setting))
        elif len(known) < len(group):
            unknown.append(("settings are not said", setting))
        keys = dict.fromkeys(key for one in known for key in one.settings)
        for key in keys:
            values = {repr(one.settings.get(key)) for one in known if f"{key}=" not in one.method}
            if len(values) > 1:
                failed.append((f"{key} is {in_words(sorted(values))}", setting))
    return judge(
        "settings", "the same settings beside the method", failed, unknown, "recipes differ in the method alone"
    )


def same_data(entries: Sequence[AuditEntry]) -> Finding:
    """Check by their hashes that all runs had the same data."""
    failed, unknown = list[Reason](), list[Reason]()
    for setting, group in by_setting(entries).items():
        hashes = {one.facts.get("data") for one in group}
        if None in hashes:
            unknown.append(("no hash of the data is noted", setting))
        if len(hashes - {None}) > 1:
            failed.append((f"{len(hashes - {None})} different data sets or splits", setting))
    return judge("data", "the same data", failed, unknown, "one hash of data and split")


def _equal(entries: Sequence[AuditEntry], key: str, title: str) -> Finding:
    failed, unknown, seen = list[Reason](), list[Reason](), list[str]()
    for setting, group in by_setting(entries).items():
        unknown += _unsaid(group, dict(_means(group, key)), key, setting)
        failed += [(line, setting) for line in _differing(group, key)]
        seen += [f"{value:g}" for _, value in _means(group, key)]
    return judge(key, title, failed, unknown, f"{key}: {in_words(seen)}")


def _differing(group: Sequence[AuditEntry], key: str) -> list[str]:
    """Say which methods differ in a number; a method that declares another one in its name is left out."""
    values = {
        name: sorted({float(one.facts[key]) for one in of if key in one.facts})
        for name, of in by_method(group).items()
        if _DECLARED.get(key, "\n") not in name
    }
    found = {name: of for name, of in values.items() if of}
    if len({value for of in found.values() for value in of}) < 2:
        return []
    return [f"{key} differ: " + in_words([f"{name} {'/'.join(f'{v:g}' for v in of)}" for name, of in found.items()])]


def _unsaid(group: Sequence[AuditEntry], known: Mapping[str, float], key: str, setting: str) -> list[Reason]:
    methods = list(by_method(group))
    return unsaid(_SAID[key], [name for name in methods if name not in known], methods, setting)


def _means(group: Sequence[AuditEntry], key: str) -> Iterator[tuple[str, float]]:
    """Yield the mean of a number by method, of methods all of whose runs say it."""
    for name, of in by_method(group).items():
        values = [float(one.facts[key]) for one in of if key in one.facts]
        if len(values) == len(of):
            yield name, sum(values) / len(values)


def _network(entry: AuditEntry) -> str:
    return repr({key: value for key, value in entry.settings.items() if key.startswith("network.")} or "")[1:-1]


def _range(counts: set[int]) -> str:
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
