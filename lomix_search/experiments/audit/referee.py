"""``lomix audit``: all checks on all runs, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lomix_search.experiments.audit.budget import (
    equal_batch,
    equal_parameters,
    equal_steps,
    equal_time,
    same_data,
    same_seeds,
    same_settings,
)
from lomix_search.experiments.audit.entry import AuditEntry, by_setting, whole_seeds
from lomix_search.experiments.audit.finding import Check, Finding
from lomix_search.experiments.audit.outcome import (
    SettingRows,
    beyond_noise,
    collapsed_weights,
    dead_classes,
    rows_of,
    stable_search,
)
from lomix_search.experiments.audit.read_folders import read_audit_folder
from lomix_search.experiments.audit.read_table import read_audit_table
from lomix_search.experiments.audit.selection import (
    chosen_checkpoint,
    final_and_best,
    patients_apart,
    same_cases,
    trained_to_end,
    tuned_settings,
)
from lomix_search.experiments.listing import is_run

CHECKS: tuple[Check, ...] = (
    same_seeds, equal_steps, equal_batch, equal_time, equal_parameters, same_settings, same_data, chosen_checkpoint,
    tuned_settings, final_and_best, same_cases, patients_apart, trained_to_end, dead_classes, collapsed_weights,
    stable_search,
)  # fmt: skip
"""What is asked of the runs, beside whether differences exceed the noise."""


@dataclass(frozen=True)
class AuditReport:
    """What a referee says.

    Args:
        findings: One a check.
        tables: One a setting.
    """

    findings: tuple[Finding, ...]
    tables: tuple[SettingRows, ...]

    @property
    def failed(self) -> list[Finding]:
        """What failed."""
        return [one for one in self.findings if one.state == "failed"]

    @property
    def verdict(self) -> str:
        """One sentence; only what was checked, all of it, and failed nowhere is called fair."""
        every, unknown = len(self.findings), sum(one.state == "could not be checked" for one in self.findings)
        if self.failed:
            rest = f"; {unknown} could not be made" if unknown else ""
            return f"Not shown to be a fair comparison: {len(self.failed)} of {every} checks failed{rest}."
        if unknown:
            return f"Nothing failed, but {unknown} of {every} checks could not be made: whether it is fair stays open."
        return f"A fair comparison, as far as {every} checks tell: all passed."


def audit_paths(paths: Sequence[Path], baseline: str | None = None) -> AuditReport:
    """Audit runs.

    Args:
        paths: Run folders, folders of comparisons or cross-validations, or CSV files.
        baseline: Method to compare with.

    Returns:
        Findings and tables.

    Raises:
        RunError: a path cannot be read or holds nothing to audit, or no method is called as the baseline.
    """
    read = {path: _read(path) for path in dict.fromkeys(paths)}
    entries = [entry for path, found in read.items() for entry in _named_by(path, found, read)]
    return audit_entries(_told_apart(entries), baseline)


def audit_entries(entries: Sequence[AuditEntry], baseline: str | None = None) -> AuditReport:
    """Audit runs that were read.

    Args:
        entries: One a run, at least one.
        baseline: Method to compare with.

    Returns:
        Findings and tables.

    Raises:
        RunError: no method is called as the baseline.
    """
    whole = [one for group in by_setting(entries).values() for one in whole_seeds(group)]
    tables = rows_of(whole, baseline)
    leaks = patients_apart(entries)  # of the folds before they are joined
    findings = [leaks if check is patients_apart else check(whole) for check in CHECKS]
    return AuditReport((*findings, beyond_noise(tables)), tuple(tables))


def _read(path: Path) -> list[AuditEntry]:
    return read_audit_table(path) if path.is_file() else read_audit_folder(path)


def _named_by(path: Path, entries: list[AuditEntry], read: Mapping[Path, list[AuditEntry]]) -> list[AuditEntry]:
    """Keep comparisons of other data apart: a setting that is in two of them, method and seed, gets its path's name."""
    others = {_key(one) for other, found in read.items() if other != path for one in found}
    if is_run(path) or not others & {_key(one) for one in entries}:
        return entries
    return [replace(one, setting=", ".join(filter(None, [path.name, one.setting]))) for one in entries]


def _key(one: AuditEntry) -> tuple[str, ...]:
    return one.setting, one.method, one.repetition, one.fold


def _told_apart(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Number repetitions that would be mistaken for one another, such as runs of one method with one seed."""
    seen: dict[tuple[str, ...], int] = {}
    found = []
    for one in entries:
        key = _key(one)
        seen[key] = seen.get(key, 0) + 1
        found.append(
            one if seen[key] == 1 else replace(one, repetition=f"{one.repetition} again {seen[key] - 1}".strip())
        )
    return found
