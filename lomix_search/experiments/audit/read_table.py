"""A CSV file from elsewhere as what a referee audits: one row a run, a case, a class, or a published mean.

Columns, of which ``method`` and ``score`` are needed:

============  =========================================================================================
method        what is compared
setting       what it is compared within: data set, network, part of the labels
score         test score, higher is better; Dice in 0 … 1 or in %
spread        standard deviation over seeds, of a row that is a mean; ``repeats``: of how many
seed, fold    of the run
case          the row is the score of one case; ``patient``: whose it is; ``class``: of which class
split         ``test`` (taken where it is left out), ``train`` or ``val``: rows that only list patients
best          score of the best checkpoint, where ``score`` is of the last one
checkpoint    which network was scored: ``last``, ``validation`` (best there) or ``test`` (best there)
tuned_on      what learning rate and the like were chosen on: ``nothing``, ``validation`` or ``test``
steps, batch, seconds, parameters, lr   the budget of the run
source        free words; not read
============  =========================================================================================

The ``cases.csv`` of ``lomix compare`` is read too: there ``strategy`` is the method, ``labels`` the setting, and
``dice`` the score.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.statistics import mean_of_counted
from lomix_search.experiments.audit.entry import AuditEntry
from lomix_search.experiments.compare.strategy_run import CaseDice
from lomix_search.utils.files import read_bytes, unread_because

AuditRow = Mapping[str, str]
NUMBERS = ("steps", "batch", "seconds", "parameters", "lr")
_OF_RUN = ("spread", "repeats", "checkpoint", "tuned_on", *NUMBERS)
COLUMNS = (
    "method",
    "setting",
    "score",
    "seed",
    "fold",
    "case",
    "patient",
    "class",
    "split",
    "best",
    *_OF_RUN,
    "source",
)
"""All columns that a CSV file may have."""
_ALSO = {"strategy": "method", "labels": "setting", "dice": "score"}
_WORDS = {
    "split": ("train", "val", "test"),
    "checkpoint": ("last", "validation", "test"),
    "tuned_on": ("nothing", "validation", "test"),
}
_SHOWN = 8
_EXAMPLE = "method,seed,score,steps\nlast layer,1,0.81,5000\nmixture,1,0.83,5000"


def read_audit_table(path: Path) -> list[AuditEntry]:
    """Read runs from a CSV file.

    Args:
        path: The file: UTF-8, a line of column names, separated by commas, semicolons or tabs.

    Returns:
        One entry a run, in the order of the rows.

    Raises:
        RunError: it cannot be read, has other columns, or rows with faults; all are listed.
    """
    rows = _rows(path)
    faults = [f"line {number}: {fault}" for number, row in enumerate(rows, 2) for fault in _faults(row)]
    groups: dict[tuple[str, ...], list[AuditRow]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in ("setting", "method", "seed", "fold")), []).append(row)
    faults += [fault for group in groups.values() for fault in _faults_together(group)]
    if faults:
        more = [f"  … and {len(faults) - _SHOWN} more."] if len(faults) > _SHOWN else []
        raise RunError(
            "\n".join([f"{path} cannot be audited.", *(f"  {one}" for one in faults[:_SHOWN]), *more]),
            hint="mend the table, and run the same command again",
        )
    return [_entry(group) for group in groups.values()]


def _rows(path: Path) -> list[AuditRow]:
    try:
        text = read_bytes(path, RunError, 2**26).decode("utf-8-sig")
        head = text.partition("\n")[0]
        reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count), strict=True)
        names = [_ALSO.get(name.strip(), name.strip()) for name in reader.fieldnames or ()]
        rows: list[AuditRow] = [
            {name: (value or "").strip() for name, value in zip(names, row.values(), strict=False)} for row in reader
        ]
    except (UnicodeDecodeError, csv.Error) as cause:
        raise RunError(f"{path} is not a CSV file.", seen=unread_because(cause), hint=_EXAMPLE) from None
    strange = [f"column {name!r}: unknown. {nearest(name, COLUMNS)}" for name in names if name not in COLUMNS]
    strange += [f"column {name!r}: there twice." for name in dict.fromkeys(names) if names.count(name) > 1]
    strange += [f"column {name!r}: missing." for name in ("method", "score") if name not in names]
    if strange or not rows:
        told = "\n".join([f"{path} cannot be audited.", *(f"  {one}" for one in strange or ["it has no rows."])])
        raise RunError(told, hint=_EXAMPLE)
    return rows


def _faults(row: AuditRow) -> list[str]:
    found = [] if row.get("method") else ["method: missing."]
    listed = row.get("split", "") in ("train", "val")
    if not row.get("score") and not listed and not row.get("case"):  # a case may have nothing to score
        found.append("score: missing.")
    wrong = {key: row[key] for key in ("score", "best", "spread", "repeats", *NUMBERS) if not _is_number(row.get(key))}
    found += [f"{key} = {text!r}: a number is needed." for key, text in wrong.items()]
    for key, known in _WORDS.items():
        if (text := row.get(key, "")) and text not in known:
            found.append(f"{key} = {text!r}: {', '.join(known)} are known.")
    if listed and not (row.get("patient") or row.get("case")):
        found.append(f"split = {row['split']!r}: names no case and no patient.")
    return found


def _faults_together(rows: Sequence[AuditRow]) -> list[str]:
    """Return what rows of one run say against one another."""
    name = _name(rows[0])
    tested = [row for row in rows if row.get("split", "") in ("", "test")]
    kinds = {bool(row.get("case")) for row in tested}
    found = [f"{name}: some rows name a case and others none."] if len(kinds) > 1 else []
    keys = [(row.get("case", ""), row.get("class", "")) for row in tested]
    twice = [" ".join(filter(None, key)) for key in dict.fromkeys(keys) if keys.count(key) > 1]
    found += [f"{name}: two rows of {key or 'the same run'}; name seed, fold or case." for key in twice[:2]]
    said = {key: list(dict.fromkeys(row[key] for row in rows if row.get(key))) for key in _OF_RUN}
    found += [f"{name}: {key} is {', then '.join(values)}." for key, values in said.items() if len(values) > 1]
    owners: dict[str, set[str]] = {}
    for row in rows:
        if row.get("case") and row.get("patient"):
            owners.setdefault(row["case"], set()).add(row["patient"])
    found += [
        f"{name}: case {case} is of patients {', '.join(sorted(of))}." for case, of in owners.items() if len(of) > 1
    ]
    return found


def _entry(rows: Sequence[AuditRow]) -> AuditEntry:
    first = rows[0]
    tested = [row for row in rows if row.get("split", "") in ("", "test")]
    known = {key: next((row[key] for row in rows if row.get(key)), "") for key in (*_OF_RUN, "best")}
    facts: dict[str, float | str] = {key: float(known[key]) for key in NUMBERS if known[key]}
    facts |= {key: known[key] for key in ("checkpoint", "tuned_on") if known[key]}
    if facts.get("seconds") and facts.get("steps"):
        facts["seconds_a_step"] = float(facts["seconds"]) / float(facts["steps"])
    by_case = _by_case(tested) if tested and tested[0].get("case") else None
    score, per_class = _score(tested, by_case)
    bests = [float(row["best"]) for row in tested if row.get("best")]
    return AuditEntry(
        first["method"],
        first.get("setting", ""),
        first.get("seed", ""),
        score,
        float(known["spread"]) if known["spread"] else None,
        int(float(known["repeats"])) if known["repeats"] else None,
        by_case,
        per_class,
        float(np.mean(bests)) if bests and len(bests) == len(tested) else None,
        facts,
        patients=_patients(rows),
        fold=first.get("fold", ""),
    )


def _score(rows: Sequence[AuditRow], by_case: CaseDice | None) -> tuple[float, dict[str, float]]:
    """Return the mean over classes of their means over cases, and the classes where no cases are named."""
    if by_case is not None:
        return float(mean_of_counted(mean_of_counted(by_case.dice, 0), 0)), {}
    scores = {row.get("class", ""): float(row["score"]) for row in rows}
    whole = scores.pop("", None)  # a row without a class is the mean, as it was published
    values = np.array(list(scores.values()))
    return (float(mean_of_counted(values, 0)) if len(values) else math.nan) if whole is None else whole, scores


def _by_case(rows: Sequence[AuditRow]) -> CaseDice:
    cases = tuple(sorted(dict.fromkeys(row["case"] for row in rows)))
    classes = tuple(dict.fromkeys(row.get("class", "") for row in rows))
    owner = {row["case"]: row.get("patient") or row["case"] for row in rows}
    place = {case: number for number, case in enumerate(cases)}
    dice = np.full((len(cases), len(classes)), np.nan)
    for row in rows:
        dice[place[row["case"]], classes.index(row.get("class", ""))] = float(row["score"] or math.nan)
    return CaseDice(cases, tuple(owner[case] for case in cases), classes, dice)


def _patients(rows: Sequence[AuditRow]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        if name := row.get("patient") or row.get("case"):
            found.setdefault(row.get("split") or "test", set()).add(name)
    return {split: frozenset(names) for split, names in found.items()}


def _name(row: AuditRow) -> str:
    words = [
        row.get("method", ""),
        *(f"{key} {row[key]}" for key in ("seed", "fold") if row.get(key)),
        row.get("setting"),
    ]
    return ", ".join(filter(None, words))


def _is_number(text: str | None) -> bool:
    try:
        return not text or math.isfinite(float(text))
    except ValueError:
        return False
