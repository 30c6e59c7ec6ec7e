"""Which cross-entropy and which region loss each map gets, as one value; its defaults are the paper's."""

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from lomix_search.errors import LossError, nearest

Region = Literal["dice", "generalized_dice", "tversky", "iou"]


@dataclass(frozen=True)
class LossTerms:
    """What stands beside the shares of a map's loss, ce·CE + dice·Region.

    I, P and Y are the sums over pixels of p·y, of p (of p² if ``squared``) and of y, for each class.

    Args:
        class_weights: C weights of the cross-entropy, ≥ 0: of the pixels of each class, whose weighted mean is taken,
            as torch's ``weight``; with a sigmoid of the foreground of each channel, as torch's ``pos_weight``.
        focal_gamma: γ of the focal factor (1 − p)^γ on each cross-entropy, p the probability of what is true.
        label_smoothing: ε: of the truth this part is spread over all classes; with a sigmoid y becomes
            (1 − ε)·y + ε/2.
        top_k: Share of the cross-entropies that counts, the largest ones of the batch: 0.1 for a tenth. In a
            distributed run the largest of each process.
        region: ``"dice"`` 1 − (2I + s)/(P + Y + s) · ``"iou"`` 1 − (I + s)/(P + Y − I + s) · ``"tversky"``
            1 − (I + s)/(I + α·(P − I) + β·(Y − I) + s) · ``"generalized_dice"``, that of all classes together, weighted
            by 1/Y². The mean over classes.
        tversky_alpha: α, the weight of false positives.
        tversky_beta: β, the weight of false negatives.
        squared: P is the sum of p², as in the paper; Tversky and generalised Dice always take that of p.
        per_image: The region loss is each image's own, and their mean is taken, over all images of all processes in a
            distributed run; else sums are of the whole batch. With ``boundary_weight`` the cross-entropy too.
        background: Class 0 takes part in the region loss. It always does in the cross-entropy.
        smooth: s, > 0.
        boundary_weight: κ: a pixel weighs 1 + κ·|mean of y over 31 pixels each way − y| in both losses, which are those
            of each channel then. PraNet's structure loss is κ = 5, ``region="iou"``, ``squared=False``,
            ``per_image=True``, ``smooth=1`` with shares of 1. With a sigmoid only.

    ``text`` is the value as one line: it is written once, because ``torch.compile`` reads no ``repr``.

    Raises:
        LossError: a value out of range, or options that exclude each other; all are listed.

    Source: Focal: Lin et al. 2017. Tversky: Salehi et al. 2017. Generalised Dice: Sudre et al. 2017. Top-k: Wu et al.
    2016. Structure loss: PraNet, Fan et al. 2020; its code averages the cross-entropy before it weights it (an old name
    of an argument), its paper weights pixels, as here.
    """

    class_weights: tuple[float, ...] | None = None
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0
    top_k: float = 1.0
    region: Region = "dice"
    tversky_alpha: float = 0.5
    tversky_beta: float = 0.5
    squared: bool = True
    per_image: bool = False
    background: bool = True
    smooth: float = 1e-5
    boundary_weight: float = 0.0
    text: ClassVar[str]

    def __post_init__(self) -> None:
        weights: Any = self.class_weights
        weights = weights.tolist() if hasattr(weights, "tolist") else weights  # of torch or numpy
        object.__setattr__(self, "class_weights", tuple(weights) if isinstance(weights, list) else weights)
        _raise(_ranges(self) or exclusions(self))
        object.__setattr__(self, "text", repr(tuple(getattr(self, field.name) for field in fields(self))))

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> "LossTerms":
        """Build the value from keywords.

        Args:
            options: By name.

        Returns:
            The value.

        Raises:
            LossError: there is no such option, or as of the class.
        """
        names = [field.name for field in fields(cls)]
        _raise([f'option "{name}": unknown. {nearest(name, names)}' for name in options if name not in names])
        return cls(**options)

    @classmethod
    def from_text(cls, text: str) -> "LossTerms":
        """Read what ``text`` holds."""
        return cls(*ast.literal_eval(text))

    def check_classes(self, num_classes: int, sigmoid: bool) -> None:
        """Check that the options fit the classes.

        Args:
            num_classes: C.
            sigmoid: Whether each channel is judged by itself: binary and multi-label.

        Raises:
            LossError: they do not; all faults are listed.
        """
        faults = []
        given = len(self.class_weights or ())
        if self.class_weights is not None and given != num_classes:
            of_what = "one a channel" if sigmoid else "one a class, background first"
            faults.append(f"class_weights has {given} weights; {num_classes} are needed, {of_what}")
        if not self.background and sigmoid:
            faults.append("background=False: with a sigmoid there is no class of background to leave out")
        if self.boundary_weight and not sigmoid:
            faults.append(
                f"boundary_weight={self.boundary_weight:g} is of binary and multi-label maps; these have {num_classes} "
                "classes of which one is true"
            )
        _raise(faults)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the options that differ from the paper's."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != field.default)

    @property
    def of_squares(self) -> bool:
        """Whether sums of p² are needed, instead of sums of p."""
        return self.squared and self.region in ("dice", "iou")

    @property
    def by_pixel(self) -> bool:
        """Whether an option changes each pixel's loss."""
        return not {"boundary_weight", "top_k", "focal_gamma", "label_smoothing"}.isdisjoint(self.changed)


