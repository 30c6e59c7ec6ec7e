"""All labelled lists, in one form: network, how it is built, stages, alternatives, and whether it was labelled blind.

The lists of small networks lie in support/families, by what the networks are; each says the list that it was written
for. Of the lists that docs/zoo.md counts as fourth to ninth, the networks of packages are not in the repository.
"""

import dataclasses

from support.families import FAMILIES

from published import (  # noqa: F401  each adds its own
    generic,
    medical,
    small,
    unseen,
    unseen_2,
    unseen_2_scenes,
    unseen_2_signals,
    unseen_3,
    unseen_3_scenes,
    unseen_3_signals,
    unseen_4,
    unseen_4_scenes,
    unseen_4_signals,
    unseen_5,
    unseen_5_scenes,
    unseen_5_signals,
    unseen_6,
    unseen_6_scenes,
    unseen_6_signals,
    unseen_7,
    unseen_7_more,
    unseen_7_scenes,
    unseen_8,
    unseen_8_more,
    unseen_8_scenes,
    unseen_9,
    unseen_9_more,
    unseen_9_scenes,
    unseen_10,
    unseen_10_more,
    unseen_10_scenes,
    unseen_11,
    unseen_11_more,
    unseen_11_scenes,
    unseen_12,
    unseen_12_more,
    unseen_13,
    unseen_13_more,
    unseen_14,
    unseen_14_more,
    unseen_scenes,
)
from published.base import LISTS

LABELLED_BLIND = "blind, 2026-11-{}, from the packages' source and docs/stages.md, and committed before the first run"
NEWEST = ("unseen-7", "unseen-8", "unseen-9", "unseen-10", "unseen-11", "unseen-12", "unseen-13", "unseen-14")
"""Those of the thirtieth."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """One list: its name, its networks, who labelled it, and whether before anything was tried on them."""

    name: str
    networks: tuple[dict, ...]
    labels: str
    blind: bool


def labelled_lists() -> dict[str, Labelled]:
    """All of them, by name."""
    found = [
        Labelled(
            "published", tuple(LISTS["published"]), "checked against the tensors; the rules were written with it", False
        ),
        Labelled(
            "unseen", tuple(LISTS["unseen"]), "from the packages' source, and committed before the first run", True
        ),
        *(
            Labelled(name, tuple(networks), LABELLED_BLIND.format(30 if name in NEWEST else 29), True)
            for name, networks in LISTS.items()
            if "unseen-" in name
        ),
    ]
    for source in dict.fromkeys(entry["source"] for entry in FAMILIES):
        networks = tuple(entry for entry in FAMILIES if entry["source"] == source)
        found.append(
            Labelled(
                f"{source}-small", networks, "with the small networks; the rules were mended with them since", False
            )
        )
    return {one.name: one for one in found}
