"""The page of a cross-validation: the mean and how sure it is, then class by class, fold by fold, case by case."""

import math
from collections.abc import Iterable

from lomix_search.experiments.folds.fold_scores import FoldScores, Spread
from lomix_search.experiments.folds.found_maps import FoundMaps
from lomix_search.experiments.report.folds_content import FoldsContent
from lomix_search.experiments.report.html_parts import number, page, section, table, text, tile, tiles
from lomix_search.experiments.report.run_scores import evaluated, graded, measured
from lomix_search.utils.terminal import telling_digits

_STRONGEST = 10  # maps


def folds_page(content: FoldsContent) -> str:
    """Write the page of a cross-validation.

    Args:
        content: What was read of it.

    Returns:
        An HTML document that loads nothing.
    """
    scores = content.scores
    sections = {
        "scores": ("Scores", _scores(scores) if scores else ""),
        "folds": ("Folds", _folds(content)),
        "test": ("Test", _test(scores, len(content.runs)) if scores else ""),
        "maps": ("Weights", _maps(content.found) if content.found else ""),
        "cases": ("Cases", _cases(scores) if scores else ""),
    }
    foot = "lomix_search · one file, nothing is loaded from anywhere"
    return page(f"{_title(content)}: a cross-validation of lomix_search", _header(content), sections, foot)


def _title(content: FoldsContent) -> str:
    return str(content.recipe.get("name", content.name))


def _header(content: FoldsContent) -> str:
    scores = content.scores
    if scores:
        main = scores.all.measures[0]
        found = scores.spread(main)
        great, said = number(found.mean), f"mean {text(main)} of all cases, each out of its fold"
        lead = _sentence(scores, found)
    else:
        great, said = "–", "nothing is scored yet"
        done = sum(run.state == "finished" for run in content.runs)
        lead = f"{done} of {content.planned} folds are finished; scores come when all are: the same command, --resume."
    about = f"<p class='about'>{text(content.recipe['about'])}</p>" if content.recipe.get("about") else ""
    return (
        f'<p class="eyebrow">cross-validation {text(content.name)} '
        f'<span class="state {content.state}">{content.state}</span></p><h1>{text(_title(content))}</h1>{about}'
        f'<div class="hero"><div class="great"><b>{great}</b><span>{said}</span></div>'
        f'{tiles(_figures(content))}</div><p class="lead">{lead}</p>'
    )


def _sentence(scores: FoldScores, found: Spread) -> str:
    whole = scores.all
    patients = sum(patients for patients, _ in scores.counts)
    said = f"{len(whole.cases)} cases of {patients} patients, protocol <code>{text(whole.protocol)}</code>. "
    said += f"95 % intervals: {_ends(found.bootstrap)} drawing patients, {_ends(found.student)} by Student’s t. "
    if len(scores.folds) > 2:
        said += "Folds share training patients, so no interval tells how networks of other patients would do."
    return said


def _figures(content: FoldsContent) -> Iterable[str]:
    begun = "" if len(content.runs) == content.planned else f"{len(content.runs)} begun"
    yield tile("folds", str(content.planned), begun)
    if content.scores is None:
        return
    means = [mean for mean in content.scores.spread(content.scores.all.measures[0]).folds if not math.isnan(mean)]
    if means:
        yield tile("spread of folds", number(max(means) - min(means)), f"{number(min(means))} to {number(max(means))}")
    if (test := content.scores.test) is not None and test.rows:
        yield tile("test cases, all networks together", number(test.mean(test.measures[0])), text(test.measures[0]))


def _scores(scores: FoldScores) -> str:
    whole = scores.all
    main, *others = whole.measures
    rows = [(label, scores.spread(main, label)) for label in (*whole.classes, None)]
    low, high = _scale([found for _, found in rows])
    cells = []
    for label, found in rows:
        rest = [whole.mean(m) if label is None else whole.per_class(m)[label] for m in others]
        ends = (_ends(found.bootstrap), _ends(found.student))
        cells.append(
            (
                text("mean" if label is None else label),
                _strip(found, low, high),
                number(found.mean),
                *ends,
                *map(measured, rest, others),
            )
        )
    head = (whole.what, f"{low:g} … {high:g}", text(main), "95 % (patients)", "95 % (t)", *map(text, others))
    unit = f"; distances in {whole.unit}" if any(m in ("hd95", "asd") for m in others) else ""
    lead = (
        "Every case is scored once, by the final network of the fold that did not train on it. The bar is the 95 % "
        f"interval by patients, the line in it the mean, each dot a fold{unit}."
    )
    return section("scores", "Scores", table(head, cells, "total"), lead)


