"""The outcome of a run: one large number, one sentence, a few figures, and a verdict on its weights."""

import math
from collections.abc import Iterable

from lomix_search.experiments.compare.verdict import SET_WEIGHTINGS
from lomix_search.experiments.report.html_parts import duration, number, text, tile, tiles
from lomix_search.experiments.report.run_content import RunContent
from lomix_search.experiments.report.run_cost import step_seconds, trained_seconds
from lomix_search.experiments.report.run_scores import known_or
from lomix_search.experiments.results import DiceScores
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.silent_classes import SILENT


def header(content: RunContent) -> str:
    """Return the outcome: one great number, one sentence, a few figures, the verdict on the weights."""
    final = content.tested.get("final")
    best = content.best
    if final:
        shown, what = number(final.mean), "mean test Dice, final network"
    elif best:
        shown, what = number(best["val/dice"]), f"best mean validation Dice so far, at step {best['step']}"
    else:
        shown, what = "–", "nothing scored yet"
    about = f"<p class='about'>{text(content.recipe['about'])}</p>" if content.recipe.get("about") else ""
    return (
        f'<p class="eyebrow">run {text(content.name)} <span class="state {content.state}">{content.state}</span></p>'
        f"<h1>{text(content.title)}</h1>{about}"
        f'<div class="hero"><div class="great"><b>{shown}</b><span>{what}</span></div>{tiles(_figures(content))}</div>'
        f'<p class="lead">{_sentence(content)}</p>{_judged(content)}'
    )


def _figures(content: RunContent) -> Iterable[str]:
    best, mixture = content.best, content.mixture
    if "best" in content.tested:
        yield tile("best on validation, test Dice", number(content.tested["best"].mean))
    if best:
        yield tile("best validation Dice", number(best["val/dice"]), f"at step {best['step']}")
    if mixture:
        spread, strongest = mixture.concentration(), mixture.ranked()[0]
        yield tile("effective maps", number(spread.effective_maps, 1), f"of {len(mixture.maps)} supervised")
        yield tile("strongest map", f"<code>{text(strongest.id)}</code>", f"weight {strongest.weight:.3f}")
    if content.training:
        seconds = content.training[-1].get("train/seconds", math.nan)
        yield tile("training", duration(trained_seconds(content, seconds)), f"{content.step:,} steps")
        yield tile("a step", duration(step_seconds(content)), "median")


def _sentence(content: RunContent) -> str:
    """Say in words what the numbers are of, and what they do not tell."""
    said = []
    if content.state != "finished":
        reason = f": {text(content.status.reason)}" if content.status and content.status.reason else ""
        word = "is running, now" if content.state == "running" else content.state
        said.append(f"This run {word} at step {content.step:,} of {content.steps:,}{reason}.")
    final = content.tested.get("final")
    if final:
        cases = len(final.cases)
        worst = min(content.classes, key=lambda name: known_or(final.per_class.get(name), 2.0))
        top = max(content.classes, key=lambda name: known_or(final.per_class.get(name), -1.0))
        if len(content.classes) > 1:
            said.append(f"Best is {_scored(top, final)}, worst {_scored(worst, final)}.")
        few = "One case says nothing about others." if cases == 1 else ""
        said.append(f"Scored on {cases} test case{'s' if cases > 1 else ''} that took no part in any choice. {few}")
    return " ".join(said)


def _scored(name: str, scores: DiceScores) -> str:
    return f"<b>{text(name)}</b> ({number(scores.per_class.get(name))})"


def _judged(content: RunContent) -> str:
    if content.mixture is None:
        return ""
    kind, title, words = selection_verdict(content, content.mixture)
    return f'<aside class="verdict {kind}"><h3>{text(title)}</h3><p>{words}</p></aside>'


def selection_verdict(content: RunContent, mixture: Mixture) -> tuple[str, str, str]:
    """Say whether the weights selected, in the words of the monitor that watched them.

    Args:
        content: The run.
        mixture: What it found.

    Returns:
        ``good``, ``so-so`` or ``bad``; a headline; what lies behind it, HTML.
    """
    spread, count = mixture.concentration(), len(mixture.maps)
    first = next((line for line in content.training if "mixture/total" in line), None)
    numbers = f"{number(spread.effective_maps, 1)} of {count} maps count at the end"
    if first is not None and first["mixture/total"]:
        gone = 1 - spread.total / first["mixture/total"]
        before = number(first.get("mixture/effective_maps"), 1)
        numbers += f" ({before} at the start); {gone:.0%} of the sum of weights is gone"
    if silent := [warning for warning in mixture.provenance.warnings if warning.startswith(SILENT)]:
        return "bad", "A class is never predicted", text(" ".join(silent))
    if mixture.weighting in SET_WEIGHTINGS:
        return "so-so", "The weights were set, not searched", f"Weighting {text(mixture.weighting)}: {numbers}."
    if mixture.provenance.warnings:
        return "bad", "The weights shrank without selecting", text(" ".join(mixture.provenance.warnings))
    if spread.effective_maps > 0.95 * count:
        lead = "The monitor raised no alarm, but the weights stay nearly equal: training is almost as with uniform ones"
        return "so-so", "Hardly any selection", f"{lead}. {numbers}."
    return "good", "The weights select", f"{numbers}. The monitor of collapsing weights raised no alarm."
