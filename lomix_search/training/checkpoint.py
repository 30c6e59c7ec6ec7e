"""Checkpoints of a run: written atomically with a checksum, the last two kept, read without executing anything."""

import hashlib
import io
import re
import struct
import warnings
import zipfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from lomix_search.errors import RunError
from lomix_search.utils.files import why_unread, write_bytes

StateDict = dict[str, Any]
_KEEP = 2
_COMMENT = b"lomix-search sha256 "
_AGAIN = "copy it anew from where it was written, or run its recipe again in another folder"


def save_checkpoint(folder: Path, step: int, state: StateDict) -> Path:
    """Write ``step_<number>.pt`` and remove all but the last two up to it.

    Later ones are removed too: a run that went back to an older checkpoint leaves them behind, and they are not part of
    its past.

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
    """Return the checkpoints in a folder by their step, the oldest first; other files are passed over."""
    found = {path: re.fullmatch(r"step_(\d{8,})\.pt", path.name) for path in folder.glob("step_*.pt")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match and path.is_file()))


def latest_checkpoint(folder: Path) -> StateDict | None:
    """Read the newest checkpoint that is whole.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        Its state, or None where the folder has no checkpoint. A damaged one is passed over with a warning.

    Raises:
        RunError: there are checkpoints and all are damaged.
    """
    faults = []
    paths = [*reversed(checkpoints(folder).values())]
    for path, older in zip_longest(paths, paths[1:]):
        try:
            return read_tensors(path)
        except RunError as fault:
            faults.append(str(fault).partition("\n  Try:")[0])  # the way out is told here
            instead = f"The one before it is taken: {older}." if older else "There is none before it."
            warnings.warn(f"{faults[-1]}\n  {instead}", stacklevel=2)
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
        raise RunError(f"{path} cannot be read.", seen=cause.strerror or str(cause), hint=why_unread(path)) from None
    if fault := _fault(content):
        raise RunError(f"{path} is damaged or no checkpoint.", seen=fault, hint=_AGAIN)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as cause:  # of other or damaged bytes, the reader raises errors of many kinds
        first = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise RunError(f"{path} is damaged or no checkpoint.", seen=first, hint=_AGAIN) from None
    if not isinstance(state, dict):
        raise RunError(f"{path} is no checkpoint.", seen=f"a {type(state).__name__}", hint=_AGAIN)
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
    """Return what is wrong with an archive, signed or of an earlier version; empty if nothing is."""
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
