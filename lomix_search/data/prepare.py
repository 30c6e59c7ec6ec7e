"""``lomix prepare``: raw files of any known form → one folder of plain arrays that training reads slice by slice.

    OUT/manifest.json            every case with sha256 of its files and of the files it was made from
    OUT/cases/NAME/image.npy     (slices, channels, rows, columns), canonical axes, native size
    OUT/cases/NAME/label.npy     (slices, rows, columns), raw label values
    OUT/cases/NAME/image_224.npy, label_224.npy   the same at the size that training sees
    OUT/cases/NAME/image_volume.npy, label_volume.npy   of volumes: the same at the spacing of training
    OUT/cases/NAME/foreground.npy   of volumes: where each label lies, for crops that are centred on it
    OUT/cases/NAME/case.json     the manifest's entry; written last, so that its presence means the case is whole

Volumes are float16 in 0 … 1 (steps of 0.2 HU over a CT window of 400 HU), pictures uint8. Arrays are memory-mapped when
read, so one random slice costs one small read.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.table import find_layout
from lomix_search.data.case import size_in_words
from lomix_search.data.manifest import Entry, Manifest, Preparation, case_name
from lomix_search.data.preparation import check_spacing
from lomix_search.data.prepare_case import prepare_case
from lomix_search.data.survey import VolumeFacts, plan_slices, plan_volumes, volume_facts
from lomix_search.errors import DataError, LomixError, MissingExtraError, list_faults
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import Terminal

_Made = TypeVar("_Made")


def prepare(
    benchmark: str,
    raw: str | Path,
    out: str | Path,
    *,
    size: int | None = None,
    spacing: Sequence[float] = (),
    label_names: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Prepare a benchmark. Run again after an interruption, it goes on where it stopped.

    Args:
        benchmark: A name of ``LAYOUTS``.
        raw: Folder of the raw files.
        out: Folder to write; may hold an earlier preparation of the same kind.
        size: Rows and columns of the training form; the benchmark's own when left out.
        spacing: Of volumes: millimetres between slices, rows and columns of the training form; when left out, the
            benchmark's own or the median.
        label_names: Names of the label values 1, 2, …, for preprocessed files that renumbered them.
        workers: Threads; as many as there are cores when left out.
        progress: Show a progress bar.

    Returns:
        The manifest, as written.

    Raises:
        DataError: files that are missing, unreadable or inconsistent, each one named; all other cases are prepared and
            kept. Nothing half-written is ever left.
    """
    layout = _at_spacing(find_layout(benchmark), spacing)
    return prepare_layout(
        layout, Path(raw), Path(out), size=size, label_names=label_names, workers=workers, progress=progress
    )


def _at_spacing(layout: DatasetLayout, spacing: Sequence[float]) -> DatasetLayout:
    if not spacing:
        return layout
    if layout.dims == 2:
        raise DataError(
            f"prepare {layout.name}: slices are brought to one size, not to a spacing.",
            seen=f"spacing {size_in_words(tuple(map(float, spacing)))} mm",
            hint="--size 224",
        )
    check_spacing(spacing, f"prepare {layout.name}")
    return replace(layout, spacing=(spacing[0], spacing[1], spacing[2]))


