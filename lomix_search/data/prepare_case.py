"""One raw case → one folder of arrays, which appears whole or not at all."""

import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Array, Case, size_in_words
from lomix_search.data.manifest import READERS, ChannelScaling, Entry, Preparation, sha256
from lomix_search.data.patches import foreground_voxels
from lomix_search.data.preparation import prepare_image
from lomix_search.data.readers.guard import readable
from lomix_search.data.resizing import RULE, resize_labels
from lomix_search.errors import DataError
from lomix_search.utils.files import write_text


def prepare_case(source: Source, layout: DatasetLayout, raw: Path, cases: Path, how: Preparation) -> Entry:
    """Prepare one case into a folder that appears whole or not at all. One that is there already, and whole, is kept.

    Args:
        source: Its files.
        layout: What is known of them.
        raw: The folder that its files are named relative to.
        cases: The folder that its own is written to.
        how: How its image is prepared.

    Returns:
        Its entry of the manifest.

    Raises:
        DataError: a file that is unreadable or inconsistent, a label that the layout does not know, or a full disk.
    """
    made_from = _made_from(source, layout, raw, how)
    if (known := _finished(cases / source.name, made_from, form_of(how))) is not None:
        return known
    case = source.read()
    _check_labels(case, layout, source.files[-1])
    arrays = _arrays(case, source.files[0], how)
    with _appearing(cases / source.name, cases) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        entry = Entry(
            name=source.name,
            shape=arrays["image"].shape,
            spacing=case.spacing,
            origin=dict(case.origin),
            labels=_counts(case.label),
            files={f"{name}.npy": sha256(folder / f"{name}.npy") for name in arrays},
            **made_from,
        )
        write_text(folder / "case.json", entry.model_dump_json(indent=1) + "\n")
    return entry


def form_of(how: Preparation) -> str:
    """Return what the files of the training form are called by: ``image_224.npy``, ``image_volume.npy``."""
    return "volume" if how.dims == 3 else str(how.size)


def _made_from(source: Source, layout: DatasetLayout, raw: Path, how: Preparation) -> dict[str, Any]:
    """Return what a prepared case depends on, as its entry says it; where any of it differs, the case is made again."""
    return {
        "patient": source.patient,
        "group": source.group,
        "sources": {_relative(path, raw): _hash(path) for path in source.files},
        "scaling": "; ".join(map(_scaling, how.intensity)),
        "reading": f"{READERS} {source.reading}".rstrip(),
        "resize": f"{RULE} {size_in_words(how.spacing)} mm" if how.spacing else RULE,
    }


def _scaling(of: ChannelScaling) -> str:
    """Say how a channel is scaled, as folders of earlier versions say it too."""
    more = f" mean {of.mean} std {of.std}" if of.kind == "foreground" else " beside 0" * of.nonzero
    return f"{of.kind} {of.window}{more}" if of.window else f"{of.kind}{more}"


def _arrays(case: Case, path: Path, how: Preparation) -> dict[str, Array]:
    """Return image and label at native size and in the form of training, by the names of their files."""
    made, form = prepare_image(case.image, case.spacing, how, path), form_of(how)
    if how.dims == 2:
        small = resize_labels(case.label, made.small.shape[2:])
        return {"image": made.native, "label": case.label, f"image_{form}": made.small, f"label_{form}": small}
    small = resize_labels(case.label, (made.small.shape[0], *made.small.shape[2:]))
    return {
        "image": made.native,
        "label": case.label,
        f"image_{form}": made.small,
        f"label_{form}": small,
        "foreground": foreground_voxels(small),
    }


@contextmanager
def _appearing(folder: Path, near: Path) -> Iterator[Path]:
    """Give a temporary folder that takes its name when all went well, and vanishes when not."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unfinished.", dir=near))
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)  # an outdated one
        temporary.chmod(0o755)
        temporary.replace(folder)
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT) or "requested and" in str(cause):  # as numpy says it
            raise _full(near) from None
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_labels(case: Case, layout: DatasetLayout, path: Path) -> None:
    of_regions = {value for values in layout.regions.values() for value in values}
    unknown = sorted(set(_counts(case.label)) - {0, layout.ignore, *layout.labels, *of_regions})
    if layout.labels and unknown:
        raise DataError(
            f"{path}: unknown label {', '.join(map(str, unknown[:8]))}.",
            seen=f"{layout.name} has 0 background, " + ", ".join(f"{v} {name}" for v, name in layout.labels.items()),
            hint="--labels NAME,NAME,…   # where labels were renumbered to 1, 2, …",
        )


def _finished(folder: Path, made_from: Mapping[str, Any], form: str) -> Entry | None:
    """Return the entry of a case that was prepared from the same files in the same way, and is whole to the bit."""
    path = folder / "case.json"
    try:
        entry = Entry.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # none, or damaged: it is made again
        return None
    if any(getattr(entry, key) != value for key, value in made_from.items()) or f"image_{form}.npy" not in entry.files:
        return None
    whole = all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in entry.files.items())
    return entry if whole else None


def _counts(label: Array) -> dict[int, int]:
    if label.max(initial=0) > 1 << 16:  # a table of counts would be mostly empty
        values, counts = np.unique(label, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    counts = np.bincount(label.ravel(), minlength=1)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _hash(path: Path) -> str:
    with readable(path):
        return sha256(path)


def _relative(path: Path, raw: Path) -> str:
    return path.relative_to(raw).as_posix() if path.is_relative_to(raw) else str(path)


def _full(folder: Path) -> DataError:
    free = shutil.disk_usage(folder).free
    return DataError(
        f"the disk of {folder} is full.",
        seen=f"{free / 2**30:.1f} GiB free",
        hint="free some space and run the same command again; it goes on where it stopped",
    )
