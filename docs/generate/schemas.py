"""The files that others read: mixture.json and search spaces, field by field and as JSON Schema."""

import json
from collections.abc import Iterator

from pydantic import BaseModel

from generate.docstrings import section
from generate.fields import bounds, default, in_words, model_within
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace


def space_fields() -> str:
    """Return the fields of a search space file as Markdown, those of what lies inside it after them."""
    return "\n".join(_fields(SearchSpace, "", []))


def space_schema() -> str:
    """Return the JSON Schema of a search space file."""
    return json.dumps(SearchSpace.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def mixture_fields() -> str:
    """Return the fields of mixture.json; those of the space stand on its own page."""
    return "\n".join(_fields(Mixture, "", [SearchSpace]))


def _fields(model: type[BaseModel], prefix: str, known: list[type[BaseModel]]) -> Iterator[str]:
    told = section(model, "Args")
    for name, field in model.model_fields.items():
        facts = [in_words(field.annotation), bounds(field), default(field)]
        facts = [f"default {fact}" if fact.startswith("`") else fact for fact in facts if fact]
        yield f"`{prefix}{name}`\n: {' · '.join(facts)}. {told.get(name, '')}\n"
        inner = model_within(field.annotation)
        if inner is not None and inner not in known:
            several = "[]" if in_words(field.annotation).startswith("list") else ""
            yield from _fields(inner, f"{prefix}{name}{several}.", [*known, inner])
