"""Checkpoints of a run: written atomically, the last two kept, read back without executing anything."""

import io
import pickle
import random
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lomix_search.errors import RunError
from lomix_search.typed import write_bytes

State = dict[str, Any]
_KEEP = 2


def save_checkpoint(folder: Path, step: int, state: State) -> Path:
    """Write ``step_<number>.pt`` and remove all but the last two.

    Args:
        folder: The run's checkpoint folder; made when missing.
        step: Steps taken so far.
        state: Tensors, numbers, texts and containers of these.

    Returns:
        The file written.
    """
    path = folder / f"step_{step:08d}.pt"
    write_tensors(path, state)
    for old in sorted(folder.glob("step_*.pt"))[:-_KEEP]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> State | None:
    """Read the newest checkpoint that is whole.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        Its state, or None where there is no checkpoint at all. A damaged one is passed over with a warning.

    Raises:
        RunError: there are checkpoints and all are damaged.
    """
    paths = sorted(folder.glob("step_*.pt"), reverse=True)
    faults = []
    for path in paths:
        try:
            return read_tensors(path)
        except RunError as fault:
            faults.append(str(fault))
            warnings.warn(f"{fault}\n  The checkpoint before it is used, if there is one.", stacklevel=2)
    if faults:
        raise RunError(f"{folder} holds no usable checkpoint.", seen=faults, hint="start again in another folder")
    return None


def write_tensors(path: Path, state: State) -> None:
    """Write a nested state atomically; ``read_tensors`` reads it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def read_tensors(path: Path) -> State:
    """Read what ``write_tensors`` wrote, onto the CPU; only tensors and plain values are accepted.

    Args:
        path: The file.

    Returns:
        The state.

    Raises:
        RunError: the file is missing, truncated, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as cause:
        first = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise RunError(f"{path} is damaged or no checkpoint.", seen=first) from None
    if not isinstance(state, dict):
        raise RunError(f"{path} is no checkpoint.", seen=f"a {type(state).__name__}")
    return state


def random_state() -> State:
    """Return the state of every global random number generator, as plain values and tensors."""
    kind, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state())
    version, internal, next_gauss = random.getstate()
    return {
        "python": [version, list(internal), next_gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: State) -> None:
    """Bring every global random number generator back to a state of ``random_state``."""
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(state["cuda"])
