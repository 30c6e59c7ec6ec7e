"""The tracker for Weights & Biases: nothing leaves this machine unasked."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lomix_search.errors import require
from lomix_search.training.trackers.tracker import Values, flattened
from lomix_search.utils.files import write_text


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
            settings=_private(wandb),
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


def _private(wandb: Any) -> Any:
    """Return settings by which nothing about this machine goes out unasked.

    No host name, code, git remote, console output or system metrics are sent.
    """
    return wandb.Settings(
        host="undisclosed",
        disable_code=True,
        disable_git=True,
        x_save_requirements=False,
        x_disable_machine_info=True,
        x_disable_stats=True,
        console="off",
        silent=True,
    )
