"""Trackers: where the numbers of a run go. JSON lines always, others when asked; none can stop a training."""

import contextlib
import io
import json
import math
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from lomix_search.errors import MissingExtraError, require
from lomix_search.utils.schema import write_text

_OURS = ("train/", "val/", "mixture/", "lookahead/")
_TEXTS = ("mixture/warning", "train/skipped", "lookahead/method")  # of these, the keys that hold texts
_PATIENCE = 3  # failures in a row

Values = Mapping[str, float | int | str | Sequence[float]]


class Tracker(Protocol):
    """Takes the numbers of a run."""

    def log(self, step: int, values: Values) -> None:
        """Record values of one step; steps never fall."""

    def files(self, paths: Sequence[Path]) -> None:
        """Record finished files (mixture, pictures) of the run."""

    def close(self) -> None:
        """Write out what is pending."""


class JsonLines:
    """One JSON object a line in ``metrics.jsonl``; NaN and infinities are written as null.

    A write that fails (disk full, a share that is away) costs no line: what was written of it is cut off again, and it
    is kept and tried again with the next one.

    Args:
        path: The file. Lines of steps after ``step`` are dropped, so that a resumed run leaves no trace twice.
        step: The step the run starts from.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)  # of the last whole line
        self._waiting: list[bytes] = []
        self._told = False

    def log(self, step: int, values: Values) -> None:
        """Append a line; it is on disk (in the system's cache) when this returns, or tried again with the next one."""
        line = json.dumps({"step": step} | {key: _finite(value) for key, value in values.items()}) + "\n"
        self._waiting.append(line.encode())
        if (error := self._write()) is None:
            self._told = False
        elif not self._told:
            self._told = True
            self._warn(f"the line of step {step} could not be written ({error}); it is kept, and tried with the next")

    def files(self, paths: Sequence[Path]) -> None:
        """Do nothing: the files are in the run folder already."""

    def close(self) -> None:
        """Write what still waits, and close the file."""
        if (error := self._write()) is not None:
            self._warn(f"the last {len(self._waiting)} lines could not be written ({error}) and are lost")
        self._file.close()

    def _write(self) -> str | None:
        """Write all that waits; return why that failed, if it did."""
        content = b"".join(self._waiting)
        try:
            _write_whole(self._file, content)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)  # a torn line would swallow the one after it
            return error.strerror or str(error)
        self._end += len(content)
        self._waiting.clear()
        return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self._file.name}: {what}.", stacklevel=4)


def _write_whole(file: io.FileIO, content: bytes) -> None:
    """Write all of it: an unbuffered file may take only a part."""
    while content:
        content = content[file.write(content) or 0 :]