def prepare_layout(
    layout: DatasetLayout,
    raw: Path,
    out: Path,
    *,
    size: int | None = None,
    label_names: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Prepare files of any layout; see :func:`prepare`.

    Args:
        layout: What is known of the files.
        raw: Folder of the raw files.
        out: Folder to write.
        size: Rows and columns of the training form.
        label_names: Names of the label values 1, 2, …
        workers: Threads.
        progress: Show a progress bar.

    Returns:
        The manifest, as written.

    Raises:
        DataError: as :func:`prepare`.
    """
    sources = layout.find(raw)
    _check_names(sources)
    _remove_leftovers(out)
    (out / "manifest.json").unlink(missing_ok=True)  # what it says is about to change
    threads = (os.cpu_count() or 1) if workers is None else workers
    if size is not None and layout.dims == 3:
        raise DataError(
            f"prepare {layout.name}: volumes are brought to one spacing, not to a size.",
            seen=f"size {size}",
            hint="leave --size out; data.size of the recipe says how large the blocks of training are",
        )
    how = _planned(layout, sources, layout.size if size is None else size, threads, progress)

    def one(source: Source) -> Entry:
        return prepare_case(source, layout, raw, out / "cases", how)

    entries, faults = _in_parallel(one, sources, threads, f"prepare {layout.name}", progress)
    _raise(faults, layout, f"{len(faults)} of {len(sources)} cases failed; the other {len(entries)} are kept in {out}")
    entries.sort(key=lambda entry: entry.name)
    _check_channels(layout, entries)
    labels = _label_names(layout, entries, label_names)
    manifest = Manifest(
        version=1,
        benchmark=layout.name,
        size=how.size or 0,
        intensity=layout.intensity,
        labels=labels,
        cases=tuple(entries),
        dims=layout.dims,
        modalities=layout.modalities,
        ignore=layout.ignore,
        regions=dict(layout.regions),
        written=layout.written,
        prepared=how.model_copy(update={"channels": entries[0].shape[1] if entries else 0}),
        measured=_measured(layout, how, entries),
    )
    write_text(out / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _measured(layout: DatasetLayout, how: Preparation, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the cases that the one scaling of all images was measured in; none where nothing was measured."""
    if layout.measured is not None:
        return tuple(sorted(layout.measured)) if any(s.kind in ("foreground", "ct") for s in how.intensity) else ()
    found = any(scaling.kind == "foreground" for scaling in how.intensity)
    return tuple(entry.name for entry in entries if found and entry.group != "test")


def _planned(layout: DatasetLayout, sources: Sequence[Source], size: int, threads: int, progress: bool) -> Preparation:
    """Decide how images are prepared; for volumes every one is read, to know what all of them have in common."""
    if layout.dims == 2:
        return plan_slices(layout, size)

    def one(source: Source) -> VolumeFacts:
        return volume_facts(source, layout)

    facts, faults = _in_parallel(one, sources, threads, f"look at {layout.name}", progress)
    _raise(faults, layout, f"{len(faults)} of {len(sources)} cases cannot be read; nothing was prepared")
    return plan_volumes(layout, facts)


def _raise(faults: Sequence[str], layout: DatasetLayout, what: str) -> None:
    if faults:
        seen, hints = list_faults(faults)
        again = "mend or remove these files and run the same command again; it goes on from there"
        raise DataError(f"prepare {layout.name}: {what}.", seen=seen, hint=[again, *hints])


def _check_channels(layout: DatasetLayout, entries: Sequence[Entry]) -> None:
    """Refuse cases of several numbers of channels, which no network takes."""
    found = Counter(entry.shape[1] for entry in entries)
    if len(found) > 1:
        usual = found.most_common(1)[0][0]
        odd = [f"{e.name}: {e.shape[1]} ({next(iter(e.sources))})" for e in entries if e.shape[1] != usual]
        raise DataError(
            f"prepare {layout.name}: {len(odd)} of {len(entries)} cases have other channels than the rest ({usual}).",
            seen=odd[:8],
            hint="move them away, or give all images the same channels",
        )


# -- all cases ---------------------------------------------------------------------------------------------------------


def _in_parallel(
    work: Callable[[Source], _Made], sources: Iterable[Source], workers: int, title: str, progress: bool
) -> tuple[list[_Made], list[str]]:
    """Do all cases in threads (reading, unzipping and resampling leave the interpreter free); collect every fault."""
    entries: list[_Made] = []
    sources, faults = list(sources), []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=Terminal(stderr=True), disable=not progress)
    with shown as bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task(title, total=len(sources))
        futures = {pool.submit(work, source): source for source in sources}
        try:
            for future in as_completed(futures):
                try:
                    entries.append(future.result())
                except MissingExtraError:
                    raise
                except Exception as error:  # whatever one case does, the others are prepared and kept
                    faults.append(_fault(futures[future], error))
                bar.advance(task)
        except BaseException:  # Ctrl-C, a missing extra: do not begin what has not begun
            pool.shutdown(cancel_futures=True)
            raise
    return entries, sorted(faults)


def _fault(source: Source, error: Exception) -> str:
    if isinstance(error, LomixError):
        return str(error)
    files = ", ".join(map(str, source.files[:2])) + ", …" * (len(source.files) > 2)
    return f"{source.name} ({files}) cannot be prepared.\n  Seen: {type(error).__name__}: {error}"


def _check_names(sources: Sequence[Source]) -> None:
    """Every case has a folder of its own, inside the one that is written."""
    names, faults = {source.name for source in sources}, []
    for name in sorted(names):
        try:
            case_name(name)
        except ValueError as error:
            faults.append(str(error))
        faults += [f"{name!r} would lie inside {up!r}" for up in map(str, PurePosixPath(name).parents) if up in names]
    if len(names) < len(sources):
        faults += [f"{name!r} is there twice" for name, n in Counter(s.name for s in sources).items() if n > 1]
    if faults:
        raise DataError("cases cannot be told apart by their names.", seen=faults[:8], hint="rename these files")


def _label_names(layout: DatasetLayout, entries: Sequence[Entry], given: Sequence[str]) -> dict[int, str]:
    highest = max((value for entry in entries for value in entry.labels), default=0)
    if given:
        if highest > len(given):
            raise DataError(
                f"{len(given)} label names, but labels go to {highest}.",
                seen=", ".join(given),
                hint="--labels with a name for each of the labels 1, 2, …",
            )
        if twice := sorted({name for name in given if name == "background" or list(given).count(name) > 1}):
            raise DataError(
                f"label name {', '.join(map(repr, twice))} is taken.",
                seen=", ".join(given),
                hint="--labels with a name of its own for each label",
            )
        return dict(enumerate(given, 1))
    preprocessed = any(Path(name).suffix in (".npz", ".h5") for entry in entries for name in entry.sources)
    if preprocessed and layout.short_form and highest <= len(layout.short_form):
        raise DataError(
            f"{layout.name}: no label above {highest} in any case; these files number their organs anew, and several "
            "orders are in use.",
            seen="the cases are prepared; only the names of their labels are missing",
            hint=[
                "name 1, 2, … in the order of your files, e.g. (the liver has the most pixels, the gallbladder fewest)",
                f'--labels "{",".join(layout.short_form)}"',
            ],
        )
    return dict(layout.labels)


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed run left unfinished."""
    for path in (out / "cases").glob(".unfinished.*"):
        shutil.rmtree(path, ignore_errors=True)
