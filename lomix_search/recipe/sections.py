"""The sections of a recipe, each a typed value with its defaults."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from lomix_search.errors import nearest
from lomix_search.evaluation.protocols import PROTOCOLS
from lomix_search.mixture.loss.terms import LossTerms, Region, exclusions
from lomix_search.mixture.weighting import resolved_weighting
from lomix_search.recipe.bounds import Count, CountFromZero, NotNegative, Positive, Seed
from lomix_search.utils.schema import Frozen


class DataSection(Frozen):
    """``[data]``: where images come from. All keys beside ``kind`` are the settings of that kind.

    Args:
        kind: A shipped kind (``"chest_ct"``), or ``"file.py:function"`` relative to the recipe: a function that takes
            the other keys as keyword arguments and returns :class:`~lomix_search.data.dataset.Splits`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str

    @property
    def settings(self) -> dict[str, Any]:
        """All keys beside ``kind``."""
        return dict(self.model_extra or {})


class NetworkSection(Frozen):
    """``[network]``: how the network is built.

    Args:
        build: ``"package.module:name"``, or ``"file.py:name"`` relative to the recipe.
        args: Keyword arguments of that class or function.
        stages: Module paths of the decoder stages, coarse to fine; found when left out.
    """

    build: str
    args: dict[str, Any] = Field(default_factory=dict)
    stages: tuple[str, ...] | None = None


class SpaceSection(Frozen):
    """``[space]``: the search space.

    Args:
        name: A shipped space, or the path of a TOML file relative to the recipe.
        operators: Keep these of its operators only. All when left out; an empty list leaves the originals alone.
        sizes: Keep only subsets of these numbers of stages. All when left out; empty: the originals alone.
    """

    name: str = "lomix"
    operators: tuple[str, ...] | None = None
    sizes: tuple[Annotated[int, Field(ge=2, lt=2**31)], ...] | None = None


class LossSection(Frozen):
    """``[loss]``: the loss of each map, ce·CE + dice·Region; the defaults are the paper's CE and Dice.

    Args:
        ce: Share of cross-entropy.
        dice: Share of the region loss.
        ignore_index: Label value that counts nowhere.

    All other keys are those of :class:`~lomix_search.mixture.loss.terms.LossTerms`, which describes them.
    """

    ce: NotNegative = 0.3
    dice: NotNegative = 0.7
    ignore_index: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    class_weights: tuple[NotNegative, ...] | None = None
    focal_gamma: NotNegative = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    top_k: Annotated[float, Field(gt=0, le=1)] = 1.0
    region: Region = "dice"
    tversky_alpha: NotNegative = 0.5
    tversky_beta: NotNegative = 0.5
    squared: bool = True
    per_image: bool = False
    background: bool = True
    smooth: Positive = 1e-5
    boundary_weight: NotNegative = 0.0

    @model_validator(mode="after")
    def _fitting(self) -> "LossSection":
        faults = ["ce and dice are both 0; nothing would be trained"] if self.ce + self.dice == 0 else []
        if self.class_weights is not None and not any(self.class_weights):
            faults.append("class_weights are all 0; nothing would be trained")
        if faults := [*faults, *exclusions(self)]:
            raise ValueError("; ".join(faults))
        return self

    @property
    def terms(self) -> LossTerms:
        """All keys but ce, dice and ignore_index."""
        return LossTerms(**self.model_dump(exclude={"ce", "dice", "ignore_index"}))


