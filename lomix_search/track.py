"""Trackers: where the numbers of a run go. JSON lines always, wandb when asked; none of them can stop a training."""

import json
import math
import os
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lomix_search.errors import require
from lomix_search.typed import write_text

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

    Args:
        path: The file. Lines of steps after ``step`` are dropped, so that a resumed run leaves no trace twice.
        step: The step the run starts from.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, values: Values) -> None:
        """Append a line; it is on disk (in the system's cache) when this returns."""
        self._file.write(json.dumps({"step": step} | {key: _finite(value) for key, value in values.items()}) + "\n")
        self._file.flush()

    def files(self, paths: Sequence[Path]) -> None:
        """Do nothing: the files are in the run folder already."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Wandb:
    """A Weights & Biases run: offline unless asked otherwise; ``wandb sync`` uploads an offline run later.

    Args:
        folder: The run folder; wandb's files go to ``folder/wandb``, and a resumed run continues the same wandb run.
        project: wandb's project.
        config: The resolved recipe.
        online: Send to wandb's servers while running.
        group: wandb's group, e.g. the study a trial belongs to.
    """

    def __init__(
        self,
        folder: Path,
        project: str = "lomix",
        config: Mapping[str, Any] | None = None,
        online: bool = False,
        group: str | None = None,
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
        self._wandb = wandb
        self._run = wandb.init(
            project=project,
            id=id_file.read_text().strip(),
            resume="allow" if online else None,
            name=folder.name,
            group=group,
            dir=folder,
            config=dict(config or {}),
            mode="online" if online else "offline",
            settings=private,
        )

    def log(self, step: int, values: Values) -> None:
        """Log scalars and texts; a vector such as the map weights goes out as one entry a component."""
        flat: dict[str, float | str] = {}
        for key, value in values.items():
            if isinstance(value, str | float | int):
                flat[key] = value
            else:
                flat |= {f"{key}/{i}": part for i, part in enumerate(value)}
        self._run.log(flat, step=step)

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


class Trackers:
    """Several trackers as one. A tracker that fails is dropped with a warning; the training goes on.

    Args:
        trackers: The trackers; the order is kept.
    """

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)

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
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                warnings.warn(f"tracker {name} failed in {method} and is dropped: {error!r}", stacklevel=3)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``; a last line that a crash cut off is passed over.

    Args:
        path: The file; may be missing.

    Returns:
        One dictionary a line, each with ``step``.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    whole = []
    for line in lines:
        try:
            whole.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return whole


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int) or value is None:
        return value
    return [_finite(float(part)) for part in value]  # type: ignore[attr-defined]
