"""From a recipe and its data to what is trained: the instrumented network and the mixture loss."""

from pathlib import Path
from typing import Any

from lomix_search.data.dataset import Splits
from lomix_search.errors import RecipeError
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.weighting import build_weighting
from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.sections import WeightingSection
from lomix_search.utils.distributed import device


def build_net(recipe: Recipe, splits: Splits) -> Instrumented:
    """Build the recipe's network, on the GPU where there is one, and instrument it.

    Args:
        recipe: Names the network.
        splits: Its data; an image of them is the example.

    Returns:
        The network with a head on each stage.
    """
    image, _ = splits.val.example()
    stages = recipe.network.stages
    return instrument(recipe.build_network().to(device()), image[None].to(device()), stages=stages)


def build_loss(recipe: Recipe, net: Instrumented, splits: Splits) -> MixtureLoss:
    """Build the recipe's mixture loss for an instrumented network.

    Args:
        recipe: Space, loss and weighting; ``weighting.mixture`` trains the maps of a mixture file.
        net: The network.
        splits: Its data, which say whether labels overlap and which of them count nowhere.

    Returns:
        The loss.

    Raises:
        RecipeError: the network has another number of channels than there are regions.
        MixtureError: the mixture was found on another network.
        LossError: unknown weighting or settings.
    """
    num_classes = net.num_classes
    if splits.multilabel and num_classes != len(splits.classes):
        raise RecipeError(
            f"the network returns {num_classes} channels; the {len(splits.classes)} regions need one channel each, and "
            "the background none.",
            seen=f"regions {', '.join(splits.classes)}",
            hint=f"network.args.out_channels={len(splits.classes)}   # or what the network calls it",
        )
    options = recipe.loss.model_dump() | {"ignore_index": splits.ignore_index, "multilabel": splits.multilabel}
    name, settings = recipe.weighting.name, recipe.weighting.settings
    if recipe.weighting.mixture is not None:
        mixture = Mixture.load(recipe.weighting.mixture)
        mixture.check(len(net.stages), num_classes, [stage.name for stage in net.stages], splits.multilabel)
        return MixtureLoss.from_mixture(mixture, weighting=name, settings=settings, **options)
    space = recipe.build_space()
    weighting = build_weighting(name, tuple(space.maps(len(net.stages))), settings)
    return MixtureLoss(space, len(net.stages), num_classes, weighting=weighting, **options)


def with_mixture(recipe: Recipe, mixture: Path, weighting: str = "fixed", **settings: Any) -> Recipe:
    """Return the recipe that trains from scratch with a mixture file.

    Args:
        recipe: Data, network, optimizer and so on; its space and weighting give way to the mixture's.
        mixture: The file.
        weighting: ``"fixed"`` keeps its weights, ``"anneal"`` goes from them to the finest original; any other
            begins anew on its maps.
        **settings: Of the weighting.

    Returns:
        The recipe.

    Raises:
        MixtureError: the file does not hold a mixture.
    """
    Mixture.load(mixture)  # so that a damaged file is named before anything else is read
    chosen = WeightingSection.model_validate({"name": weighting, "mixture": str(mixture.absolute()), **settings})
    return recipe.model_copy(update={"weighting": chosen})
