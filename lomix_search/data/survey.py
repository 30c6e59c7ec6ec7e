"""What all images of a dataset have in common, and how they are prepared therefore."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Array
from lomix_search.data.manifest import ChannelScaling, Preparation
from lomix_search.data.preparation import check_spacing, flat_axis
from lomix_search.errors import DataError

_SAMPLES = 5000  # voxels of the foreground, a case and channel
_EMPTY = 0.25  # share of voxels that are 0 above which they are air that a scanner or a tool has cut away
_CT = ("ct", "hu", "computed tomography")


@dataclass(frozen=True)
class VolumeFacts:
    """What is known of one volume before any is prepared.

    Args:
        name: Of the case.
        path: Its image.
        shape: (slices, channels, rows, columns).
        spacing: Millimetres; empty where unknown.
        zeros: Share of its voxels that are 0.
        foreground: (channels, n) intensities at voxels of any label; empty of cases that do not count.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    zeros: float
    foreground: NDArray[np.float32]


def volume_facts(source: Source, layout: DatasetLayout) -> VolumeFacts:
    """Read a volume and note what is needed of it.

    Args:
        source: Its files.
        layout: What is known of them.

    Returns:
        The facts. Cases that the layout does not measure, or that the raw folder calls test, give no intensities:
        nothing is fitted to them.

    Raises:
        DataError: it cannot be read, or its spacing is not positive.
    """
    case, path = source.read(), str(source.files[0])
    check_spacing(case.spacing, path)
    counts = case.label > 0 if layout.ignore is None else (case.label > 0) & (case.label != layout.ignore)
    measured = source.group != "test" if layout.measured is None else source.name in layout.measured
    places = np.flatnonzero(counts) if measured else np.zeros(0, np.int64)
    if len(places) > _SAMPLES:
        places = np.random.default_rng(0).choice(places, _SAMPLES, replace=False)
    channels = range(case.image.shape[1])
    foreground = np.stack([np.ascontiguousarray(case.image[:, c]).ravel()[places] for c in channels])
    zeros = float(np.mean(case.image == 0))
    return VolumeFacts(case.name, path, case.image.shape, tuple(case.spacing), zeros, foreground.astype(np.float32))


def plan_slices(layout: DatasetLayout, size: int) -> Preparation:
    """Return how slices and pictures are prepared: each by itself.

    Args:
        layout: What is known of them.
        size: Rows and columns of the training form.

    Returns:
        The preparation.
    """
    alike = ChannelScaling(kind=layout.intensity, window=layout.window)
    apart = [
        ChannelScaling(kind="ct" if is_ct(m) else "mr", window=layout.window if is_ct(m) else None)
        for m in layout.modalities
    ]
    mixed = len(apart) > 1 and layout.intensity in ("ct", "mr")
    return Preparation(
        dims=2,
        size=size,
        modalities=layout.modalities,
        intensity=tuple(apart) if mixed else (alike,),
        preprocessed=layout.preprocessed,
    )


def plan_volumes(layout: DatasetLayout, facts: Sequence[VolumeFacts]) -> Preparation:
    """Return how volumes are prepared: spacing and intensities by what all of them have in common.

    Args:
        layout: What is known of them; its spacing, where it names one, is taken.
        facts: Of every volume.

    Returns:
        The preparation.

    Raises:
        DataError: no volumes, channels that differ, or some with a spacing and some without; the cases are named.
    """
    if not facts:
        raise DataError(
            f"prepare {layout.name}: there are no cases.",
            hint="lomix prepare BENCHMARK RAW OUT, where RAW is the folder that holds the files",
        )
    channels = _channels(layout, facts)
    known = {bool(f.spacing): f for f in facts}
    if len(known) > 1:
        raise DataError(
            f"prepare {layout.name}: some volumes have a spacing and some have none.",
            seen=[f"{known[True].path} has one", f"{known[False].path} has none"],
            hint="move one kind away",
        )
    spacing = layout.spacing or (target_spacing(facts) if facts[0].spacing else ())
    modalities = layout.modalities or ("",) * channels
    nonzero = float(np.median([f.zeros for f in facts])) > _EMPTY
    scalings = tuple(_scaling(layout, facts, channel, name, nonzero) for channel, name in enumerate(modalities))
    return Preparation(
        dims=3,
        spacing=spacing if facts[0].spacing else (),
        channels=channels,
        modalities=layout.modalities,
        intensity=scalings,
        preprocessed=layout.preprocessed,
    )


def target_spacing(facts: Sequence[VolumeFacts]) -> tuple[float, float, float]:
    """Return the median spacing; where planes lie far apart, that of the finest tenth between them, as nnU-Net does.

    Args:
        facts: Of every volume, with spacings.

    Returns:
        Millimetres between slices, rows and columns.
    """
    spacings = np.array([f.spacing for f in facts], float)
    shapes = np.array([(f.shape[0], *f.shape[2:]) for f in facts], float)
    target, sides = [float(s) for s in np.median(spacings, 0)], np.median(shapes, 0)
    apart = flat_axis(target)
    if apart is not None and 3 * sides[apart] < np.delete(sides, apart).min():
        target[apart] = max(float(np.percentile(spacings[:, apart], 10)), *np.delete(target, apart).tolist())
    return round(target[0], 6), round(target[1], 6), round(target[2], 6)


def is_ct(modality: str) -> bool:
    """Say whether a channel of this name holds Hounsfield units."""
    return modality.strip().lower() in _CT


def _channels(layout: DatasetLayout, facts: Sequence[VolumeFacts]) -> int:
    found = Counter(f.shape[1] for f in facts)
    usual = found.most_common(1)[0][0]
    wanted = len(layout.modalities) or usual
    odd = [f"{f.path}: {f.shape[1]}" for f in facts if f.shape[1] != wanted]
    if odd:
        raise DataError(
            f"prepare {layout.name}: {len(odd)} of {len(facts)} volumes have not the {wanted} channels of the others"
            + (f" ({', '.join(layout.modalities)})." if layout.modalities else "."),
            seen=odd[:8],
            hint="move them away, or give all images the same channels",
        )
    return wanted


def _scaling(
    layout: DatasetLayout, facts: Sequence[VolumeFacts], channel: int, modality: str, nonzero: bool
) -> ChannelScaling:
    """Choose how a channel is scaled: CT by the foreground of all, everything else by its own image."""
    if layout.preprocessed is not None:
        return ChannelScaling(kind="kept")
    if layout.intensity == "range" or (layout.intensity == "ct" and layout.window is not None):
        return ChannelScaling(kind=layout.intensity, window=layout.window)
    if not (is_ct(modality) if modality else layout.intensity == "ct"):
        return ChannelScaling(kind="zscore", nonzero=nonzero)
    values: Array = np.concatenate([f.foreground[channel] for f in facts])
    if values.size < 2 or np.ptp(values) == 0:
        raise DataError(
            f"prepare {layout.name}: no foreground to measure the intensities of a CT in.",
            seen=f"{values.size} voxels of any label in {len(facts)} volumes",
            hint="look at the labels: all of them are background",
        )
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    return ChannelScaling(
        kind="foreground", window=(round(low, 3), round(high, 3)), mean=round(mean, 3), std=round(max(std, 1e-3), 3)
    )
