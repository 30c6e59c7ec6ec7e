"""Checkpoints of a run: written atomically with a checksum, the last two kept, read without executing anything."""

import hashlib
import io
import random
import re
import struct
import warnings
import zipfile
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lomix_search.errors import RunError
from lomix_search.utils.files import write_bytes

StateDict = dict[str, Any]
_KEEP = 2
_COMMENT = b"lomix-search sha256 "


def save_checkpoint(folder: Path, step: int, state: StateDict) -> Path:
    """Write ``step_<number>.pt`` and remove all but the last two up to it.

    Later ones, which a run that went back to an older one leaves behind, are removed too: they are not of its past.

    Args:
        folder: The run's checkpoint folder; made when missing.
        step: Steps taken so far.
        state: Tensors, numbers, texts and containers of these.

    Returns:
        The file written.
    """
    path = folder / f"step_{step:08d}.pt"
    write_tensors(path, state)
    known = checkpoints(folder)
    kept = [number for number in known if number <= step][-_KEEP:]
    for number, old in known.items():
        if number not in kept:
            old.unlink()
    return path


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their step, the oldest first; whatever else lies there is none."""
    found = {path: re.fullmatch(r"step_(\d{8,})\.pt", path.name) for path in folder.glob("step_*.pt")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match and path.is_file()))


def latest_checkpoint(folder: Path) -> StateDict | None:
    """Read the newest checkpoint that is whole.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        Its state, or None where there is no checkpoint at all. A damaged one is passed over with a warning.

    Raises:
        RunError: there are checkpoints and all are damaged.
    """
    faults = []
    paths = [*reversed(checkpoints(folder).values())]
    for path, older in zip_longest(paths, paths[1:]):
        try:
            return read_tensors(path)
        except RunError as fault:
            faults.append(str(fault))
            instead = f"The one before it is taken: {older}." if older else "There is none before it."
            warnings.warn(f"{fault}\n  {instead}", stacklevel=2)
    if faults:
        raise RunError(f"{folder} holds no usable checkpoint.", seen=faults, hint="start again in another folder")
    return None


def write_tensors(path: Path, state: StateDict) -> None:
    """Write a nested state atomically; ``read_tensors`` reads it back.

    The file is one of ``torch.save``, a zip archive, whose comment is the checksum of the rest.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, _signed(buffer.getvalue()))


def read_tensors(path: Path) -> StateDict:
    """Read what ``write_tensors`` wrote, onto the CPU; only tensors and plain values are accepted.

    Args:
        path: The file.

    Returns:
        The state.

    Raises:
        RunError: the file is missing, damaged in any bit, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise RunError(f"{path} cannot be read.", seen=cause.strerror or str(cause)) from None
    if fault := _fault(content):
        raise RunError(f"{path} is damaged or no checkpoint.", seen=fault)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as cause:  # bytes that are no checkpoint make the reader raise whatever it comes upon
        first = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise RunError(f"{path} is damaged or no checkpoint.", seen=first) from None
    if not isinstance(state, dict):
        raise RunError(f"{path} is no checkpoint.", seen=f"a {type(state).__name__}")
    return state


def tensors_sha256(path: Path) -> str:
    """Hash the tensors of a file of weights: their names, types, shapes and every bit; not the file around them.

    Args:
        path: As ``final.pt``.

    Returns:
        Hexadecimal digits.

    Raises:
        RunError: the file is damaged.
    """
    digest = hashlib.sha256()
    for name, tensor in read_tensors(path).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_sha256(folder: Path) -> dict[str, str]:
    """Hash the trained weights of a run, by network: ``final`` and, where validation chose one, ``best``."""
    return {name: tensors_sha256(path) for name in ("final", "best") if (path := folder / f"{name}.pt").exists()}


def _signed(content: bytes) -> bytes:
    """Add the checksum of an archive as its comment, which its last two bytes announce."""
    comment = _COMMENT + hashlib.sha256(content).hexdigest().encode()
    return content[:-2] + struct.pack("<H", len(comment)) + comment


def _fault(content: bytes) -> str:
    """Say what is wrong with an archive, signed or of an earlier version; nothing if all is well."""
    length = len(_COMMENT) + 64
    if content[-22:-18] == b"PK\x05\x06" and content[-2:] == b"\0\0":  # not signed: its parts have checksums
        return _fault_of_parts(content)
    body = content[: -length - 2] + b"\0\0"
    return "" if _signed(body) == content else "its checksum does not match its content"


def _fault_of_parts(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            broken = archive.testzip()
    except Exception as cause:  # of damaged headers: BadZipFile, NotImplementedError, UnicodeDecodeError, zlib.error, …
        return f"{type(cause).__name__}: {cause}"
    return f"{broken} does not match its checksum" if broken else ""


def random_state() -> StateDict:
    """Return the state of every global random number generator, as plain values and tensors."""
    kind, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state())
    version, internal, next_gauss = random.getstate()
    return {
        "python": [version, list(internal), next_gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: StateDict) -> None:
    """Bring every global random number generator back to a state of ``random_state``."""
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(state["cuda"])
