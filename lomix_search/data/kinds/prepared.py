"""Data that ``lomix prepare`` has written, as a recipe's ``[data]`` opens them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictInt, field_validator, model_validator

from lomix_search.data.block_fit import BlockFit
from lomix_search.data.case import Case
from lomix_search.data.dataset import Slices, Splits
from lomix_search.data.kinds.class_table import PreparedLabels, prepared_labels
from lomix_search.data.kinds.prepared_arrays import PreparedCases, PreparedFolder
from lomix_search.data.kinds.prepared_volumes import (
    PreparedVolumes,
    VolumeOptions,
    check_block,
    fit_of_blocks,
    volume_case,
)
from lomix_search.data.manifest import Entry, Manifest, read_manifest
from lomix_search.data.split import Split, SplitPlan, make_split
from lomix_search.errors import DataError, nearest
from lomix_search.utils.schema import Frozen

_Share = Annotated[float, Field(ge=0, lt=1)]
_Side = Annotated[int, Field(ge=16)]
_BlockSide = Annotated[int, Field(ge=1, le=4096)]


class PreparedSettings(Frozen):
    """Keys of ``[data]`` for this kind.

    Args:
        root: Folder that ``lomix prepare`` wrote; relative to the recipe if it is there, else to the current one.
        classes: Names of the foreground classes, in the order of their numbers 1, 2, …; the rest is background. Left
            out where regions are learned.
        regions: Regions that may overlap, each with its raw label values or names of labels, in the order of the
            network's channels (multi-label). Those that the data name when left out; ``{}`` learns classes even so.
        written: Of regions: the raw label value that each is written as where predictions become one label; in the
            order of the regions, of which later ones are painted over earlier ones (nnU-Net's
            ``regions_class_order``). Found out, or as the data say, when left out.
        ignore: Raw label value (or the name of that label) of pixels that count nowhere; the one that the data name
            when left out.
        split: A split file beside the recipe; ``"random"`` draws one by patient.
        size: Rows and columns, which must be what was prepared; of volumes, slices, rows and columns of the blocks that
            training sees: ``[48, 64, 48]``.
        augment: Augmentation of the training slices; ``volume`` for volumes.
        flip: Axes of volumes that may be mirrored in training (``slices``, ``rows``, ``columns``): those that no class
            is bound to. None by default.
        normalize: ``imagenet`` for RGB networks pretrained there; none leaves 0 … 1.
        seed: Of drawn splits and subsets.
        val_fraction: Share of training patients to validate on, where the split file names none.
        test_fraction: Share of patients to test on, for a random split.
        folds: k of k-fold cross-validation.
        fold: Which fold validates, from 0.
        label_fraction: Share of the training patients to use, in nested subsets.
        leave_out: Test on this patient alone and train on all others.
        groups: Use the cases of these sets of the raw data alone, such as ``CVC-ColonDB``; with ``split = "random"`` a
            set is then split by itself. All when left out.
    """

    root: str
    classes: tuple[str, ...] = ()
    regions: dict[str, tuple[StrictInt | str, ...]] | None = None
    written: tuple[StrictInt, ...] | None = None
    ignore: StrictInt | str | None = None
    split: str = "random"
    size: _Side | tuple[_BlockSide, _BlockSide, _BlockSide] | None = None
    augment: Literal["none", "paper", "chest_ct", "volume"] = "paper"
    flip: tuple[Literal["slices", "rows", "columns"], ...] = ()
    normalize: Literal["none", "imagenet"] = "none"
    seed: Annotated[int, Field(ge=0)] = 0
    val_fraction: _Share = 0.1
    test_fraction: _Share = 0.1
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    leave_out: str = ""
    groups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_volumes(self) -> "PreparedSettings":
        if self.flip and self.augment != "volume":
            raise ValueError(f'flip belongs to augment = "volume"; augment is "{self.augment}"')
        return self

    @field_validator("classes")
    @classmethod
    def _of_one_name(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in classes if name == "background" or classes.count(name) > 1}):
            raise ValueError(f"{', '.join(map(repr, twice))} is there twice; each class needs a name of its own")
        return classes

    def labels(self, manifest: Manifest, ignore_index: int | None = None) -> PreparedLabels:
        """Return what is made of the raw labels; ``ignore_index`` as for :func:`load_prepared`."""
        return prepared_labels(manifest, self.classes, self.regions, self.ignore, ignore_index, self.written)

    def chosen(self, manifest: Manifest) -> list[Entry]:
        """Return the cases of the groups that are named; all of them where none is.

        Raises:
            DataError: there is no such group.
        """
        known = {entry.group for entry in manifest.cases if entry.group}
        if strange := [name for name in self.groups if name not in known]:
            raise DataError(f'data.groups: no case is of group "{strange[0]}". {nearest(strange[0], known)}')
        return [entry for entry in manifest.cases if not self.groups or entry.group in self.groups]

    def plan(self) -> SplitPlan:
        """Return how to split."""
        file = None if self.split == "random" else Path(self.split)
        drawn = (self.seed, self.val_fraction, self.test_fraction, self.folds, self.fold)
        return SplitPlan(file, *drawn, self.label_fraction, self.leave_out)


def load_prepared(settings: PreparedSettings, ignore_index: int | None = None) -> Splits:
    """Open prepared data; nothing is read before it is needed.

    Args:
        settings: Keys of ``[data]``.
        ignore_index: As the recipe's ``[loss]`` has it. Above the class numbers it is a raw label value, whose pixels
            keep it; else the number of a class.

    Returns:
        Slices of the training size for the three sets, and whole cases of ``val`` and ``test`` at native size.

    Raises:
        DataError: not prepared, prepared at another size, without one of the classes, or the split does not fit.
    """
    manifest = read_manifest(settings.root)
    labels, split = settings.labels(manifest, ignore_index), make_split(settings.chosen(manifest), settings.plan())
    opened = PreparedFolder(Path(settings.root), manifest, labels, settings.normalize)
    make = _volumes if manifest.dims == 3 else _slices
    train, val, test, read = make(settings, opened, split)
    return Splits(
        train,
        val,
        test,
        labels.classes,
        manifest.cases[0].shape[1],
        manifest.preparation.spacing,
        volumes={"val": PreparedCases(read, split.val), "test": PreparedCases(read, split.test)},
        regions=labels.regions,
        ignore_index=labels.ignore_index,
        written=labels.written,
        patients={case.name: case.patient for case in manifest.cases if case.patient != case.name},
    )


_Made = tuple[Slices, Slices, Slices, Callable[[str], Case]]


def _slices(settings: PreparedSettings, opened: PreparedFolder, split: Split) -> _Made:
    """Open the sets of slices, and what reads a case."""
    manifest = opened.manifest
    if settings.size not in (None, manifest.size):
        wanted = list(settings.size) if isinstance(settings.size, tuple) else settings.size
        hint = f"lomix prepare {manifest.benchmark} RAW {settings.root} --size {wanted}"
        raise DataError(
            f"{settings.root} was prepared at {manifest.size} × {manifest.size}, and the recipe wants {wanted}.",
            hint=hint if isinstance(wanted, int) else f"data.size={manifest.size}   # these are slices, not volumes",
        )
    if settings.augment == "volume":
        raise DataError(
            f'{settings.root} holds slices; data.augment = "volume" is for volumes.', hint="data.augment=paper"
        )
    train = opened.slices(split.train, settings.augment)
    val, test = (opened.slices(names, "none") for names in (split.val, split.test))
    return train, val, test, opened.case


def _volumes(settings: PreparedSettings, opened: PreparedFolder, split: Split) -> _Made:
    """Open the sets of volumes, and what reads a case."""
    size = check_block(settings.size, opened)
    augment = settings.augment if "augment" in settings.model_fields_set else "volume"
    if augment not in ("none", "volume"):
        raise DataError(
            f"{settings.root} holds volumes; data.augment = {augment!r} is for slices.",
            hint="data.augment=volume   # or none",
        )
    if settings.normalize != "none":
        raise DataError(f"{settings.root} holds volumes; data.normalize is for pictures.", hint="data.normalize=none")
    volumes = PreparedVolumes(opened, VolumeOptions(size, augment, settings.flip))
    val, test = (volumes.wholes(names) for names in (split.val, split.test))
    return volumes.patches(split.train), val, test, partial(volume_case, opened)


def block_fit_of(settings: PreparedSettings, ignore_index: int | None = None) -> BlockFit | None:
    """Return how the blocks that a recipe trains on fit its training cases, without opening any array.

    Args:
        settings: Keys of ``[data]``.
        ignore_index: As for :func:`load_prepared`.

    Returns:
        The fit; None of slices and pictures, which are resized, never cut or padded.

    Raises:
        DataError: as for :func:`load_prepared`.
    """
    manifest, split = splits_of(settings)
    if manifest.dims != 3:
        return None
    labels = settings.labels(manifest, ignore_index)
    opened = PreparedFolder(Path(settings.root), manifest, labels, settings.normalize)
    return fit_of_blocks(opened, check_block(settings.size, opened), split.train)


def measured_outside(settings: PreparedSettings) -> str:
    """Say whether intensities were scaled by figures of cases that are held out, as another seed or fold has it.

    Args:
        settings: Keys of ``[data]``.

    Returns:
        One sentence; empty where nothing was measured, or in training cases alone.

    Raises:
        DataError: as for :func:`load_prepared`.
    """
    manifest, split = splits_of(settings)
    held = [name for name in manifest.measured if name in {*split.val, *split.test}]
    if not held:
        return ""
    return (
        f"intensities are scaled by figures that were measured in {len(manifest.measured)} cases (window, mean), and "
        f"{len(held)} of these are held out by this split: {', '.join(held[:3])}{', …' * (len(held) > 3)}; figures of "
        "its own training cases come of preparing again: lomix new FOLDER DATA --split FILE, or with --window LOW,HIGH"
    )


def splits_of(settings: PreparedSettings) -> tuple[Manifest, Split]:
    """Return what was prepared and who belongs where, without opening any array.

    Args:
        settings: Keys of ``[data]``.

    Returns:
        The manifest and the split.

    Raises:
        DataError: as for :func:`load_prepared`.
    """
    manifest = read_manifest(settings.root)
    return manifest, make_split(settings.chosen(manifest), settings.plan())
