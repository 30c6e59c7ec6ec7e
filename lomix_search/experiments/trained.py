"""A finished run's network with its weights, built without the data that it was trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lomix_search.errors import RunError, nearest
from lomix_search.experiments.listing import unfinished
from lomix_search.experiments.run_data import RunData, read_data
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.instrumentation.summed_stages import SummedStages
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.utils import distributed
from lomix_search.utils.random import seeded

_SHOWN = 4


@dataclass(frozen=True)
class Trained:
    """A finished run, ready to be used.

    Args:
        folder: The run folder.
        network: ``final`` or ``best``.
        recipe: The run's.
        data: What it knows of its data.
        net: The network with the trained weights.
    """

    folder: Path
    network: str
    recipe: Recipe
    data: RunData
    net: Instrumented

    @property
    def predictor(self) -> nn.Module:
        """What predicts: the network, or the sum of its stages, as the recipe says."""
        return predictor_of(self.net, self.recipe)


def load_trained(folder: Path, network: str = "final", device: str | None = None) -> Trained:
    """Build a finished run's network and load its weights.

    Args:
        folder: The run folder.
        network: ``"final"``, or ``"best"`` on validation.
        device: Where it goes; the GPU, where there is one, by default.

    Returns:
        The run; the network is in eval mode.

    Raises:
        RunError: not a finished run, weights of another network, or no such device.
    """
    check_finished(folder, network)
    recipe = load_recipe(folder / "recipe.toml")
    data, place = read_data(folder, recipe), device_of(device)
    with seeded(0):  # neither the initial weights nor the example leave a trace
        model = recipe.build_network().to(place)
        example = torch.rand(1, *data.item, device=place)
    net = instrument(model, example, stages=recipe.network.stages)
    load_network(net, recipe, folder, network)
    return Trained(folder, network, recipe, data, net.eval())


def predictor_of(net: Instrumented, recipe: Recipe) -> nn.Module:
    """Return what predicts: the network, or the sum of its stages where ``evaluate.sum_stages`` says so."""
    return SummedStages(net) if recipe.evaluate.sum_stages else net


def load_network(net: Instrumented, recipe: Recipe, folder: Path, network: str) -> None:
    """Load the weights of a run, and those of its heads where its predictions need them.

    Args:
        net: The network as its recipe builds it.
        recipe: The run's.
        folder: Its folder.
        network: ``final`` or ``best``.

    Raises:
        RunError: a file is damaged, of another network, or there are no heads.
    """
    load_weights(net.model, folder / f"{network}.pt")
    heads = folder / f"{network}.heads.pt"
    if recipe.evaluate.sum_stages and len(net.heads):
        if not heads.is_file():
            raise RunError(
                f"{folder} holds no heads of its stages, which evaluate.sum_stages adds up; runs of earlier versions "
                "did not keep them.",
                hint="evaluate.sum_stages=false",
            )
        load_weights(net.heads, heads)


def check_finished(folder: Path, network: str) -> None:
    """Make sure that a folder holds a finished run's network.

    Args:
        folder: The run folder.
        network: Which one.

    Raises:
        RunError: it does not, or there is no network of that name.
    """
    if network not in (known := ("final", "best")):
        raise RunError(f'network "{network}": unknown. {nearest(network, known)}')
    if not (folder / "recipe.toml").is_file() or not (folder / f"{network}.pt").is_file():
        raise unfinished(folder)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load trained weights into the network that they were trained in.

    Args:
        model: The user's network.
        path: The file.

    Raises:
        RunError: the file is damaged, or its weights are those of another network.
    """
    state, own = read_tensors(path), model.state_dict()
    faults = [f"{key}: the network has it, the file has not" for key in own if key not in state]
    faults += [f"{key}: the file has it, the network has not" for key in state if key not in own]
    faults += [
        f"{key}: {tuple(own[key].shape)} in the network, {tuple(getattr(state[key], 'shape', ()))} in the file"
        for key in own
        if key in state and own[key].shape != getattr(state[key], "shape", None)
    ]
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise RunError(
            f"{path} holds the weights of another network than the recipe beside it builds.",
            seen=[*faults[:_SHOWN], *more],
            hint=f"weights and {path.parent / 'recipe.toml'} must be of one run",
        )
    model.load_state_dict(state)


def device_of(name: str | None) -> torch.device:
    """Return where to compute.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, …; the GPU, where there is one, by default.

    Returns:
        The device.

    Raises:
        RunError: there is no such device.
    """
    if name is None:
        return distributed.device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as cause:  # torch built without CUDA asserts
        raise RunError(
            f"--device {name}: there is no such device here.", seen=str(cause).splitlines()[0], hint="--device cpu"
        ) from None
    return device
