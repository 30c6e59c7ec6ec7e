"""The mixture's state beside nnU-Net's checkpoint: ``checkpoint_best.lomix.pt`` beside ``checkpoint_best.pth``.

nnU-Net's file stays what nnU-Net writes. Two files cannot be written at one moment, so ours is written first and holds
the state of two epochs, of which the one that the checkpoint is of is taken.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from lomix_search.utils.files import write_bytes


def state_file(checkpoint: str) -> Path:
    """Return the file that goes with a checkpoint of nnU-Net's."""
    return Path(checkpoint).with_suffix(".lomix.pt")


def write_state(checkpoint: str, epoch: int, state: dict[str, Any]) -> None:
    """Write the state that goes with a checkpoint which is about to be written.

    Args:
        checkpoint: The file of the checkpoint.
        epoch: That the checkpoint will say.
        state: Tensors and plain values.
    """
    before = read_states(checkpoint)
    earlier = {e: before[e] for e in sorted(before, reverse=True) if e != epoch}
    kept = dict(list(earlier.items())[:1]) | {epoch: state}
    packed = io.BytesIO()
    torch.save({"format": "lomix-nnunet", "version": 1, "epochs": kept}, packed)
    write_bytes(state_file(checkpoint), packed.getvalue())


def read_states(checkpoint: str, device: torch.device | str = "cpu") -> dict[int, dict[str, Any]]:
    """Read the states that go with a checkpoint; nothing in the file is executed.

    Args:
        checkpoint: The file of the checkpoint.
        device: Where tensors go.

    Returns:
        A state for each epoch; none where there is no such file, or it is damaged.
    """
    path = state_file(checkpoint)
    if not path.is_file():
        return {}
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError):
        return {}
    known = isinstance(content, dict) and content.get("format") == "lomix-nnunet"
    states: dict[int, dict[str, Any]] = content["epochs"] if known else {}
    return states
