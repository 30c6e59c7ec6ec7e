"""Where a mixture comes from: the stages of the network that was searched, and the run that searched it."""

from pydantic import Field

from lomix_search.utils.schema import Frozen


class StageInfo(Frozen):
    """One decoder stage of the network that was searched.

    Args:
        name: Module path.
        channels: Channels of the feature map.
        stride: Input size divided by the stage's size, per spatial dimension.
    """

    name: str
    channels: int
    stride: tuple[float, ...]


class Provenance(Frozen):
    """Where a mixture comes from. It holds no time stamps, so that equal runs write equal files.

    Args:
        recipe: Name of the recipe, if one was run.
        network: Class of the network.
        seed: Seed of the run.
        steps: Optimizer steps taken.
        versions: Versions of python, torch and lomix_search.
        commit: Commit of the checkout the library ran from, if it did.
        metrics: Named results, such as ``val.dice.best``.
        warnings: What the search had to say about its own result, such as weights that did not select.
    """

    recipe: str | None = None
    network: str | None = None
    seed: int | None = None
    steps: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
