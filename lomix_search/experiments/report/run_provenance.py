"""Where a run came from: recipe, environment, data, hashes and every setting."""

import itertools
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from lomix_search.experiments.environment import Environment
from lomix_search.experiments.report.html_parts import command, facts, section, text
from lomix_search.experiments.report.run_content import RunContent
from lomix_search.training.surroundings import DECISIVE_PACKAGES, Git


def provenance_section(content: RunContent) -> str:
    """Return the section on where the run came from, HTML."""
    status, known = content.status, content.environments
    pairs = {
        "recipe": f"<code>{text(content.title)}</code>",
        "seed": text(content.section("search").get("seed", "–")),
    }
    if content.mixture:
        pairs["network"] = text(content.mixture.provenance.network or "–")
        stages = (f"<code>{text(stage.name)}</code>" for stage in content.mixture.stages)
        pairs["stages, coarse to fine"] = ", ".join(stages) or "–"
    if status:
        pairs["started"] = _time(status.started)
        pairs["ended"] = _time(status.ended) if status.ended else "–"
    if known:
        pairs |= _environment(known[-1])
    if len(known) > 1:
        lines = [line for one, other in itertools.pairwise(known) for line in one.differences(other)]
        pairs["resumed elsewhere"] = "<br>".join(map(text, lines))
    if status and status.weights:
        pairs["sha256 of weights"] = "<br>".join(
            f"{text(name)} <code>{text(digest[:16])}…</code>" for name, digest in status.weights.items()
        )
    pairs["again"] = command("lomix", "reproduce", content.name)
    folds = [_fold("every setting of the recipe", _settings(content.recipe))]
    if known:
        packages = facts((text(name), text(version)) for name, version in known[-1].packages.items())
        folds.append(_fold(f"all {len(known[-1].packages)} installed packages", f'<div class="many">{packages}</div>'))
    return section("provenance", "Provenance", facts(pairs) + "".join(folds))


def _environment(environment: Environment) -> dict[str, str]:
    versions = [f"{name} {environment.packages[name]}" for name in DECISIVE_PACKAGES if name in environment.packages]
    threads = f"{environment.threads} thread{'s' if environment.threads > 1 else ''}"
    found = {
        "versions": text(", ".join([f"python {environment.python}", *versions])),
        "device": text(f"{environment.device} ({environment.capability}), {threads}, {environment.system}"),
        "loss engine": text(environment.engine),
        "library": _git(environment.library) or "an installed package",
        "project": _git(environment.project) or "not in a git checkout",
    }
    if environment.data:
        of = f"over {text(environment.data.of)}"
        found["data"] = f"{text(environment.data.kind)}: <code>{text(environment.data.sha256[:16])}…</code> {of}"
    return found


def _git(state: Git | None) -> str:
    if state is None:
        return ""
    changed = (
        f" with changes <code>{text((state.changes or '')[:8])}</code> that are not committed" if state.dirty else ""
    )
    return f"commit <code>{text(state.commit[:12])}</code>{changed}"


def _settings(recipe: Mapping[str, Any]) -> str:
    """Return the recipe section by section; of a path only its last part is shown, the page may travel."""
    parts = []
    plain = {key: value for key, value in recipe.items() if not isinstance(value, Mapping)}
    for name, content in {"": plain, **{k: v for k, v in recipe.items() if isinstance(v, Mapping)}}.items():
        if content:
            rows = ((text(key), f"<code>{text(_without_folders(value))}</code>") for key, value in content.items())
            parts.append(f"<h4>{text(f'[{name}]') if name else ''}</h4>{facts(rows)}")
    return "".join(parts)


def _without_folders(value: Any) -> Any:
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return "…/" + PurePath(value.replace("\\", "/")).name
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return {key: _without_folders(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def _time(iso: str) -> str:
    return f"<time datetime='{text(iso)}'>{text(iso.replace('T', ' ').replace('+00:00', ' UTC'))}</time>"
