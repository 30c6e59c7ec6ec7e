"""The tracker for TensorBoard: event files in the run folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.errors import RunError, require
from lomix_search.training.trackers.tracker import Values, flattened
from lomix_search.utils.files import read_json


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
                self._writer.add_text(path.stem, _indented(read_json(path, RunError)), self._step)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()


def _indented(value: object) -> str:
    """Return JSON that Markdown shows as it is."""
    return "".join(f"    {line}\n" for line in json.dumps(value, indent=2).splitlines())
