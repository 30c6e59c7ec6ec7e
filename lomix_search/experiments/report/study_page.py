"""The page of a study: the best trial first, then how the study got there and what mattered."""

import math
from collections.abc import Iterable
from typing import Any

from lomix_search.experiments.report.charts import COLOURS, ChartAxis, Line, chart
from lomix_search.experiments.report.html_parts import (
    bar,
    command,
    duration,
    facts,
    number,
    page,
    section,
    table,
    text,
    tile,
    tiles,
)
from lomix_search.experiments.report.study_content import StudyContent, TrialContent

_STATES = {"complete": "finished", "pruned": "stopped", "running": "running", "fail": "failed", "waiting": "stopped"}


def study_page(study: StudyContent) -> str:
    """Write the page of a study.

    Args:
        study: What was read of it.

    Returns:
        An HTML document that loads nothing.
    """
    sections = {
        "best": ("Best", _best(study)),
        "history": ("History", _history(study)),
        "settings": ("What mattered", _mattered(study)),
        "trials": ("Trials", _trials(study)),
        "failures": ("Failures", _failures(study)),
    }
    foot = "lomix_search · one file, nothing is loaded from anywhere"
    return page(f"{study.recipe}: a study of lomix_search", _header(study), sections, foot)


def _header(study: StudyContent) -> str:
    goal, _ = study.goals[0]
    if study.best:
        first = study.trial(study.best[0])
        great, said = number(first.values[0]), f"{text(goal)} of trial {first.number}, the best"
    else:
        great, said = "–", "no trial has finished yet"
    state = "running" if any(t.state == "running" for t in study.trials) else "finished"
    state = state if study.done or state == "running" else "failed"
    return (
        f'<p class="eyebrow">study {text(study.name)} <span class="state {state}">{state}</span></p>'
        f'<h1>{text(study.recipe)}</h1><div class="hero"><div class="great"><b>{great}</b><span>{said}</span></div>'
        f'{tiles(_figures(study))}</div><p class="lead">{_sentence(study)}</p>'
    )


def _figures(study: StudyContent) -> Iterable[str]:
    counts = {state: sum(t.state == state for t in study.trials) for state in _STATES}
    yield tile("finished trials", str(counts["complete"]), f"of {len(study.trials)}")
    yield tile("pruned", str(counts["pruned"]), "stopped early, or over a limit")
    yield tile("failed", str(counts["fail"]), "with their reasons below" if counts["fail"] else "")
    known = [t.seconds for t in study.trials if math.isfinite(t.seconds)]
    if known:
        yield tile("time in all", duration(sum(known)), f"{duration(sum(known) / len(known))} a trial")
    if len(study.done) > 1:
        values = sorted(t.values[0] for t in study.done)
        yield tile("spread of trials", f"{number(values[-1] - values[0], 4)}", "largest minus smallest")
    if study.importances:
        name, share = next(iter(study.importances.items()))
        yield tile("mattered most", f"<code>{text(name)}</code>", f"{share:.0%} of what settings explain")


def _sentence(study: StudyContent) -> str:
    """Say what the best trial gained over the first, and what choosing the best of many means."""
    if not study.best:
        return ""
    first, best = study.trials[0], study.trial(study.best[0])
    said = f"Trials are compared by <code>{text(study.goals[0][0])}</code>. "
    if first.values and first.number != best.number and math.isfinite(first.values[0]):
        change = best.values[0] - first.values[0]
        own = number(first.values[0], 4)
        said += f"The recipe’s own settings, trial {first.number}, came to {own}: the best gained {change:+.4f}. "
    elif first.number == best.number:
        said += "The recipe’s own settings were not beaten. "
    if len(study.goals) > 1:
        said += f"With {len(study.goals)} goals there is no single best: {len(study.best)} trials are on the front. "
    return said + "The best of many trials flatters itself on the data that chose it; test data took no part."


def _best(study: StudyContent) -> str:
    if not study.best:
        return ""
    shown = [study.trial(number) for number in study.best[:6]]
    keys = list(dict.fromkeys(key for t in shown for key in t.settings))
    values = [(f"<code>{text(key)}</code>", *(_value(t.settings.get(key)) for t in shown)) for key in keys]
    goals = [(text(goal), *(number(t.values[i], 4) for t in shown)) for i, (goal, _) in enumerate(study.goals)]
    head = ("setting", *(f"trial {t.number}" for t in shown))
    alone = len(shown) == 1
    typed = ("run", f"{study.name}/best.toml") if alone else ("tune", "best", study.name, "--write", "best.toml")
    hint = f'<p class="lead">{"Run it" if alone else "Write them as recipes"}: {command("lomix", *typed)}</p>'
    return section("best", "Best trial" if alone else "The front", table(head, [*goals, *values]) + hint)


