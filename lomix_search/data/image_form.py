"""What a network was trained to see: how a new image becomes what it takes, and how its answers are written.

A run folder keeps it in ``data.json``, so that ``lomix predict`` needs none of the data that the run was trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from lomix_search.data.case import Array, Case
from lomix_search.data.kinds.chest_ct import HOUNSFIELD, ChestCTSettings
from lomix_search.data.kinds.prepared import PreparedSettings
from lomix_search.data.kinds.prepared_arrays import FinishItem, PreparedFolder
from lomix_search.data.manifest import ChannelScaling, Manifest, Preparation, read_manifest
from lomix_search.data.preparation import prepare_image
from lomix_search.data.readers.image import RawImage
from lomix_search.errors import DataError
from lomix_search.utils.schema import Frozen

_AIR = -500.0  # no scanner but a CT writes values as low as this for most of what surrounds a patient


class ImageForm(Frozen):
    """How new images are prepared for a network, as those of its training were.

    Args:
        preparation: Size or spacing, channels, and how intensities are scaled.
        clip: Intensities are first cut to these two.
        normalize: As in the settings of prepared data.
        pictures: Images are pictures rather than volumes.
        values: What a file of labels holds for class 0, 1, …; empty for the class numbers themselves.
        colours: 0xRRGGBB of each label value, where masks are pictures in colours.
        palette: 0xRRGGBB of each index, where masks are pictures with a palette.
        scaled_by: Who preprocessed the images of training in a way that is not repeated here; empty: nobody.
    """

    preparation: Preparation
    clip: tuple[float, float] | None = None
    normalize: Literal["none", "imagenet"] = "none"
    pictures: bool = False
    values: tuple[int, ...] = ()
    colours: dict[int, int] = Field(default_factory=dict)
    palette: dict[int, int] = Field(default_factory=dict)
    scaled_by: str = ""

    def prepare(self, raw: RawImage, name: str, files: Sequence[Path]) -> Case:
        """Turn a new image into the case that a network of this form predicts.

        Args:
            raw: As it was read.
            name: Of the image.
            files: Where it lies, for messages.

        Returns:
            The case; its label is empty of meaning.

        Raises:
            DataError: a picture where volumes are needed or the other way round, another number of channels, no
                spacing where one is needed, or intensities of another modality; the message names the file. Or the
                images of training were preprocessed elsewhere.
        """
        path = files[0]
        self._check_preprocessed(raw, path)
        self._check(raw, path)
        image = raw.image if self.clip is None else np.clip(raw.image, *self.clip)
        made = prepare_image(image, raw.spacing, self.preparation, path)
        native, small = (self._finished(array) for array in (made.native, made.small))
        nothing = np.broadcast_to(np.uint8(0), (native.shape[0], *native.shape[2:]))
        coloured = {"colours": self.colours, "palette": self.palette}
        origin = {**raw.origin, **{key: list(table.items()) for key, table in coloured.items() if table}}
        return Case(
            name, native, nothing, raw.spacing, origin, name, small, values=self.values, dims=self.preparation.dims
        )

    @property
    def note(self) -> str:
        """What to know of the grid that predictions are on; empty where it is that of the images as they came."""
        if not self.scaled_by:
            return ""
        return (
            f"they lie on {self.scaled_by}'s preprocessed grid, with its spacing where it is known: its cropping, "
            "turning and resampling are not undone, for what undoes them lies in .pkl files, which are never unpickled"
        )

    def _finished(self, array: Array) -> Array:
        """Do to an array what training does to every item."""
        picture = self.preparation.scaling_of(0).kind == "picture"
        image = torch.from_numpy(np.array(array, np.float32))
        finished: Array = FinishItem(None, picture, self.normalize)(image, torch.zeros(0))[0].numpy()
        return finished

    def _check_preprocessed(self, raw: RawImage, path: Path) -> None:
        """Refuse an image as it came where those of training were preprocessed elsewhere, and the other way round."""
        here, own = raw.preprocessed, self.preparation.preprocessed
        if self.scaled_by and here is None:
            raise DataError(
                f"{path}: the network was trained on files that {self.scaled_by} had cropped, resampled and scaled; "
                "what was done to them is not repeated here.",
                hint=[
                    "lomix predict RUN nnUNet_preprocessed/DATASET OUT   # what the same plans have preprocessed",
                    "or train from the raw form, which predict then takes: lomix new FOLDER nnUNet_raw/DATASET",
                ],
            )
        if here is not None and not self.scaled_by:
            raise DataError(
                f"{path}: nnU-Net has cropped, resampled and scaled it; the network was trained on images as they are.",
                hint="give the raw form: lomix predict RUN nnUNet_raw/DATASET/imagesTs OUT",
            )
        if here is not None and own is not None and (differences := own.differences(here)):
            raise DataError(
                f"{path}: {here.folder} was preprocessed otherwise than {own.folder}, which the network knows.",
                seen=differences,
                hint="nnUNetv2_move_plans_between_datasets, then nnUNetv2_preprocess: by the plans of training",
            )

    def _check(self, raw: RawImage, path: Path) -> None:
        picture = raw.depth != "volumes"
        if picture != self.pictures:
            trained, other = ("pictures", "a volume") if self.pictures else ("volumes", "a picture")
            raise DataError(
                f"{path}: the network was trained on {trained}, and this is {other}.",
                seen=f"a picture of {raw.depth}" if picture else f"{raw.image.shape[0]} slices",
                hint="predict with a run that was trained on such files",
            )
        if raw.image.size and (same := raw.image.min()) == raw.image.max():
            raise DataError(f"{path}: every pixel is {same:g}; nothing can be seen in it.", hint="move it away")
        low, ways = float(raw.image.min(initial=0)), {scaling.kind for scaling in self.preparation.intensity}
        if not picture and ways <= {"mr", "zscore"} and low < _AIR:
            raise DataError(
                f"{path}: a CT, by its values; the network was trained on images of another modality"
                + (f" ({', '.join(self.preparation.modalities)})." if self.preparation.modalities else "."),
                seen=f"values {low:g} … {float(raw.image.max()):g}",
                hint="predict with a run that was trained on CT",
            )


def prepared_form(settings: PreparedSettings, ignore_index: int | None = None) -> ImageForm:
    """Return how new images are prepared like those of a prepared folder; only its manifest is read.

    Args:
        settings: Keys of ``[data]``.
        ignore_index: As for ``load_prepared``.

    Returns:
        The form.

    Raises:
        DataError: not prepared, or without one of the classes.
    """
    manifest = read_manifest(settings.root)
    first = manifest.cases[0]
    opened = PreparedFolder(Path(settings.root), manifest, settings.labels(manifest, ignore_index), settings.normalize)
    return ImageForm(
        scaled_by="nnU-Net" if is_preprocessed(manifest) else "",
        preparation=manifest.preparation,
        normalize=settings.normalize,
        pictures="size" in first.origin,
        values=opened.values_of(first),
        colours=dict(first.origin.get("colours", ())),
        palette=dict(first.origin.get("palette", ())),
    )


def is_preprocessed(manifest: Manifest) -> bool:
    """Tell whether the cases are nnU-Net's files; folders of earlier versions tell it by ``.npz`` alone."""
    old = manifest.benchmark == "own" and all(s.endswith(".npz") for one in manifest.cases for s in one.sources)
    return old or manifest.preparation.preprocessed is not None


def chest_ct_form(settings: ChestCTSettings, ignore_index: int | None = None) -> ImageForm:
    """Return how a new CT is prepared like the embedded one."""
    low, high = HOUNSFIELD
    scaling = ChannelScaling(kind="range", window=HOUNSFIELD)  # float32, as the embedded CT is read
    how = Preparation(size=128, channels=1, modalities=("CT",), intensity=(scaling,))
    return ImageForm(preparation=how, clip=(low, high))
