"""``auto``: the weighting that is recommended today, by the name that it resolves to."""

from collections.abc import Sequence

from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, build_weighting, weighting

AUTO = "auto"
RECOMMENDED = "anneal"
"""What ``auto`` stands for. It changes where the tables of docs/evidence.md do, and only here."""


def resolved_weighting(name: str) -> str:
    """Return the name of the weighting that a name stands for.

    Files hold what is returned, so that a run of today goes on, and is repeated, by the weighting it was started with
    whatever is recommended then.

    Args:
        name: ``"auto"``, or any other.

    Returns:
        What is recommended for ``"auto"``; another name as it is.
    """
    return RECOMMENDED if name == AUTO else name


@weighting(AUTO)
def recommended_weighting(maps: Sequence[Map]) -> Weighting:
    """Build the recommended weighting with its defaults; to set anything, it is named itself."""
    return build_weighting(RECOMMENDED, maps)