def _history(study: StudyContent) -> str:
    done, (goal, up) = study.done, study.goals[0]
    if not done:
        return ""
    best, so_far = [], None
    for t in done:
        value = t.values[0]
        so_far = value if so_far is None else max(so_far, value) if up else min(so_far, value)
        best.append(so_far)
    numbers = [t.number for t in done]
    lines = [Line("best so far", numbers, best, "var(--ink)")]
    lines.append(Line("a trial", numbers, [t.values[0] for t in done], COLOURS[0], "dots"))
    charts = [chart(f"{goal} by trial", lines, ChartAxis("trial", whole=True), ChartAxis())]
    if len(study.goals) > 1:
        charts.append(_front(study))
    curves = [t for t in study.trials if len(t.curve) > 1][-60:]
    lines = [_curve(t, study) for t in sorted(curves, key=lambda t: t.number in study.best)]
    charts.append(
        chart("Validation score of every trial", lines, ChartAxis("step", whole=True), ChartAxis(), pick="line")
    )
    return section("history", "History", f'<div class="charts">{"".join(charts)}</div>')


def _curve(trial: TrialContent, study: StudyContent) -> Line:
    """Return the validations of a trial, coloured by what became of it."""
    steps, scores = [step for step, _ in trial.curve], [score for _, score in trial.curve]
    if trial.number in study.best:
        return Line(f"trial {trial.number}", steps, scores, COLOURS[2], "strong", "best")
    if trial.state == "complete":
        return Line(f"trial {trial.number}", steps, scores, COLOURS[0], "thin", "finished")
    return Line(f"trial {trial.number}", steps, scores, COLOURS[1], "thin", "pruned or failed")


def _front(study: StudyContent) -> str:
    (goal, _), (cost, _) = study.goals[:2]
    done = sorted(study.done, key=lambda t: t.values[1])
    front = [t for t in done if t.number in study.best]
    lines = [
        Line("the front", [t.values[1] for t in front], [t.values[0] for t in front], COLOURS[2]),
        Line("a trial", [t.values[1] for t in done], [t.values[0] for t in done], COLOURS[0], "dots"),
    ]
    return chart(f"{goal} against {cost}", lines, ChartAxis(cost), ChartAxis())


def _mattered(study: StudyContent) -> str:
    rows = [(f"<code>{text(name)}</code>", bar(share), f"{share:.0%}") for name, share in study.importances.items()]
    told = "How much each setting explains of the differences between trials (PED-ANOVA)"
    body = table(("setting", "", "share"), rows, "", told) if rows else ""
    names = dict.fromkeys(key for t in study.done for key in t.settings)
    drawn = [_against(study, name) for name in [*study.importances, *(n for n in names if n not in study.importances)]]
    charts = f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ""
    return section("settings", "What mattered", body + charts)


def _against(study: StudyContent, name: str) -> str:
    """Draw what came of each value of a setting: dots for numbers, means for choices."""
    pairs = [(t.settings[name], t.values[0]) for t in study.done if name in t.settings]
    if len({str(value) for value, _ in pairs}) < 2:
        return ""
    goal = study.goals[0][0]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in pairs):
        pairs.sort()
        line = Line(goal, [value for value, _ in pairs], [score for _, score in pairs], COLOURS[0], "dots")
        return chart(f"{goal} against {name}", [line], ChartAxis(name, log=name in study.log), ChartAxis())
    choices = dict.fromkeys(str(value) for value, _ in pairs)
    scores = {choice: [score for value, score in pairs if str(value) == choice] for choice in choices}
    rows = [
        (text(choice), str(len(found)), number(sum(found) / len(found), 4), number(max(found), 4))
        for choice, found in scores.items()
    ]
    head = (f"<code>{text(name)}</code>", "trials", "mean", "largest")
    return f"<figure>{table(head, rows, '', f'{text(goal)} by {text(name)}')}</figure>"


def _trials(study: StudyContent) -> str:
    keys = list(dict.fromkeys(key for t in study.trials for key in t.settings))
    goals, named = [text(goal) for goal, _ in study.goals], [f"<code>{text(key)}</code>" for key in keys]
    rows = [
        (
            f"{t.number}{' ★' if t.number in study.best else ''}",
            f'<span class="state {_STATES[t.state]}">{t.state}</span>',
            *(number(t.values[i] if i < len(t.values) else None, 4) for i in range(len(study.goals))),
            duration(t.seconds) if math.isfinite(t.seconds) else "–",
            *(_value(t.settings.get(key)) for key in keys),
        )
        for t in study.trials
    ]
    lead = "A click on a title sorts by it."
    if ran := next((t for t in study.trials if t.number in study.best), None):
        lead += f" Every trial is a run of its own: {command('lomix', 'report', f'{study.name}/{ran.folder}')}."
    return section("trials", "Trials", table(("trial", "state", *goals, "time", *named), rows, "sortable"), lead)


def _failures(study: StudyContent) -> str:
    told = [(f"trial {t.number}", text(t.reason.splitlines()[0])) for t in study.trials if t.reason]
    return section("failures", "Pruned and failed trials, with reasons", facts(told)) if told else ""


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return text(", ".join(map(str, value)) or "none")
    return f"{value:.4g}" if isinstance(value, float) else text(value)
