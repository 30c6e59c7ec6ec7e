"""What a user of ``lomix new`` decides; everything else is decided by the data."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lomix_search.errors import RecipeError
from lomix_search.utils.schema import Frozen, build_typed

_INTENSITIES = {"ct": "ct", "mr": "mr", "mri": "mr", "picture": "picture", "photo": "picture", "range": "range"}


class Choices(Frozen):
    """What the user has decided; whatever is left out is decided by the data.

    Args:
        classes: Names of the label values in ascending order; of DICOM files, the regions that are taken.
        patient: Regular expression whose first group is the patient in a case's name; ``folder``: the first folder of
            each case is; ``case``: each case is one.
        size: Rows and columns for training; of volumes slices, rows and columns of a patch.
        binary: Take all label values above the lowest as one foreground, and cut soft edges halfway.
        modality: ``ct``, ``mr``, ``picture`` or ``range``: how intensities are scaled. Or the names of the channels,
            ``T1,FLAIR``.
        dims: 2: slices or pictures; 3: volumes.
        spacing: Millimetres between slices, rows and columns that volumes are brought to; also those of files that do
            not say theirs among others that do. Where none does, they shape the network alone.
        ignore: Label value of pixels that count nowhere.
        regions: Overlapping regions to learn in place of classes, each with the names or values of its labels.
        colors: 0xRRGGBB of each class of masks in colours; ``background`` is black when left out.
        split: ``random``, or a split file.
        window: Lowest and highest intensity that is told apart.
    """

    classes: tuple[str, ...] = ()
    patient: str = ""
    size: tuple[Annotated[int, Field(ge=16, le=65536)], ...] = ()
    binary: bool = False
    modality: str = ""
    dims: Literal[2, 3] | None = None
    spacing: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    ignore: Annotated[int, Field(ge=0, le=65535)] | None = None
    regions: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    colors: Mapping[str, int] = Field(default_factory=dict)
    split: str = "random"
    window: tuple[float, float] | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, int) else value

    @field_validator("size", "spacing")
    @classmethod
    def _three(cls, value: tuple[float, ...], info: Any) -> tuple[float, ...]:
        if value and len(value) != 3 and not (info.field_name == "size" and len(value) == 1):
            raise ValueError("need three numbers: of slices, rows and columns")
        return value

    @field_validator("window")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"{value[0]:g} must lie below {value[1]:g}")
        return value

    @property
    def intensity(self) -> str:
        """How the user wants intensities to be scaled; empty where ``modality`` names channels or nothing."""
        return _INTENSITIES.get(self.modality.lower(), "")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, where ``modality`` names them."""
        return tuple(part.strip() for part in self.modality.split(",")) if self.modality else ()


def choices_of(**options: Any) -> Choices:
    """Check what a user has decided.

    Args:
        **options: As the fields of :class:`Choices`.

    Returns:
        The choices.

    Raises:
        RecipeError: values that make no sense; all of them are listed.
    """
    return build_typed(Choices, options, "lomix new", RecipeError)


def colors_of(text: str) -> dict[str, int]:
    """Read ``liver=#ff0000,spleen=#00ff00``.

    Args:
        text: Names and colours.

    Returns:
        0xRRGGBB by name.

    Raises:
        RecipeError: anything else, a name or a colour that is there twice.
    """
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, sign, colour = (piece.strip() for piece in part.rpartition("="))
        if not sign or not name or not re.fullmatch(r"#?[0-9a-fA-F]{6}", colour):
            raise RecipeError(
                f'--colors: "{part}" is no name with a colour.', hint='--colors "liver=#ff0000,spleen=#00ff00"'
            )
        number = int(colour.removeprefix("#"), 16)
        if name in found or number in found.values():
            raise RecipeError(
                f'--colors: "{part}" is there twice, its name or its colour.',
                hint="--colors 'liver=#ff0000,spleen=#00ff00'",
            )
        found[name] = number
    return found


def regions_of(text: str) -> dict[str, tuple[str, ...]]:
    """Read ``whole=1+2+3,core=tumour+2``.

    Args:
        text: Names of regions and of their labels.

    Returns:
        Names or values of the labels by region.

    Raises:
        RecipeError: anything else, or a region that is there twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, text.split(",")):
        name, sign, labels = (piece.strip() for piece in part.partition("="))
        members = tuple(label.strip() for label in labels.split("+"))
        if not sign or not name or not all(members) or name in found:
            raise RecipeError(
                f'--regions: "{part}" is no region with its labels, or is there twice.',
                hint='--regions "whole tumour=1+2+3,core=2+3"   # names or values of labels',
            )
        found[name] = members
    return found
