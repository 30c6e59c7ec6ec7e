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
from lomix_search.data.case import Array, Case
from lomix_search.data.intensities import scale_intensities
from lomix_search.data.manifest import READERS, Entry, sha256
from lomix_search.data.readers.guard import readable
from lomix_search.data.resizing import RULE, resize_images, resize_labels
from lomix_search.errors import DataError
from lomix_search.utils.files import write_text


def prepare_case(source: Source, layout: DatasetLayout, raw: Path, cases: Path, size: int) -> Entry:
    """Prepare one case into a folder that appears whole or not at all. One that is there already, and whole, is kept.

    Args:
        source: Its files.
        layout: What is known of them.
        raw: The folder that its files are named relative to.
        cases: The folder that its own is written to.
        size: Rows and columns of the training form.

    Returns:
        Its entry of the manifest.

    Raises:
        DataError: a file that is unreadable or inconsistent, a label that the layout does not know, or a full disk.
    """
    made_from = _made_from(source, layout, raw)
    if (known := _finished(cases / source.name, made_from, size)) is not None:
        return known
    case = source.read()
    _check_labels(case, layout, source.files[-1])
    arrays = _arrays(case, layout, source.files[0], size)
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


def _made_from(source: Source, layout: DatasetLayout, raw: Path) -> dict[str, Any]:
    """Return what a prepared case depends on, as its entry says it; where any of it differs, the case is made again."""
    return {
        "patient": source.patient,
        "group": source.group,
        "sources": {_relative(path, raw): _hash(path) for path in source.files},
        "scaling": f"{layout.intensity} {layout.window}" if layout.window else layout.intensity,
        "reading": f"{READERS} {source.reading}".rstrip(),
        "resize": RULE,
    }


def _arrays(case: Case, layout: DatasetLayout, path: Path, size: int) -> dict[str, Array]:
    """Return image and label at native size and at that of training, by the names of their files."""
    scaled = scale_intensities(case.image, layout.intensity, path, layout.window)
    image = resize_images(scaled, (size, size), picture=layout.intensity in ("picture", "range"))
    label = resize_labels(case.label, (size, size))
    return {"image": scaled, "label": case.label, f"image_{size}": image, f"label_{size}": label}


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
    unknown = sorted(set(_counts(case.label)) - {0, *layout.labels})
    if layout.labels and unknown:
        raise DataError(
            f"{path}: unknown label {', '.join(map(str, unknown[:8]))}.",
            seen=f"{layout.name} has 0 background, " + ", ".join(f"{v} {name}" for v, name in layout.labels.items()),
        )


def _finished(folder: Path, made_from: Mapping[str, Any], size: int) -> Entry | None:
    """Return the entry of a case that was prepared from the same files in the same way, and is whole to the bit."""
    path = folder / "case.json"
    try:
        entry = Entry.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # none, or damaged: it is made again
        return None
    if any(getattr(entry, key) != value for key, value in made_from.items()) or f"image_{size}.npy" not in entry.files:
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