class Wandb:
    """A Weights & Biases run: offline unless asked otherwise; ``wandb sync`` uploads an offline run later.

    A resumed run continues the same wandb run. Offline wandb cannot add to what it wrote before, so every start writes
    a part of its own under ``folder/wandb``; all parts carry one id, by which ``wandb sync`` knows them as one run.

    Args:
        folder: The run folder; wandb's files go to ``folder/wandb``.
        project: wandb's project.
        config: What may be known of the settings; see :func:`lomix_search.experiments.tracking.public_settings`.
        online: Send to wandb's servers while running.
        group: wandb's group, e.g. the study a trial belongs to.
        maps: Ids of the maps: vectors with one value a map get these names instead of numbers.
        name: What the run is called there; wandb makes one up when left out.
    """

    def __init__(
        self,
        folder: Path,
        project: str = "lomix",
        config: Mapping[str, Any] | None = None,
        online: bool = False,
        group: str | None = None,
        maps: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        wandb = require("wandb", "wandb")
        id_file = folder / "wandb_id"
        if not id_file.exists():
            write_text(id_file, f"{secrets.token_hex(4)}\n")
        # Nothing about this machine goes out unasked: no host name, code, git remote, console or system metrics.
        private = wandb.Settings(
            host="undisclosed",
            disable_code=True,
            disable_git=True,
            x_save_requirements=False,
            x_disable_machine_info=True,
            x_disable_stats=True,
            console="off",
            silent=True,
        )
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb, self._maps = wandb, maps
        self._run = wandb.init(
            project=project,
            id=id_file.read_text().strip(),
            resume="allow" if online else None,
            name=name,
            group=group,
            dir=folder,
            config=dict(config or {}),
            mode="online" if online else "offline",
            settings=private,
        )

    def log(self, step: int, values: Values) -> None:
        """Log scalars and texts; a vector such as the map weights goes out as one history a component."""
        self._run.log(flattened(values, self._maps), step=step)

    def files(self, paths: Sequence[Path]) -> None:
        """Log pictures as images and other files as one artifact."""
        pictures = {path.stem: self._wandb.Image(str(path)) for path in paths if path.suffix == ".png"}
        if pictures:
            self._run.log(pictures)
        others = [path for path in paths if path.suffix != ".png"]
        if others:
            artifact = self._wandb.Artifact("mixture", type="mixture")
            for path in others:
                artifact.add_file(str(path))
            self._run.log_artifact(artifact)

    def close(self) -> None:
        """Finish the run's files."""
        self._run.finish()


class TensorBoard:
    """TensorBoard event files in ``folder/tensorboard``; ``tensorboard --logdir runs`` shows all runs.

    Args:
        folder: The run folder.
        config: What may be known of the settings; shown as text.
        step: The step the run starts from; events after it, of a part that was cut off, are hidden.
        maps: Ids of the maps: vectors with one value a map get these names instead of numbers.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any] | None = None, step: int = 0, maps: Sequence[str] = ()
    ) -> None:
        require("tensorboard", "tensorboard")
        writers = require("torch.utils.tensorboard", "tensorboard")
        self._maps, self._step = maps, step
        self._writer = writers.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        if config:
            self._writer.add_text("settings", _indented(config), step)

    def log(self, step: int, values: Values) -> None:
        """Log scalars and texts; a vector such as the map weights goes out as one curve a component."""
        self._step = step
        for key, value in flattened(values, self._maps).items():
            if isinstance(value, str):
                self._writer.add_text(key, value, step)
            else:
                self._writer.add_scalar(key, value, step)

    def files(self, paths: Sequence[Path]) -> None:
        """Log pictures as images and JSON files as text."""
        for path in paths:
            if path.suffix == ".png":
                with require("PIL.Image", "data").open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._writer.add_image(path.stem, pixels, self._step, dataformats="HWC")
            elif path.suffix == ".json":
                self._writer.add_text(path.stem, _indented(json.loads(path.read_text(encoding="utf-8"))), self._step)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()


class KeptOpen:
    """Passes everything on but ``close``: for a loop that closes what it logs to while there is more to come.

    Args:
        tracker: Who gets it.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.log, self.files = tracker.log, tracker.files

    def close(self) -> None:
        """Do nothing."""


def opened(makers: Mapping[str, Callable[[], Tracker]]) -> list[Tracker]:
    """Start trackers; one that cannot start is left out with a warning.

    Args:
        makers: What starts each, by its name.

    Returns:
        Those that started.

    Raises:
        MissingExtraError: one is not installed, which is better said before the training than after.
    """
    started = []
    for name, make in makers.items():
        try:
            started.append(make())
        except MissingExtraError:
            raise
        except Exception as error:  # no network, no login: the training is worth more
            warnings.warn(f"tracker {name} could not start and is left out: {error!r}", stacklevel=2)
    return started


class Trackers:
    """Several trackers as one. One that fails is told of, and dropped when it fails three times in a row.

    Args:
        trackers: The trackers; the order is kept.
    """

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)
        self._failures: dict[int, int] = {}  # in a row, by the tracker's id

    def log(self, step: int, values: Values) -> None:
        """Pass values on to each tracker."""
        self._each("log", step, values)

    def files(self, paths: Sequence[Path]) -> None:
        """Pass files on to each tracker."""
        self._each("files", paths)

    def close(self) -> None:
        """Close each tracker."""
        self._each("close")

    def __enter__(self) -> Self:
        """Return the trackers; they are closed on leaving, also after an error."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close each tracker."""
        self.close()

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # whatever a tracking service throws must not cost a training
                self._failed(tracker, method, error)
            else:
                self._failures.pop(id(tracker), None)

    def _failed(self, tracker: Tracker, method: str, error: Exception) -> None:
        count = self._failures[id(tracker)] = self._failures.get(id(tracker), 0) + 1
        if count >= _PATIENCE:
            self._trackers.remove(tracker)
        what = "is dropped" if count >= _PATIENCE else f"is tried again ({count} of {_PATIENCE} failures in a row)"
        name = getattr(tracker, "name", type(tracker).__name__)
        warnings.warn(f"tracker {name} failed in {method} and {what}: {error!r}", stacklevel=4)


def flattened(values: Values, maps: Sequence[str] = ()) -> dict[str, float | str]:
    """Spread vectors over one entry a component.

    Args:
        values: As logged.
        maps: Ids of the maps; components of vectors of that length are named by them, others by number.

    Returns:
        Scalars and texts by name, e.g. ``mixture/weights/add(1,3)``.
    """
    flat: dict[str, float | str] = {}
    for key, value in values.items():
        if isinstance(value, str | float | int):
            flat[key] = value
        else:
            names = maps if len(maps) == len(value) else range(len(value))
            flat |= {f"{key}/{name}": part for name, part in zip(names, value, strict=True)}
    return flat


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``; a line that is none, as a crash or a bad disk leaves it, is passed over.

    Args:
        path: The file; may be missing.

    Returns:
        One dictionary a line, as :func:`read_line` returns it.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [found for line in lines if (found := read_line(line)) is not None]


def read_line(line: bytes) -> dict[str, Any] | None:
    """Read one line of a ``metrics.jsonl``.

    Args:
        line: As it stands in the file.

    Returns:
        ``step``, a whole number from 0 on, and values: finite numbers, lists of them, None where one was not finite,
        and texts where the library logs texts. What is of another kind is left out. None if the line is torn, no JSON
        object or without a step.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    step = content.get("step") if isinstance(content, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
        return None
    return {"step": step} | {key: value for key, value in content.items() if _logged(key, value)}


def _logged(key: str, value: object) -> bool:
    """Say whether a value is of a kind that :class:`JsonLines` writes under a key."""
    if isinstance(value, list):
        return all(part is None or _is_number(part) for part in value)
    if isinstance(value, str):
        return key in _TEXTS or not key.startswith(_OURS)
    return key != "step" and (value is None or _is_number(value))


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _indented(value: object) -> str:
    """Return JSON that Markdown shows as it is."""
    return "".join(f"    {line}\n" for line in json.dumps(value, indent=2).splitlines())


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int) or value is None:
        return value
    return [_finite(float(part)) for part in value]  # type: ignore[attr-defined]