def _scale(rows: list[Spread]) -> tuple[float, float]:
    """Return round ends that hold all folds and intervals."""
    values = [v for found in rows for v in (*found.folds, *found.bootstrap, found.mean) if math.isfinite(v)]
    return math.floor(10 * min(values, default=0.0)) / 10, max(1.0, math.ceil(max(values, default=1.0)))


def _strip(found: Spread, low: float, high: float) -> str:
    """Draw an interval, the mean in it and the folds on one line."""
    return _marks(found.folds, found.mean, found.bootstrap, low, high) if math.isfinite(found.mean) else ""


def _marks(folds: Iterable[float], mean: float, ends: tuple[float, float], low: float, high: float) -> str:
    """Draw a range, the mean in it and the folds on a line from ``low`` to ``high``."""

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low) if high > low else 50.0

    begin, end = ends
    dots = "".join(f'<b style="left:{at(v):.1f}%"></b>' for v in folds if math.isfinite(v))
    return (
        f'<span class="spread"><i style="left:{at(begin):.1f}%;width:{at(end) - at(begin):.1f}%"></i>{dots}'
        f'<u style="left:{at(mean):.1f}%"></u></span>'
    )


def _folds(content: FoldsContent) -> str:
    scores = content.scores
    main = scores.all.measures[0] if scores else ""
    rows = []
    for place, run in enumerate(content.runs):
        name = run.folder.name
        shown = f'<a href="{text(name)}/report.html">{text(name)}</a>' if name in content.linked else text(name)
        state = "failed" if run.state == "damaged" else run.state
        step = f"{run.step:,}" if run.steps in (None, run.step) else f"{run.step:,} of {run.steps:,}"
        held = [str(n) for n in scores.counts[place]] if scores else []
        classes = [number(scores.folds[place].per_class(main).get(c)) for c in scores.all.classes] if scores else []
        mean = [number(scores.folds[place].mean(main))] if scores else []
        state = f'<span class="state {text(state)}">{text(run.state)}</span>'
        rows.append((shown, state, step, *held, *classes, *mean))
    head = ["fold", "state", "steps"]
    if scores:
        head += ["patients held out", "cases", *map(text, scores.all.classes), f"mean {text(main)}"]
    reasons = [f"{run.folder.name}: {run.reason}" for run in content.runs if run.reason and run.state != "finished"]
    lead = text(" ".join(reasons)) or "Each fold is a run with a report of its own."
    return section("folds", "Folds", table(head, rows), lead)


def _test(scores: FoldScores, count: int) -> str:
    if scores.test is None or not scores.test.rows:
        return ""
    low, high = scores.test.interval(scores.test.measures[0])
    lead = (
        f"The probabilities of all {count} networks, averaged, on cases that no fold trained or validated on. "
        f"95 % interval of the mean {text(scores.test.measures[0])} by patients: {_ends((low, high))}."
    )
    return section("test", "Test cases", evaluated(f"{count} networks together", scores.test), lead)


def _maps(found: FoundMaps) -> str:
    shown = found.maps[:_STRONGEST]
    values = [share for one in shown for share in one.shares]
    low, high, digits = min(values), max(values), telling_digits(values, 3, 6) - 2
    rows = [
        (
            f"<code>{text(one.id)}</code>",
            _marks(one.shares, one.mean, (min(one.shares), max(one.shares)), low, high),
            f"{one.mean:.{digits}%}",
            f"{min(one.shares):.{digits}%} – {max(one.shares):.{digits}%}",
            " ".join(map(str, one.ranks)),
        )
        for one in shown
    ]
    told = f"The {len(shown)} strongest of {len(found.maps)} maps, by their mean share of the weights"
    head = ("map", f"{low:.{digits}%} … {high:.{digits}%}", "mean share", "shares", "ranks in the folds")
    return section("maps", "What the folds found", table(head, rows, "", told), text(found.words))


def _cases(scores: FoldScores) -> str:
    whole = scores.all
    main = whole.measures[0]
    owner = {case: place for place, fold in enumerate(scores.folds) for case in fold.cases}
    means, matrix = whole.per_case(main), dict(zip(whole.cases, whole.matrix(main).tolist(), strict=True))
    order = sorted(whole.cases, key=lambda case: means[case] if not math.isnan(means[case]) else math.inf)
    rows = [(text(c), str(owner[c]), *map(graded, matrix[c]), graded(means[c])) for c in order]
    head = ("case", "fold", *map(text, whole.classes), "mean")
    told = f"{text(main)} of all {len(order)} cases, the lowest first"
    return section("cases", "Cases", table(head, rows, "per-case sortable", told))


def _ends(interval: tuple[float, float]) -> str:
    return f"{number(interval[0])} – {number(interval[1])}"
