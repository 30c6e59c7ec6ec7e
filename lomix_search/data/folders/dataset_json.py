"""``dataset.json``, as nnU-Net (both versions) and the Medical Segmentation Decathlon have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lomix_search.data.readers.guard import readable
from lomix_search.data.regions import faults_of_order
from lomix_search.errors import DataError
from lomix_search.utils.files import read_json

_IGNORE = "ignore"  # nnU-Net's name of the label that counts nowhere
_BACKGROUND = ("background", "bg", "clear label")


@dataclass(frozen=True)
class DatasetJson:
    """What a ``dataset.json`` says.

    Args:
        path: The file.
        modalities: Names of the channels, in order.
        labels: Names of the label values beside the background.
        ignore: Label value that counts nowhere.
        regions: Names of overlapping regions, each with its label values; empty where each label is a class.
        written: The label value that each region is written as, ``regions_class_order``; empty where it is not said.
        training: (image, label) of each case, where the file lists them.
        second: nnU-Net's second form, which names ``channel_names``.
    """

    path: Path
    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    ignore: int | None
    regions: Mapping[str, tuple[int, ...]]
    written: tuple[int, ...]
    training: tuple[tuple[Path, Path], ...]
    second: bool


def read_dataset_json(path: Path) -> DatasetJson:
    """Read a ``dataset.json``.

    Args:
        path: The file.

    Returns:
        What it says.

    Raises:
        DataError: it is no JSON, or its labels or channels make no sense; all faults are told.
    """
    with readable(path):
        content: Any = read_json(path, DataError)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise DataError(
            f"{path} names no labels.", hint='"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}'
        )
    faults: list[str] = []
    values = _values(content["labels"], faults)
    ignore = next((v[0] for name, v in values.items() if name.lower() == _IGNORE), None)
    named = {n: v for n, v in values.items() if n.lower() not in (_IGNORE, *_BACKGROUND) and v != (0,)}
    overlap = any(len(v) > 1 for v in named.values())
    written = _written(named, content.get("regions_class_order"), faults) if overlap else ()
    faults += _contradictions(named, ignore)
    names = content.get("channel_names", content.get("modality", {}))
    modalities = _in_order(names, faults)
    training = _training(path.parent, content.get("training"), faults)
    if faults:
        raise DataError(
            f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)}.",
            seen=faults,
            hint=f"mend {path.name}, and run the same command again",
        )
    labels = _label_names(named) if overlap else {v[0]: name for name, v in named.items()}
    regions = {name: v for name, v in named.items()} if overlap else {}
    return DatasetJson(path, modalities, labels, ignore, regions, written, training, "channel_names" in content)


def _written(named: Mapping[str, tuple[int, ...]], order: Any, faults: list[str]) -> tuple[int, ...]:
    """Return the value that each region is written as, in the order of the regions."""
    if order is None:
        return ()
    if not isinstance(order, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in order):
        faults.append(f"regions_class_order is {order!r}; need a list with a label value for each region")
        return ()
    faults += [f"regions_class_order {order}: {fault}" for fault in faults_of_order(named, order)]
    return tuple(order)


def _values(labels: Mapping[str, Any], faults: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the label values of each name; the first versions have it the other way round."""
    found: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items():
        if isinstance(value, str):
            key, value = value, int(key) if key.lstrip("-").isdigit() else key
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            faults.append(f"label {key!r} is {value!r}; need a whole number from 0 up, or several in a list")
        elif key in found:
            faults.append(f"label {key!r} is there twice")
        else:
            found[key] = tuple(values)
    return found


def _contradictions(named: Mapping[str, tuple[int, ...]], ignore: int | None) -> list[str]:
    """Return what labels, regions and the ignored value say against each other."""
    faults = [] if named else ["no label beside the background"]
    overlap = any(len(values) > 1 for values in named.values())
    known = {v for values in named.values() for v in values}
    if ignore is not None and ignore in known:
        faults.append(
            f"label {ignore} is ignored, and belongs to {', '.join(n for n, v in named.items() if ignore in v)}"
        )
    if not overlap and len(known) < len(named):
        twice = sorted({v[0] for v in named.values() if [o[0] for o in named.values()].count(v[0]) > 1})
        faults.append(f"label {', '.join(map(str, twice))} has two names")
    faults += [f"region {name!r} has label 0, the background" for name, v in named.items() if 0 in v]
    return faults


def _label_names(regions: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Name the label values of regions: by the region that has no other, else by their number."""
    alone = {values[0]: name for name, values in regions.items() if len(values) == 1}
    return {v: alone.get(v, f"label {v}") for v in sorted({v for values in regions.values() for v in values})}


def _in_order(names: Any, faults: list[str]) -> tuple[str, ...]:
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))):
        faults.append(f'channels must be named "0", "1", …; seen {names!r}')
        return ()
    return tuple(str(names[str(number)]) for number in range(len(names)))


def _training(root: Path, listed: Any, faults: list[str]) -> tuple[tuple[Path, Path], ...]:
    """Return the listed files, none of which may lie outside the folder."""
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        return ()
    found = []
    for entry in listed:
        parts = [entry.get("image"), entry.get("label")] if isinstance(entry, dict) else []
        paths = [root / part for part in parts if isinstance(part, str)]
        if len(paths) != 2:
            faults.append(f"training has {entry!r}; need an image and a label")
        elif outside := [p for p in paths if not p.resolve().is_relative_to(root.resolve())]:
            faults.append(f"training has {outside[0]}, which lies outside {root}")
        else:
            found.append((paths[0], paths[1]))
    return tuple(found)
