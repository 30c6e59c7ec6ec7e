"""Every key that a recipe may hold, read off the typed sections."""

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from generate.docstrings import section, summary
from generate.fields import bounds, default, in_words, model_within
from generate.units import UNITS
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.mixture.loss.terms import LossTerms
from lomix_search.mixture.weighting import base
from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.sections import LossSection


@dataclass(frozen=True)
class Key:
    """One key.

    Args:
        name: Dotted, as ``lomix run RECIPE name=value`` takes it.
        group: Which keys it stands with: a section, a kind of data or a weighting.
        kind: What it may be, in words.
        unit: Of numbers.
        default: As TOML, or ``required`` or ``left out``.
        range: Of numbers.
        about: What it does, as Markdown.
    """

    name: str
    group: str
    kind: str
    unit: str
    default: str
    range: str
    about: str

    @property
    def markdown(self) -> str:
        """The key as an entry of the page."""
        facts = [
            self.kind,
            self.range,
            self.unit,
            f"default {self.default}" if self.default[0] == "`" else self.default,
        ]
        only = self.group.partition("(")[2].rstrip(")")
        title = f"{self.name} [{only}]" if only else self.name  # keys of one name are told apart
        return f"```{{recipe-key}} {title}\n{' · '.join(fact for fact in facts if fact)}\n\n{self.about}\n```\n"


def all_keys() -> list[Key]:
    """Return the keys of all sections, of all kinds of data and of all weightings."""
    found = list(_keys(Recipe, "", ""))
    for kind, known in DATA_KINDS.items():
        found += _keys(known.settings, "data.", f"data({kind})")
    for name, factory in {**base.WEIGHTINGS, **{f"{name}:…": _member(name) for name in base.FAMILIES}}.items():
        found += _settings(name, factory)
    return found


def page() -> str:
    """Return the keys, section by section, as Markdown."""
    keys, parts = all_keys(), []
    for group in dict.fromkeys(key.group for key in keys):
        inside = [key for key in keys if key.group == group]
        parts += [f"## {_title(group)}\n\n{_about(group)}\n", *(key.markdown for key in inside)]
    return "\n".join(parts)


def is_number(annotation: Any) -> bool:
    """Whether a value may be a number, so that it needs a unit."""
    if annotation in (int, float):
        return True
    return any(is_number(one) for one in typing.get_args(annotation) if not isinstance(one, str | int | float))


def _keys(model: type[BaseModel], prefix: str, group: str) -> Iterator[Key]:
    told = section(model, "Args")
    if model is LossSection:
        told = {**section(LossTerms, "Args"), **told}
    for name, field in model.model_fields.items():
        written = field.alias or name
        inner = model_within(field.annotation)
        of = group or (written if inner else "the recipe itself")
        if inner is None:
            yield _key(f"{prefix}{written}", of, field, told.get(name, ""))
        elif prefix == "" and group == "":
            yield from _keys(inner, f"{written}.", written)
        else:
            several = typing.get_origin(field.annotation) is dict
            yield from _keys(inner, f"{prefix}{written}.{'KEY.' if several else ''}", f"{prefix}{written}")


def _key(name: str, group: str, field: Any, about: str) -> Key:
    unit_of = f"{group}.{name.rpartition('.')[2]}" if "(" in group else name
    unit = UNITS.get(unit_of, "")
    return Key(name, group, in_words(field.annotation), unit, default(field), bounds(field), about)


def _settings(name: str, factory: Any) -> Iterator[Key]:
    """Return the settings of a weighting: its arguments after the maps."""
    told = section(factory, "Args")
    for key, field in base._settings(factory).model_fields.items():
        yield _key(f"weighting.{key}", f"weighting({name})", field, told.get(key, ""))


def _member(family: str) -> Any:
    from lomix_search.mixture.weighting.scalarized import MEMBERS

    return base.FAMILIES[family](MEMBERS[0])


def _title(group: str) -> str:
    """Return the heading of a group: the table of a TOML file."""
    head, _, inside = group.partition("(")
    if not inside:
        return group if " " in group else f"`[{group}]`"
    word = "kind" if head == "data" else "name"
    return f'`[{head}]` with `{word} = "{inside[:-1]}"`'


def _about(group: str) -> str:
    head, _, inside = group.partition("(")
    if head == "weighting" and inside:
        name = inside[:-1]
        return summary(base.WEIGHTINGS[name] if name in base.WEIGHTINGS else base.FAMILIES[name.partition(":")[0]])
    if inside:
        return summary(DATA_KINDS[inside[:-1]].load)
    if " " in group:
        return "Before the first table of the file."
    model: Any = Recipe
    for part in group.split("."):
        model = model_within(model.model_fields[part].annotation)
    words = summary(model).partition(": ")[2] or summary(model)
    return words[:1].upper() + words[1:]