class WeightingSection(Frozen):
    """``[weighting]``: how raw parameters become loss weights. All keys beside those below are its settings.

    Args:
        name: ``"softplus"`` is the paper's; the others are listed in ``lomix_search.mixture.weighting``. ``"auto"``
            becomes the recommended one here, so that run folders hold its own name.
        mixture: A mixture.json. Its maps of weight > 0 are trained instead of the space's: ``fixed`` keeps their
            weights, ``anneal`` starts from them, other weightings begin anew.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = "softplus"
    mixture: str | None = None

    @field_validator("name")
    @classmethod
    def _resolved(cls, name: str) -> str:
        return resolved_weighting(name)

    @property
    def settings(self) -> dict[str, Any]:
        """All keys beside ``name`` and ``mixture``."""
        return dict(self.model_extra or {})


class OptimizerSection(Frozen):
    """``[optimizer]``: one optimizer for the network, the operators and the weights together.

    Args:
        name: AdamW or SGD (with Nesterov momentum).
        lr: Learning rate at the start.
        weight_decay: Decay of the parameters.
        momentum: For SGD only.
        schedule: Constant, poly ((1 − step/steps)^power) or cosine to 0.
        power: For poly only.
    """

    name: Literal["AdamW", "SGD"] = "AdamW"
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "poly", "cosine"] = "constant"
    power: Positive = 0.9


class ShrinkSection(Frozen):
    """``[search.shrink]``: drop the weakest maps during the search, down to a budget.

    Args:
        to: Number of maps left in the end, the finest original among them.
        start: Part of the training before which no map is dropped.
        until: Part of the training after which only ``to`` maps are left.
        by: ``"weight"``: by their loss weights; ``"effect"``: by what held-out data say (weighting ``lookahead``).
    """

    to: Count
    start: Annotated[float, Field(ge=0, le=1)] = 0.2
    until: Annotated[float, Field(gt=0, le=1)] = 0.8
    by: Literal["weight", "effect"] = "weight"

    @model_validator(mode="after")
    def _order(self) -> "ShrinkSection":
        if not self.start < self.until:
            raise ValueError(f"start = {self.start} must lie before until = {self.until}")
        return self


class SearchSection(Frozen):
    """``[search]``: the training loop.

    Args:
        steps: Optimizer steps.
        batch_size: Items a step.
        seed: Seed of everything that is random in the run.
        precision: 32, bf16 or fp16 (mixed).
        validate_every: Steps between two validations.
        checkpoint_every: Steps between two checkpoints.
        workers: Processes that read data beside the training process; the result does not depend on it.
        clip_grad: Largest norm of the gradient; not clipped when left out.
        label_fraction: Part of the training items (whole cases where there are several) to train with; of data that
            know their patients, ``data.label_fraction`` keeps a part by patient.
        shrink: Drop the weakest maps while training; all stay when left out.
        patience: Stop early after this number of validations in a row without a better Dice; never when left out.
        skip_not_finite: Number of steps in a row that may be skipped because the loss or its gradient is NaN or
            infinite; one more ends the run.
        other_data: Go on with a run although its data have changed since it was started.
    """

    steps: Count = 1000
    batch_size: Count = 6
    seed: Seed = 0
    precision: Literal["32", "bf16", "fp16"] = "32"
    validate_every: Count = 100
    checkpoint_every: Count = 100
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    clip_grad: Positive | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    shrink: ShrinkSection | None = None
    patience: Count | None = None
    skip_not_finite: CountFromZero = 3
    other_data: bool = False

    @field_validator("precision", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return str(value) if value == 32 and not isinstance(value, bool) else value


class EvaluateSection(Frozen):
    """``[evaluate]``: how whole cases are predicted and scored.

    Args:
        protocol: ``strict`` (millimetres, empty masks counted honestly), ``transunet`` (comparable with the Synapse
            literature), ``polyp`` or ``isic2018``.
        batch_size: Slices or windows at a time.
        flips: Average over flips of rows and columns.
        masks: Write predicted regions as one mask each, also where one label map could hold them.
        sum_stages: Predict by the sum of the logits of all stages, not by the finest map alone; needs the heads.
        window: Sliding window instead of resizing: rows and columns, or slices, rows and columns for a 3D network.
    """

    protocol: str = "strict"
    batch_size: Count = 8
    flips: bool = False
    masks: bool = False
    sum_stages: bool = False
    window: Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)] | None = None

    @field_validator("protocol")
    @classmethod
    def _known(cls, protocol: str) -> str:
        if protocol not in PROTOCOLS:
            raise ValueError(f"unknown. {nearest(protocol, PROTOCOLS)}")
        return protocol


class TrackSection(Frozen):
    """``[track]``: where metrics go beside metrics.jsonl.

    Args:
        wandb: Also write a Weights & Biases run.
        tensorboard: Also write TensorBoard event files.
        online: Send the wandb run while it goes on; otherwise it stays on this machine until ``wandb sync``.
        project: Project of the wandb run.
        name: Name of the wandb run. Left out, it is made of weighting and seed: folder names may tell too much.
        group: Group of the wandb run. Left out, the trials of a study have a group of random letters.
    """

    wandb: bool = False
    tensorboard: bool = False
    online: bool = False
    project: str = "lomix"
    name: str | None = None
    group: str | None = None