def _ranges(terms: LossTerms) -> list[str]:
    """Say which values are out of range."""
    from_zero = ("focal_gamma", "tversky_alpha", "tversky_beta", "boundary_weight")
    given = {name: getattr(terms, name) for name in (*from_zero, "squared", "per_image", "background")}
    faults = [
        f"{name} is {given[name]!r}; a finite number ≥ 0 is needed"
        for name in from_zero
        if not _is_number(given[name]) or given[name] < 0
    ]
    if not _is_number(terms.label_smoothing) or not 0 <= terms.label_smoothing < 1:
        faults.append(f"label_smoothing is {terms.label_smoothing!r}; a number from 0 to less than 1 is needed")
    if not _is_number(terms.top_k) or not 0 < terms.top_k <= 1:
        faults.append(f"top_k is {terms.top_k!r}; a share above 0 and at most 1 is needed, 0.1 for a tenth")
    if not _is_number(terms.smooth) or terms.smooth <= 0:
        faults.append(f"smooth is {terms.smooth!r}; a finite number > 0 is needed")
    if terms.region not in get_args(Region):
        faults.append(f"region {terms.region!r}: unknown. {nearest(str(terms.region), get_args(Region))}")
    switches = [name for name in ("squared", "per_image", "background") if not isinstance(given[name], bool)]
    faults += [f"{name} is {given[name]!r}; True or False is needed" for name in switches]
    return [*faults, *_weight_faults(terms.class_weights)]


def _weight_faults(weights: Any) -> list[str]:
    if weights is None:
        return []
    if not isinstance(weights, tuple) or not all(_is_number(w) and w >= 0 for w in weights):
        return [f"class_weights is {weights!r}; finite numbers ≥ 0 are needed"]
    return [] if any(weights) else ["class_weights are all 0; nothing would be trained"]


def exclusions(terms: Any) -> list[str]:
    """Say which options exclude each other.

    Args:
        terms: ``LossTerms``, or what has attributes of the same names, such as a recipe's section.

    Returns:
        One line a fault.
    """
    faults = []
    if terms.focal_gamma and terms.label_smoothing:
        faults.append("focal_gamma and label_smoothing exclude each other: of a smoothed truth there is no one p")
    if terms.boundary_weight and terms.top_k < 1:
        faults.append("boundary_weight and top_k exclude each other: both say which pixels count")
    if terms.region == "tversky" and terms.tversky_alpha + terms.tversky_beta == 0:
        faults.append("tversky_alpha and tversky_beta are both 0; no error would count")
    return faults


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _raise(faults: Sequence[str]) -> None:
    if not faults:
        return
    said = [fault.removesuffix(".") for fault in faults]
    named = {name for fault in faults for name in re.findall(r"^\w+|(?<= and )\w+", fault)}
    own = [f"{field.name}={field.default!r}" for field in fields(LossTerms) if field.name in named]
    hint = f"MixtureLoss(…, {', '.join(own)})  # as in the paper"
    if len(said) == 1:
        raise LossError(f"{said[0]}.", hint=hint)
    raise LossError(f"{len(said)} options of the loss do not fit.", seen=said, hint=hint)
