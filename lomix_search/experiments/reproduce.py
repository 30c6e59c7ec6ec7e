"""``lomix reproduce``: a finished run once more, and whether it came out the same to the last bit."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lomix_search.errors import RunError
from lomix_search.experiments.environment import Environment, read_environments
from lomix_search.experiments.listing import is_run, unfinished
from lomix_search.experiments.results import read_results
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.run_differences import flat, weights_agree
from lomix_search.experiments.status import read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.sections import TrackSection
from lomix_search.training.checkpoint import read_tensors, weights_sha256
from lomix_search.training.trackers import read_lines

_CLOCK = ("train/seconds", "train/step_seconds")


@dataclass(frozen=True)
class Reproduction:
    """A run beside its repetition.

    Args:
        folder: The run.
        again: Its repetition.
        matched: Whether all weights, operators and logged numbers are equal bit for bit; times are not compared.
        hashes: sha256 of the run's weights, by network.
        differences: What is not equal, and by how much; empty when matched.
        environment: What differs in the environments; empty when nothing does, or where the run noted none.
    """

    folder: Path
    again: Path
    matched: bool
    hashes: Mapping[str, str]
    differences: tuple[str, ...]
    environment: tuple[str, ...]

    def __str__(self) -> str:
        """Say whether it matched; if not, how far off it is and what may be the cause."""
        lines = [f"{'' if self.matched else 'not '}reproduced bit for bit", f"  run    {self.folder}"]
        lines += [f"  again  {self.again}"]
        if self.matched:
            lines += ["  equal in every weight, in the learned mixture, in every logged loss and score"]
            lines += [
                f"  sha256 of the {name} network begins with {digest[:12]}" for name, digest in self.hashes.items()
            ]
            return "\n".join([*lines, *(f"  although the environment differs: {line}" for line in self.environment)])
        causes = self.environment or ("no difference is known: the recipe's own code may draw at random",)
        told = [*(f"  {line}" for line in self.differences), *(f"  environment: {line}" for line in causes)]
        return "\n".join([*lines, *told])


def reproduce(
    folder: Path, into: Path | None = None, *, resume: bool = False, console: Console | None = None
) -> Reproduction:
    """Run the recipe of a finished run again in a new folder, with as many threads, and compare.

    Args:
        folder: The finished run.
        into: The new folder; ``<folder>-again`` by default.
        resume: Go on with a repetition that was stopped.
        console: Where to say what goes on; silent by default.

    Returns:
        Whether it came out the same.

    Raises:
        RunError: ``folder`` holds no finished run, or the new folder holds something.
    """
    if not is_run(folder):
        raise RunError(f"{folder}: no run folder.", hint="lomix runs   # lists them")
    if not (folder / "final.pt").exists() or not (folder / "mixture.json").exists():
        raise unfinished(folder)
    again = into or folder.with_name(f"{folder.name}-again")
    if again.exists() and not resume and any(again.iterdir()):
        raise RunError(
            f"{again} is there already; nothing was changed.",
            hint=["--resume         to go on with a repetition that was stopped", "--folder OTHER   to start another"],
        )
    recipe = load_recipe(folder / "recipe.toml").model_copy(update={"track": TrackSection()})
    known = read_environments(folder)
    with _threads(known[-1] if known else None):
        run_recipe(recipe, again, resume=resume, console=console, score_test=(folder / "results.json").exists())
    return check_reproduction(folder, again)


def check_reproduction(folder: Path, again: Path) -> Reproduction:
    """Compare a run with its repetition.

    Args:
        folder: The run.
        again: The repetition, finished.

    Returns:
        The verdict.
    """
    found = [line for line in (*_networks(folder, again), *_mixtures(folder, again), *_scores(folder, again)) if line]
    found += _logs(folder, again)
    hashes = weights_sha256(folder)
    status = read_status(folder)
    found += [
        f"{name}.pt is not what the run left: its hash was {noted[:12]}, and is {hashes[name][:12]}"
        for name, noted in (status.weights if status else {}).items()
        if name in hashes and hashes[name] != noted
    ]
    known = [read_environments(one) for one in (folder, again)]
    changed = [line for before in known[0] for line in before.differences(known[1][-1])] if all(known) else []
    return Reproduction(folder, again, not found, hashes, tuple(found), tuple(dict.fromkeys(changed)))


def _networks(folder: Path, again: Path) -> Iterator[str]:
    for name in ("final", "best"):
        if _has(folder, name) and _has(again, name):
            yield _apart(f"{name} network", read_tensors(folder / f"{name}.pt"), read_tensors(again / f"{name}.pt"))
        elif _has(folder, name) or _has(again, name):
            yield f"{name}.pt: only one of the two has it"


def _mixtures(folder: Path, again: Path) -> Iterator[str]:
    one, other = (Mixture.load(home / "mixture.json") for home in (folder, again))
    yield _apart("operators", one.operators, other.operators)
    if one.weights.keys() != other.weights.keys():
        yield "mixture: other maps"
    elif one.weights != other.weights:
        largest = max(abs(weight - other.weights[name]) for name, weight in one.weights.items())
        tau, _ = weights_agree(one, other)
        yield f"mixture: weights differ by up to {largest:.2g}, Kendall τ {tau:+.2f}"


def _scores(folder: Path, again: Path) -> Iterator[str]:
    one, other = (read_results(home) for home in (folder, again))
    for name in one if other else ():
        before, now = (s[name].mean if name in s else None for s in (one, other))
        before, now = (math.nan if mean is None else mean for mean in (before, now))
        if before != now and not (math.isnan(before) and math.isnan(now)):
            yield f"test Dice of the {name} network: {before:.4f}, then {now:.4f}"


def _logs(folder: Path, again: Path) -> list[str]:
    """Find the first step at which something was logged that differs; times are left out."""
    one, other = (_numbers(home) for home in (folder, again))
    if len(one) != len(other):
        return [f"log: {len(one)} lines, then {len(other)}"]
    for before, now in zip(one, other, strict=True):
        if before != now:
            names = [key for key in before if before[key] != now.get(key)]
            return [f"log: equal before step {before['step']}; from there on other {', '.join(names[:4])}"]
    return []


def _numbers(folder: Path) -> list[dict[str, Any]]:
    """Read a log without its times; of a line that was logged again after a resume the last counts."""
    lines = read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in flat(line).items() if key not in _CLOCK} for line in lines]


def _apart(what: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Say how far two sets of tensors are apart; nothing if they are equal bit for bit."""
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        return f"{what}: other tensors"
    unequal = [name for name in one if not _same_bits(one[name], other[name])]
    if not unequal:
        return ""
    largest = max(float((one[name].double() - other[name].double()).abs().max()) for name in unequal)
    apart = math.sqrt(sum(float((one[n].double() - other[n].double()).square().sum()) for n in unequal))
    size = math.sqrt(sum(float(one[n].double().square().sum()) for n in one)) or 1.0
    return (
        f"{what}: {len(unequal)} of {len(one)} tensors differ, by up to {largest:.2g}; "
        f"relative distance of all weights {apart / size:.2g}"
    )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype:
        return False
    first, second = (t.contiguous().flatten().view(torch.uint8) for t in (one, other))
    return torch.equal(first, second)


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.pt").exists()


@contextlib.contextmanager
def _threads(environment: Environment | None) -> Iterator[None]:
    """Use as many threads as a run had: sums in another order are other sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(environment.threads if environment else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
