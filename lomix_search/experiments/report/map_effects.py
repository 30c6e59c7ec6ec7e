"""What leaving each map out would do to held-out data, as HTML: the table of ``lomix rank``."""

import math

from lomix_search.experiments.compare.map_ranking import MapRanking
from lomix_search.experiments.figures import maps_of
from lomix_search.experiments.report.html_parts import lean, section, table, text
from lomix_search.experiments.report.weight_charts import colour_of

_TOP = 10


def effects_section(ranking: MapRanking | None) -> str:
    """Return the section with the maps by their effect, HTML; empty where no ranking was made.

    Args:
        ranking: Of ``lomix rank``.
    """
    if ranking is None:
        return ""
    colours, known = colour_of(ranking.mixture), {m.id: m for m in maps_of(ranking.mixture)}
    largest = max((abs(score.effect) for score in ranking.scores), default=0.0) or 1.0
    rows = [
        (
            f'<td class="rank">{place}</td><th scope="row" class="map">{text(score.id)}</th>',
            lean(score.effect / largest if math.isfinite(score.effect) else 0.0, colours[known[score.id].operator]),
            *map(text, score.in_words()),
        )
        for place, score in enumerate(ranking.scores, 1)
    ]
    looks = max(score.looks for score in ranking.scores)
    head = ('rank</th><th scope="col">map', "", "effect", "95 % interval", "agreement")
    body = table(head, rows[:_TOP] if len(rows) > _TOP + 3 else rows, "ranking")
    if len(rows) > _TOP + 3:
        rest = table(head, rows[_TOP:], "ranking")
        body += f"<details><summary>… and {len(rows) - _TOP} more</summary>{rest}</details>"
    lead = (
        "By how much the held-out loss would have been higher without a map, as a part of all maps’ effects; "
        f"{looks} look{'s' * (looks != 1)}. Below 0 the map did harm."
    )
    return section("ranking", "Leaving one map out", body, lead)
