"""What a plug-in for a framework checks, logs and writes, whichever framework it is."""

import importlib.metadata
import re
import sys
from collections.abc import Iterable

import torch
from torch import nn

from lomix_search.errors import LossError, RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.network import StageLike
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import Provenance
from lomix_search.mixture.weighting import Lookahead
from lomix_search.utils.shipped import VERSION

STRONGEST = 5
"""So many maps are named in a line of a log."""


def untested_version(package: str, tested: str) -> str:
    """Say that a framework is of another version than the plug-in was tested with.

    Args:
        package: Its name among the installed packages, e.g. ``"monai"``.
        tested: The beginning of the versions that were tested, e.g. ``"1.6"``.

    Returns:
        A sentence for the framework's log; empty where the version was tested or nothing is known of it.
    """
    found = _installed(package)
    if found is None or f"{found}.".startswith(f"{tested}."):
        return ""
    return (
        f"LoMix was tested with {package} {tested}; this is {found}. If anything fails: "
        f"pip install '{package}=={tested}.*'"
    )


def check_for_plug_in(loss: MixtureLoss, framework: str) -> None:
    """Refuse a weighting that asks for what a framework's own loop does not do.

    Args:
        loss: The mixture loss.
        framework: Its name, for the message.

    Raises:
        LossError: the weighting looks at held-out data, which only ``search`` keeps aside.
    """
    if isinstance(loss.weighting, Lookahead):
        raise LossError(
            f'weighting "{loss.weighting.name}" looks at held-out data, which the loop of {framework} keeps none of.',
            hint='weighting="anneal" or "uncertainty" here, or lomix.search(net, loss, train, val)',
        )


def check_trained(optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module], hint: str) -> None:
    """Check that an optimizer holds whatever asks for a gradient.

    Args:
        optimizer: The framework's.
        modules: Loss and heads.
        hint: What to type where it does not.

    Raises:
        RunError: it lacks some.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    wanted = {name: p for module in modules for name, p in module.named_parameters() if p.requires_grad}
    if missing := [name for name, p in wanted.items() if id(p) not in held]:
        kind = type(getattr(optimizer, "optimizer", optimizer)).__name__
        raise RunError(
            f"{kind} lacks {len(missing)} of LoMix's parameters; they would stay as they are.",
            seen=", ".join(missing[:4]) + (", …" if len(missing) > 4 else ""),
            hint=hint,
        )


def weight_numbers(loss: MixtureLoss, every: bool = True) -> dict[str, float]:
    """Return the weights as the numbers that a framework's trackers take; waits for the device.

    Args:
        loss: The mixture loss.
        every: With the weight of each map.

    Returns:
        By name: ``lomix/effective_maps``, ``lomix/weight_sum``, and ``lomix/add_1_3`` for each map (MLflow takes no
        brackets).
    """
    mixture = loss.mixture()
    spread = mixture.concentration()
    numbers = {"lomix/effective_maps": spread.effective_maps, "lomix/weight_sum": spread.total}
    for name, weight in mixture.weights.items() if every else ():
        numbers[f"lomix/{re.sub('[^A-Za-z0-9.:]+', '_', name).strip('_')}"] = weight
    return numbers


def weight_line(loss: MixtureLoss) -> str:
    """Return the weights in one line of a log: how many maps they count as, and the strongest; waits for the device."""
    mixture = loss.mixture()
    spread, ranked = mixture.concentration(), mixture.ranked()
    named = " + ".join(f"{one.weight:.3g}·{one.id}" for one in ranked[:STRONGEST])
    more = f" + … ({len(ranked)} maps" if len(ranked) > STRONGEST else f" ({len(ranked)} maps"
    return f"LoMix: {named}{more}, which count as {spread.effective_maps:.1f}; sum {spread.total:.3g})"


def found_mixture(
    loss: MixtureLoss,
    framework: str,
    stages: Iterable[StageLike] = (),
    network: str | None = None,
    steps: int | None = None,
) -> Mixture:
    """Return what was found so far, with a note of where.

    Args:
        loss: The mixture loss.
        framework: The name of the framework's package, whose version is noted where it is known.
        stages: Of the network.
        network: Its class.
        steps: Optimizer steps that were taken.
    """
    versions = {"lomix_search": VERSION, "torch": torch.__version__, "python": sys.version.split()[0]}
    if version := _installed(framework):
        versions[framework] = version
    return loss.mixture(stages, Provenance(network=network, steps=steps, versions=versions))


def _installed(package: str) -> str | None:
    """Return the version of a package; None of a checkout that is imported without having been installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
